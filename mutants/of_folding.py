"""Faults of what every driver shares: admission, heads, whole lives. The LMDB example runs on it."""

from __future__ import annotations

from mutants.mutant import Mutant

ADMISSION = "src/statehold/folding/admission.py"
LIVES = "src/statehold/folding/lives.py"
PARTS = "src/statehold/folding/parts.py"
CHANGES = "src/statehold/changes.py"
CURSORS = "src/statehold/cursors.py"

OP_MEMORY = [
    Mutant(
        "op memory",
        "op ids are cut at 16, whatever commits say",
        LIVES,
        "(done, head.updated), commit.ops)",
        "(done, head.updated), min(commit.ops, 16))",
    ),
    Mutant(
        "op memory",
        "one op id fewer is remembered than is said",
        ADMISSION,
        "while len(known) > keep:",
        "while len(known) >= keep:",
    ),
    Mutant(
        "op memory",
        "the newest op id goes instead of the oldest",
        ADMISSION,
        "known.pop(next(iter(known)))",
        "known.pop(next(reversed(known)))",
    ),
    Mutant(
        "op memory",
        "nobody knows when op ids were forgotten",
        LIVES,
        "forgotten = forgotten if gone is None else max(forgotten, gone[1])",
        "forgotten = forgotten if gone is None else max(forgotten, 0.0)",
    ),
    Mutant(
        "op memory",
        "commits are never a repeat",
        LIVES,
        "self.erasures.get(op) or self.ops.get(op)",
        "self.erasures.get(op)",
    ),
    Mutant(
        "op memory",
        "an erase is never a repeat",
        LIVES,
        "self.erasures.get(op) or self.ops.get(op)",
        "self.ops.get(op)",
    ),
    Mutant(
        "op memory",
        "a repeat does not say that it is one",
        ADMISSION,
        "return Written(first.revision, None, True)",
        "return Written(first.revision, None, False)",
    ),
    Mutant(
        "op memory",
        "an op id serves any intent",
        ADMISSION,
        "same = 0 in (first.intent, commit.intent) or first.intent == commit.intent",
        "same = True",
    ),
    Mutant(
        "op memory",
        "an intent that is not said fits none",
        ADMISSION,
        "same = 0 in (first.intent, commit.intent) or first.intent == commit.intent",
        "same = first.intent == commit.intent",
    ),
    Mutant(
        "op memory",
        "a commit is taken for the repeat of an erasure",
        ADMISSION,
        "if same and first.erased == commit.erase:",
        "if same:",
    ),
    Mutant(
        "op memory",
        "a repeat that comes too late is late",
        ADMISSION,
        "if commit.op:\n        first",
        "if commit.op and (commit.until is None or now <= commit.until):\n        first",
    ),
    Mutant(
        "op memory",
        "a refused commit's op id is remembered as of the one before",
        LIVES,
        "    except (Refusal, Corrupted) as error:\n        return life, refused(error)\n",
        "    except (Refusal, Corrupted) as error:\n"
        "        if head is not None and commit.op:\n"
        "            done = Applied(head.revision, commit.intent)\n"
        "            life = replace(life, ops={**life.ops, commit.op: (done, now)})\n"
        "        return life, refused(error)\n",
    ),
    Mutant(
        "op memory",
        "an erasure forgets those before it",
        LIVES,
        "{**held, commit.op: (done, now)}",
        "{commit.op: (done, now)}",
    ),
    Mutant(
        "op memory",
        "an erasure of nothing is not remembered",
        LIVES,
        "    if not commit.op:\n        return gone\n",
        "    if not commit.op or life.head is None:\n        return gone\n",
    ),
    Mutant(
        "op memory",
        "erasures are remembered for half the time",
        LIVES,
        "one[1] + HOLD_SECONDS > now",
        "one[1] + HOLD_SECONDS / 2 > now",
    ),
    Mutant(
        "op memory",
        "erasures are let go of with the row, at once",
        LIVES,
        "max((time + HOLD_SECONDS for _, time",
        "max((time for _, time",
    ),
]

