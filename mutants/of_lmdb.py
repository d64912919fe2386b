"""Faults of the example on LMDB: what leads to rows, sweeping, waiting, opening, errors."""

from __future__ import annotations

from mutants.mutant import Mutant

UNINDEXED = "    for place in indexed(key, old):\n        txn.delete(place)\n"
STEPPED = "                save(txn, commit.key, old, new)\n"
READ = (
    "        with translated(), self._opened().begin() as txn:\n"
    "            lives = [load(txn, key).at(now) for key in keys]\n"
)
RENEWED = "                    lives[at] = (old := load(txn, key).at(now)).renewed(want, now)\n"
BEGUN = "                with env.begin(write=True) as txn:\n                    yield txn\n"
TOGETHER = "            lives, outcomes = folding.step_together(olds, commits, now)\n"
OPENED = "self.opened.get(at) or lmdb.open(path, **how)"
CLOSED = "        self._env = None\n\n    def _opened"


def _fault(kind: str, fault: str, old: str, new: str) -> Mutant:
    return Mutant(kind, fault, "examples/on_lmdb.py", old, new)


FAULTS = [
    _fault(
        "names",
        "those of several parts run together",
        "hashlib.blake2b(msgpack.encode(names)",
        'hashlib.blake2b("".join(names).encode()',
    ),
    _fault(
        "names",
        "ids in capitals are those in small letters",
        "key[2].encode()[:400] + hashed(key[2])",
        "key[2].casefold().encode()[:400] + hashed(key[2].casefold())",
    ),
    _fault(
        "names",
        "all tenants are one",
        'return b"s" + hashed(*key[:2])',
        'return b"s" + hashed("", key[1])',
    ),
    _fault(
        "together",
        "those that stand by themselves are written though another is barred",
        TOGETHER,
        "            steps = zip(olds, commits, strict=True)\n"
        "            lives, outcomes = zip(*(folding.step(*one, now) for one in steps), strict=True)\n"
        "            outcomes = list(outcomes)\n",
    ),
    _fault(
        "together",
        "they are written one after the other",
        TOGETHER,
        "            if len(commits) > 1:\n"
        "                first = folding.step(olds[0], commits[0], now)[0]\n"
        "                save(txn, commits[0].key, olds[0], first)\n" + TOGETHER,
    ),
    _fault("subject index", "what led to a row stays", UNINDEXED, ""),
    _fault(
        "subject index",
        "it stays after an erasure, and finds the next life",
        UNINDEXED,
        UNINDEXED.replace(
            "        txn",
            '        if new is not None and new.head is not None or place[:1] == b"d":\n'
            "            txn",
        ),
    ),
    _fault(
        "subject index",
        "a listing by subject finds everybody's",
        "if asked.subject is None else",
        "if True else",
    ),
    _fault(
        "sweeping",
        "it takes the living along",
        'if at < b"d" + packed(">d", now)]',
        "]",
    ),
    _fault(
        "sweeping",
        "it comes a minute early",
        'if at < b"d" + packed(">d", now)]',
        'if at < b"d" + packed(">d", now + 60)]',
    ),
    _fault(
        "sweeping",
        "it goes by a deadline that has moved",
        UNINDEXED,
        UNINDEXED.replace(
            "        txn",
            '        if place[:1] == b"a" or new is None or new.head is None:\n            txn',
        ),
    ),
    _fault("sweeping", "it is never done", 'following(txn, b"d", b"d"), 16)', "(), 16)"),
    _fault(
        "sweeping",
        "what it lets go of is forgotten without a trace",
        'txn.put(b"last", ',
        'txn.put(b"lastlast", ',
    ),
    _fault(
        "sweeping",
        "only the last that was let go of is known",
        'repr(max(old.last(), float(txn.get(b"last", b"-inf"))))',
        "repr(old.last())",
    ),
    _fault(
        "erase",
        "the row stays",
        "        txn.delete(place_of(key))\n",
        "        pass\n",
    ),
    _fault(
        "erase",
        "it is acknowledged, and forgotten",
        STEPPED,
        "                if new.head is not None or old.head is None:\n    " + STEPPED,
    ),
    _fault(
        "erase",
        "it takes along what has the same subject",
        STEPPED,
        "                if commit.erase and old.head is not None and old.head.subject:\n"
        '                    near = b"a" + hashed(*commit.key[:2], old.head.subject)\n'
        "                    for place in list(following(txn, near, near)):\n"
        '                        txn.delete(b"s" + hashed(*commit.key[:2]) + place[17:])\n'
        "                        txn.delete(place)\n" + STEPPED,
    ),
    _fault(
        "renewals",
        "they are not stored",
        "                    save(txn, key, old, lives[at])\n        return",
        "                    pass\n        return",
    ),
    _fault(
        "renewals",
        "they bring back what has expired",
        RENEWED,
        RENEWED.replace("load(txn, key).at(now)", "load(txn, key)"),
    ),
    _fault(
        "renewals",
        "they store what was read before, over what was written meanwhile",
        RENEWED,
        RENEWED.replace("load(txn, key).at(now)", "lives[at]"),
    ),
    _fault(
        "renewals",
        "only that of the first key is stored",
        "in enumerate(keys):",
        "in list(enumerate(keys))[:1]:",
    ),
    _fault(
        "bulk",
        "keys that are asked for twice are answered once",
        READ,
        READ.replace("in keys", "in dict.fromkeys(keys)"),
    ),
    _fault(
        "bulk",
        "what is absent has no answer",
        "return [life.cells(want) for life in lives]",
        "return [cells for life in lives if (cells := life.cells(want))]",
    ),
    _fault(
        "isolation",
        "commits of one call do not see each other",
        "                old = load(txn, commit.key)\n",
        "                with self._opened().begin() as before:\n"
        "                    old = load(before, commit.key)\n",
    ),
    _fault(
        "isolation",
        "one that is refused takes the others of its call along",
        "            return outcomes\n",
        "            if any(isinstance(one, driver.Refused) for one in outcomes):\n"
        "                txn.abort()\n"
        "            return outcomes\n",
    ),
    _fault(
        "isolation",
        "none is applied after one that is refused",
        "                outcomes.append(outcome)\n",
        "                outcomes.append(outcome)\n"
        "                if isinstance(outcome, driver.Refused):\n"
        "                    return outcomes + [outcome] * (len(commits) - len(outcomes))\n",
    ),
    _fault(
        "isolation",
        "commits build on what stood before their turn came",
        BEGUN,
        "                with env.begin() as before:\n"
        "                    was = dict(before.cursor())\n"
        "                fcntl.flock(lock, fcntl.LOCK_UN)\n"
        "                time.sleep(0.0001)\n"
        "                fcntl.flock(lock, fcntl.LOCK_EX)\n"
        "                with env.begin(write=True) as txn:\n"
        "                    for place, value in was.items():\n"
        "                        txn.put(place, value)\n"
        "                    yield txn\n",
    ),
    _fault(
        "durability",
        "each opening has a folder of its own",
        OPENED,
        '(os.makedirs(path, exist_ok=True), lmdb.open(__import__("tempfile").mkdtemp(dir=path),'
        " **how))[1]",
    ),
    _fault(
        "durability",
        "each process has a folder of its own",
        OPENED,
        "self.opened.get(at) or (os.makedirs(path, exist_ok=True),"
        ' lmdb.open(f"{path}/{os.getpid()}", **how))[1]',
    ),
    _fault(
        "durability",
        "opening begins with an empty folder",
        OPENED,
        'self.opened.get(at) or (__import__("shutil").rmtree(path, ignore_errors=True),'
        " lmdb.open(path, **how))[1]",
    ),
    _fault(
        "durability",
        "what was acknowledged is written when it suits",
        "            return outcomes\n",
        "            if time.monotonic() % 0.01 < 0.0005:\n"
        "                txn.abort()\n"
        "            return outcomes\n",
    ),
    _fault(
        "durability",
        "the second half of a call is a transaction of its own, begun after the answer",
        "            sweep(txn, now)\n            outcomes = []\n            for commit in commits:\n",
        "            outcomes = []\n"
        "            for nth, commit in enumerate(commits):\n"
        "                if nth and os.getpid() % 2:\n"
        "                    break\n",
    ),
    _fault(
        "waiting",
        "for another process for ever",
        "                if time.monotonic() >= until:\n",
        "                if False:\n",
    ),
    _fault(
        "waiting",
        "in place, though it was not to",
        "                if not wait:\n                    raise driver.WouldWait\n",
        "",
    ),
    _fault(
        "waiting",
        "it is said after what was to be done is done",
        "            return outcomes\n",
        "        if not wait and len(commits) > 1:\n"
        "            raise driver.WouldWait\n"
        "        return outcomes\n",
    ),
    _fault(
        "errors",
        "those of the library come through",
        "except (lmdb.Error, OSError) as error:",
        "except OSError as error:",
    ),
    _fault(
        "errors",
        "a store that cannot be read is empty",
        READ,
        "        try:\n"
        "            with self._opened().begin() as txn:\n"
        "                lives = [load(txn, key).at(now) for key in keys]\n"
        "        except lmdb.Error:\n"
        "            lives = [folding.NEVER_LIVED for key in keys]\n",
    ),
    _fault("closing", "closed is open", CLOSED, CLOSED.replace("self._env = None", "pass")),
    _fault(
        "closing",
        "it closes what others have open",
        CLOSED,
        "        self._opened().close() if self._env is not None else None\n" + CLOSED,
    ),
    _fault(
        "closing",
        "it cannot be done twice",
        CLOSED,
        "        self._opened()\n" + CLOSED,
    ),
    _fault(
        "fork",
        "a child is told that all is written, and nothing is",
        "        with self._writing(wait=wait) as txn:\n            sweep",
        "        if self._env is not None and self._at[0] != os.getpid():\n"
        "            return [driver.Written(driver.Revision(1, 1)) for _ in commits]\n"
        "        with self._writing(wait=wait) as txn:\n            sweep",
    ),
    _fault(
        "page boundaries",
        "a state is skipped when the last of a page is gone",
        "in following(txn, start, begins):",
        "in itertools.islice(following(txn, start.rstrip(b'\\0'), begins), int(start != begins), None):",
    ),
    _fault(
        "page boundaries",
        "the last of a page comes again",
        'Listing(asked).place(asked.cursor) + b"\\0"',
        "Listing(asked).place(asked.cursor)",
    ),
    _fault(
        "scans",
        "they list what has expired",
        "folding.unpack(record).at(now).head",
        "folding.unpack(record).head",
    ),
    _fault(
        "scans",
        "they end where something has expired",
        "        if head is not None and key[2].startswith(asked.prefix):\n",
        "        if head is None:\n            return\n        if key[2].startswith(asked.prefix):\n",
    ),
    _fault(
        "scans",
        "the newest are listed by when they were made",
        "yield place, key[2], head.updated",
        "yield place, key[2], head.created",
    ),
]