DOUBT = [
    Mutant(
        "doubt",
        "what may have been forgotten is applied again",
        ADMISSION,
        "if commit.since is not None and _may_be_forgotten(",
        "if commit.since is not None and False and _may_be_forgotten(",
    ),
    Mutant(
        "doubt",
        "whatever comes again is in doubt",
        ADMISSION,
        "and past.ended() >= since\n",
        "or True\n",
    ),
    Mutant(
        "doubt",
        "an erasure that is too old to be known is applied again",
        ADMISSION,
        "if commit.erase and since <= now - HOLD_SECONDS:\n        return True",
        "if commit.erase and since <= now - HOLD_SECONDS:\n        return False",
    ),
    Mutant(
        "doubt",
        "what was forgotten at that very instant is applied again",
        ADMISSION,
        "past.forgot() >= since:",
        "past.forgot() > since:",
    ),
    Mutant(
        "doubt",
        "what a life that ended at that very instant had done is applied again",
        ADMISSION,
        "past.ended() >= since\n",
        "past.ended() > since\n",
    ),
    Mutant(
        "doubt",
        "a life that began since hides the one before it",
        ADMISSION,
        "(head is None or head.created >= since)",
        "(head is None)",
    ),
    Mutant(
        "doubt",
        "the commits of a life that ended are not accounted for",
        LIVES,
        "return self.over if self.head is None else max(self.over, self.head.updated)",
        "return self.over",
    ),
    Mutant(
        "doubt",
        "the end of a life that was begun before the last one's end, by a clock set back, is unknown",
        LIVES,
        "    if life.head is None and life.over > now:\n        forgotten = life.over\n",
        "",
    ),
    Mutant(
        "doubt",
        "a clock that steps back takes the time of the last commit with it",
        ADMISSION,
        "updated = now if now > updated else updated",
        "updated = now",
    ),
    Mutant(
        "doubt",
        "a record says nothing of what was forgotten",
        LIVES,
        "_Packed(life.head, cells, life.ops, life.forgotten,",
        "_Packed(life.head, cells, life.ops, -math.inf,",
    ),
    Mutant(
        "doubt",
        "a record says nothing of the lives before",
        LIVES,
        "life.erasures, life.over))",
        "life.erasures, -math.inf))",
    ),
]

BARS = [
    Mutant("deadlines of commits", "none is late", ADMISSION, "return Late()", "pass"),
    Mutant(
        "deadlines of commits",
        "what comes at the last instant is late",
        ADMISSION,
        "now > commit.until",
        "now >= commit.until",
    ),
    Mutant(
        "fences",
        "who says no epoch passes every fence",
        ADMISSION,
        "head is not None and commit.epoch < head.epoch",
        "head is not None and 0 < commit.epoch < head.epoch",
    ),
    Mutant(
        "fences",
        "a fence keeps out its own epoch",
        ADMISSION,
        "head is not None and commit.epoch < head.epoch",
        "head is not None and commit.epoch and commit.epoch <= head.epoch",
    ),
    Mutant(
        "fences",
        "no fence where a revision is expected",
        ADMISSION,
        "head is not None and commit.epoch < head.epoch",
        "head is not None and commit.expect is None and commit.epoch < head.epoch",
    ),
    Mutant(
        "fences",
        "an erasure passes every fence",
        ADMISSION,
        "head is not None and commit.epoch < head.epoch",
        "head is not None and not commit.erase and commit.epoch < head.epoch",
    ),
    Mutant(
        "fences",
        "who is fenced off is told its own epoch",
        ADMISSION,
        "FencedOff(head.epoch)",
        "FencedOff(commit.epoch)",
    ),
    Mutant(
        "fences",
        "the epoch is forgotten by the commit that says it",
        ADMISSION,
        "until, commit.epoch, subject)",
        "until, 0, subject)",
    ),
    Mutant(
        "fences",
        "epochs are of 32 bits",
        ADMISSION,
        "until, commit.epoch, subject)",
        "until, commit.epoch & 0xFFFFFFFF, subject)",
    ),
    Mutant(
        "expect",
        "PRESENT holds where nothing is",
        ADMISSION,
        "head is not None if expect == PRESENT",
        "True if expect == PRESENT",
    ),
    Mutant(
        "expect",
        "any revision of the same life will do",
        ADMISSION,
        "else expect == stands",
        "else expect.incarnation == stands.incarnation",
    ),
    Mutant(
        "expect",
        "the same number in another life will do",
        ADMISSION,
        "else expect == stands",
        "else expect.number == stands.number",
    ),
    Mutant(
        "expect",
        "a later revision will do",
        ADMISSION,
        "else expect == stands",
        "else (expect.incarnation == stands.incarnation and expect.number >= stands.number)",
    ),
    Mutant(
        "expect",
        "a conflict does not say what stands",
        ADMISSION,
        "Conflicted(stands)",
        "Conflicted()",
    ),
    Mutant(
        "expect",
        "an erasure expects nothing",
        ADMISSION,
        "    if expect is None:\n",
        "    if expect is None or commit.erase:\n",
    ),
]

LIVES_BEGIN = [
    Mutant(
        "incarnations",
        "they are counted by each process anew",
        CHANGES,
        "def new_incarnation() -> int:\n"
        '    """A number for a state\'s next life: 63 random bits, never 0."""\n'
        '    return (int.from_bytes(os.urandom(8), "little") >> 2) + 1',
        "def new_incarnation(lives=iter(range(1, 1 << 60))) -> int:\n    return next(lives)",
    ),
    Mutant(
        "incarnations",
        "they are of 8 bits",
        CHANGES,
        'int.from_bytes(os.urandom(8), "little") >> 2)',
        'int.from_bytes(os.urandom(8), "little") >> 56)',
    ),
    Mutant(
        "incarnations",
        "they are the second in which they began",
        CHANGES,
        'return (int.from_bytes(os.urandom(8), "little") >> 2) + 1',
        'return int(__import__("time").time())',
    ),
    Mutant(
        "revisions",
        "the number stays with a commit that changes nothing",
        ADMISSION,
        "head.revision.number + 1)",
        "head.revision.number + bool(commit.changes))",
    ),
    Mutant(
        "revisions",
        "a new life begins where none is counted yet",
        ADMISSION,
        "Revision(born(), 1)",
        "Revision(born(), 0)",
    ),
    Mutant(
        "revisions",
        "an erasure says that nothing was there",
        LIVES,
        "Written(revision_of(head))",
        "Written(revision_of(None))",
    ),
]

TIME = [
    Mutant("expiry", "one instant late", ADMISSION, "and now >= until", "and now > until"),
    Mutant(
        "expiry",
        "none, but for what is swept",
        LIVES,
        "return self._without() if self.head is not None and is_over(self.head, now) else self",
        "return self",
    ),
    Mutant(
        "expiry",
        "a state that ended within its own batch is used",
        LIVES,
        "    life = life.at(now)\n",
        "    life = life if life.head and life.head.updated == now else life.at(now)\n",
    ),
    Mutant(
        "expiry",
        "deadlines are of whole seconds",
        CHANGES,
        "return created + max_age if ttl is None else min(now + ttl, created + max_age)",
        "return float(int(created + max_age if ttl is None else min(now + ttl, created + max_age)))",
    ),
    Mutant(
        "expiry",
        "a write without a ttl leaves the deadline",
        ADMISSION,
        "until = deadline(created, now, commit.ttl, commit.max_age)",
        "until = deadline(created, now, commit.ttl, commit.max_age)"
        " if commit.ttl or head is None else head.deadline",
    ),
    Mutant(
        "max_age",
        "it is not looked at beside a ttl",
        CHANGES,
        "else min(now + ttl, created + max_age)",
        "else now + ttl",
    ),
    Mutant(
        "max_age",
        "it is not looked at without a ttl",
        CHANGES,
        "return created + max_age if ttl is None",
        "return None if ttl is None",
    ),
    Mutant(
        "max_age",
        "every write begins it anew",
        ADMISSION,
        "created, updated = head.created, head.updated",
        "created, updated = now, head.updated",
    ),
    Mutant(
        "renewals",
        "they ignore max_age",
        LIVES,
        "deadline(head.created, now, *want.renew)",
        "deadline(now, now, *want.renew)",
    ),
    Mutant(
        "renewals",
        "they never shorten a life",
        CHANGES,
        "return abs(until - old) >",
        "return until - old >",
    ),
    Mutant(
        "renewals",
        "they move a deadline by a minute or not at all",
        CHANGES,
        "(1.0 if ttl is None else min(1.0, ttl / 1000))",
        "60.0",
    ),
    Mutant(
        "renewals",
        "they end no life that was for ever",
        CHANGES,
        "return until is not old",
        "return until is None and old is not None",
    ),
    Mutant(
        "subjects",
        "a write that names none takes it away",
        ADMISSION,
        "head.subject if commit.subject is None else commit.subject",
        "commit.subject",
    ),
    Mutant(
        "subjects",
        "the first one stays",
        ADMISSION,
        "head.subject if commit.subject is None else commit.subject",
        "head.subject",
    ),
]

READING = [
    Mutant(
        "reading",
        "all fields are read, whichever are wanted",
        PARTS,
        "for name in fields if want.fields is None else want.fields:",
        "for name in fields:",
    ),
    Mutant("reading", "lists are read whole", PARTS, "if tail is not None:", "if False:"),
    Mutant("reading", "a tail of 0 is all", PARTS, "if tail is not None:", "if tail:"),
    Mutant(
        "reading",
        "a tail is the oldest items",
        CHANGES,
        "return Items(self._buffer[self._stop - count : self._stop])",
        "return Items(self._buffer[self._start : self._start + count])",
    ),
    Mutant("reading", "no epoch is told", LIVES, "epoch=head.epoch,", "epoch=0,"),
    Mutant(
        "returning",
        "all is returned, whatever is wanted",
        LIVES,
        "returned=life.cells(commit.returning)",
        "returned=life.cells(Want())",
    ),
    Mutant(
        "returning",
        "a repeat returns nothing",
        LIVES,
        "return life, _returning(barred, life, commit)",
        "return life, barred",
    ),
    Mutant(
        "returning",
        "what stood before is returned",
        LIVES,
        "    life = Life(head, fields, unreadable, ops, forgotten, life.erasures, life.over)\n"
        "    return life, _returning(Written(head.revision), life, commit)",
        "    old = life\n"
        "    life = Life(head, fields, unreadable, ops, forgotten, life.erasures, life.over)\n"
        "    return life, _returning(Written(head.revision), old if old.head else life, commit)",
    ),
]

CORRUPTION = [
    Mutant(
        "corruption",
        "it is not reported",
        LIVES,
        "for name in self.unreadable if",
        "for name in () if",
    ),
    Mutant(
        "corruption",
        "what cannot be read is served as empty",
        LIVES,
        "            unreadable[name] = data\n",
        "            fields[name] = {}\n",
    ),
    Mutant(
        "corruption",
        "one field that cannot be read takes the state along",
        LIVES,
        "            unreadable[name] = data\n",
        '            raise Corrupted(f"{name}: cannot be read") from None\n',
    ),
    Mutant(
        "corruption",
        "a change builds on what cannot be read",
        LIVES,
        "if change != Drop(change.field):",
        "if False:",
    ),
    Mutant(
        "corruption",
        "a field that was dropped cannot be read still",
        LIVES,
        "            del left[change.field]\n",
        "            pass\n",
    ),
    Mutant(
        "corruption",
        "the next write to another field hides it",
        LIVES,
        "Life(head, fields, unreadable, ops, forgotten,",
        "Life(head, fields, {}, ops, forgotten,",
    ),
    Mutant(
        "corruption",
        "a refused one fails the whole call",
        LIVES,
        "except (Refusal, Corrupted) as error:",
        "except Refusal as error:",
    ),
    Mutant(
        "erase",
        "one with an op id leaves the cells there",
        LIVES,
        "return Life(erasures=self.erasures, over=self.last())",
        "return Life(fields=self.fields, erasures=self.erasures, over=self.last())",
    ),
]

FOLDING = [
    Mutant("changes", "Put never asks what stands", CHANGES, "if self.if_absent:", "if False:"),
    Mutant(
        "changes",
        "a commit stops at the change that is refused, and stands",
        CHANGES,
        "        change.into(out, own)\n    return out",
        "        try:\n            change.into(out, own)\n"
        "        except Refusal:\n            break\n    return out",
    ),
    Mutant(
        "changes",
        "dropping an entry drops the field",
        CHANGES,
        "        if self.entry is None:\n",
        "        if self.entry is None or self.entry in cell:\n",
    ),
    Mutant(
        "changes",
        "lists are not dropped",
        CHANGES,
        "        if self.entry is None:\n",
        "        if self.entry is None and isinstance(cell, dict):\n",
    ),
    Mutant(
        "changes",
        "integers are added as floats",
        CHANGES,
        "            total = old + self.amount\n",
        "            total = int(float(old) + self.amount)\n",
    ),
    Mutant(
        "changes",
        "integers leave 64 bits by the front door",
        CHANGES,
        "if not INT64_MIN <= total <= INT64_MAX:",
        "if False:",
    ),
    Mutant(
        "changes",
        "sums may be infinite",
        CHANGES,
        "elif not math.isfinite(total):",
        "elif False:",
    ),
    Mutant(
        "changes",
        "arrays of other lengths are stretched",
        CHANGES,
        "if len(old) != len(array):",
        "if False:",
    ),
    Mutant(
        "changes",
        "arrays replace each other",
        CHANGES,
        'total = np.frombuffer(old, "<f8") + total',
        "total = total + 0",
    ),
    Mutant(
        "changes",
        "arrays may be infinite",
        CHANGES,
        "if not np.isfinite(total).all():",
        "if False:",
    ),
    Mutant(
        "bounds",
        "one entry more than the bound",
        CHANGES,
        "len(entries) >= bound:",
        "len(entries) > bound:",
    ),
    Mutant(
        "bounds",
        "only one goes, though the bound was lowered by more",
        CHANGES,
        "    while bound is not None and len(entries) >= bound:",
        "    if bound is not None and len(entries) >= bound:",
    ),
    Mutant(
        "bounds",
        "a full field takes no new value for what it has",
        CHANGES,
        "        if self.if_absent:\n",
        "        if self.bound is not None and len(entries) >= self.bound:\n"
        '            raise Refusal(self.field, "bound", self.bound, len(entries))\n'
        "        if self.if_absent:\n",
    ),
    Mutant(
        "drop_lowest",
        "the highest goes",
        CHANGES,
        "else min(entries)",
        "else max(entries)",
    ),
    Mutant(
        "drop_lowest",
        "a new lowest pushes out another",
        CHANGES,
        "        if change.entry < lowest:\n",
        "        if False:\n",
    ),
    Mutant(
        "drop_lowest",
        "it is never done: the field is full",
        CHANGES,
        "if not change.drop_lowest or bound < 1:",
        "if True:",
    ),
    Mutant(
        "list keep",
        "one item more",
        CHANGES,
        "        if stop - start > keep:\n",
        "        if stop - start > keep + 1:\n",
    ),
    Mutant(
        "list keep",
        "the oldest are kept",
        CHANGES,
        "                buffer = buffer[start:]\n",
        "                buffer = buffer[:keep]\n",
    ),
    Mutant(
        "list keep",
        "the items of one append come in the opposite order",
        CHANGES,
        "            buffer.extend(items)\n",
        "            buffer.extend(reversed(items))\n",
    ),
    Mutant(
        "list keep",
        "an append of several counts by its first",
        CHANGES,
        "            buffer.extend(items)\n",
        "            buffer.extend(items[:keep])\n",
    ),
    Mutant(
        "cursors",
        "one of another listing is accepted",
        CURSORS,
        "        if cursor.startswith(self._mark):\n",
        "        if len(cursor) > _MARK:\n",
    ),
    Mutant(
        "cursors",
        "one of another subject is accepted",
        CURSORS,
        "repr((tenant, kind, subject))",
        "repr((tenant, kind))",
    ),
]

FAULTS = [
    *OP_MEMORY,
    *DOUBT,
    *BARS,
    *LIVES_BEGIN,
    *TIME,
    *READING,
    *CORRUPTION,
    *FOLDING,
]
