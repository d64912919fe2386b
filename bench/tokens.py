"""Tokens against what services use today: how long they take, and how long they are.

`python -m bench.tokens` runs this part alone.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import itsdangerous
import msgspec
import numpy as np

from bench.measure import Job, interleave, median, number, p50_us, ratios, spread
from bench.part import Effort, Part, Table, Verdict
from statehold import Counter, Log, Map, Register, State, Store, Vector
from statehold.drivers.token import format as wire
from statehold.drivers.token.record import Record
from statehold.tokens import Jar, Key, KeyRing

FOLDER = Path(os.environ.get("STATEHOLD_DATA", Path(__file__).parents[2] / "shared" / "data"))
SECRET = "x" * 32
ID = "f3Jb0q0s2mYv1yq8"
SIZES = 5, 20, 100
DIALOGUES = 40
RING = KeyRing([Key.new()])

ITS, STARLETTE = "itsdangerous", "Starlette's session cookie"
SIGNED, SEALED = "statehold, signed", "statehold, sealed"


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class Chat(State, ttl=timedelta(hours=1)):
    history = Log(Message, keep=200)
    filters = Map(str, str, keep=32)
    focus = Register(str | None, default=None)
    turns = Counter()
    taste = Vector(384)


# --------------------------------------------------------------------------------------- the texts


def dialogues(length: int) -> tuple[list[list[str]], str]:
    """Conversations of so many messages: real ones joined end to end, or made up ones."""
    files = sorted(FOLDER.glob("taskmaster4_*.json.gz")) + sorted(FOLDER.glob("sgd_dev_*.json.gz"))
    texts: list[str] = []
    for file in files:
        for each in json.loads(gzip.decompress(file.read_bytes())):
            turns = each.get("utterances") or each["turns"]
            texts += [turn.get("text") or turn.get("utterance") or "" for turn in turns]
    about = "texts of the Taskmaster and Schema-Guided dialogues"
    if not texts:
        random = np.random.default_rng(1)
        words = ["the", "a", "bag", "shoe", "blue", "cheap", "show", "me", "please", "find"]
        texts = [" ".join(random.choice(words, 9)) for _ in range(4000)]
        about = "made-up texts, for want of data"
    step = max(length, len(texts) // DIALOGUES)
    starts = range(0, len(texts) - length, step)
    return [texts[start : start + length] for start in starts][:DIALOGUES], about


def plain(texts: list[str]) -> dict[str, Any]:
    """A chat as its contenders keep it: JSON data."""
    messages = [
        {"role": "assistant" if at % 2 else "user", "content": text}
        for at, text in enumerate(texts)
    ]
    return {
        "id": ID,
        "history": messages,
        "filters": {"colour": "blue", "category": "bags"},
        "focus": "bag-17",
        "turns": len(texts) // 2,
    }


def edits(data: dict[str, Any]) -> list[Any]:
    """The same as edits of a state."""
    made = [
        Chat.history.extend(msgspec.convert(data["history"], list[Message])),
        *(Chat.filters.put(name, value) for name, value in data["filters"].items()),
        Chat.focus.put(data["focus"]),
        Chat.turns.add(data["turns"]),
    ]
    return [*made, Chat.taste.put(data["taste"])] if "taste" in data else made


# --------------------------------------------------------------------------------- the contenders


class ByItsdangerous:
    """URLSafeTimedSerializer, which deflates where that helps."""

    name = ITS

    def __init__(self) -> None:
        self._serializer = itsdangerous.URLSafeTimedSerializer(SECRET)

    def write(self, data: dict[str, Any]) -> str:
        return str(self._serializer.dumps(data))

    def read(self, token: str) -> dict[str, Any]:
        return self._serializer.loads(token, max_age=3600)

    def both(self, token: str) -> str:
        return self.write(self.read(token))

    def visit(self, token: str) -> str:
        data = self.read(token)
        data["turns"] += 1
        return self.write(data)


class ByStarlette(ByItsdangerous):
    """What SessionMiddleware does: base64 of JSON, and a TimestampSigner."""

    name = STARLETTE

    def __init__(self) -> None:
        self._signer = itsdangerous.TimestampSigner(SECRET)

    def write(self, data: dict[str, Any]) -> str:
        return self._signer.sign(base64.b64encode(json.dumps(data).encode())).decode()

    def read(self, token: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            base64.b64decode(self._signer.unsign(token, max_age=3600))
        )
        return found


class ByStatehold:
    """A token store: the record alone, and a whole visit through the sync API."""

    def __init__(self, form: str) -> None:
        self.name = f"statehold, {form}"
        self._store = Store.open("token:", keys=RING, form=form, budget=1 << 20, max_bytes=1 << 24)
        self._chats = self._store.collection(Chat)
        self._seal: Callable[[Record, KeyRing, int], str] = getattr(wire, form)

    def write(self, data: dict[str, Any]) -> str:
        with Jar() as jar:
            self._chats.apply(ID, *edits(data))
        return jar.token or ""

    def record(self, token: str) -> Record:
        return wire.opened(
            token, RING, tenant="", kind="chat", session=ID, max_chars=1 << 20, max_bytes=1 << 24
        )

    def both(self, token: str) -> str:
        """Open a token and seal what it says again."""
        return self._seal(self.record(token), RING, 1 << 24)

    def visit(self, token: str) -> str:
        with Jar(token) as jar, self._chats.session(ID) as chat:
            list(chat.history)
            chat.turns += 1
        return jar.token or ""


def job(call: Callable[..., object], tokens: list[str], times: int) -> Job:
    arguments = [(token,) for token in tokens] * times

    def run() -> Awaitable[float]:
        return p50_us(call, arguments)  # long enough for the clock, too short to be interrupted

    return run


async def tokens(effort: Effort) -> Part:
    """Seal and open, a visit, and the length of tokens, side by side."""
    its, starlette = ByItsdangerous(), ByStarlette()
    signed, sealed = ByStatehold("signed"), ByStatehold("sealed")
    texts, about = dialogues(20)
    data = [plain(each) for each in texts]
    everyone: list[Any] = [its, starlette, signed, sealed]
    made = {each.name: [each.write(one) for one in data] for each in everyone}
    for each in (its, starlette):
        assert [each.read(token) for token in made[each.name]] == data
    for each in (signed, sealed):
        assert all(len(each.record(token).fields["history"]) == 20 for token in made[each.name])

    jobs: dict[str, Job] = {}
    for each in everyone:
        jobs[each.name] = job(each.both, made[each.name], 4)
        jobs[f"{each.name}: a visit"] = job(each.visit, made[each.name], 4)
    found = await interleave(jobs, effort.of(41, 5))
    times = Table(["20 messages, µs", "seal and open", "a visit", "visit over itsdangerous"])
    for each in everyone:
        visit = f"{each.name}: a visit"
        times.rows.append(
            [
                each.name,
                spread(found[each.name]),
                spread(found[visit]),
                spread(ratios(found, visit, f"{ITS}: a visit")),
            ]
        )
    lengths, by_size = _lengths(everyone)
    over = max(
        median(ratios(found, SIGNED, ITS)),
        median(ratios(found, f"{SIGNED}: a visit", f"{ITS}: a visit")),
    )
    both = median(found[SEALED])
    share = by_size["20 messages", SEALED] / by_size["20 messages", STARLETTE]
    packed = by_size["20 messages", SEALED] / by_size["20 messages", ITS]
    return Part(
        "Tokens",
        f"States of 20 messages ({about}), filters, a register and a counter. Seal and open is from a "
        "token to its cells and back, of the others to JSON data and back. A visit opens a token, "
        "decodes all messages, adds 1 to the counter and makes the next token; ours goes through the "
        "store. itsdangerous is URLSafeTimedSerializer, which deflates; Starlette's cookie is not "
        "compressed. Lengths are means over the conversations.",
        [times, lengths],
        [
            Verdict("sealed: seal and open at most 60 µs", f"{number(both)} µs", both <= 60),
            Verdict(
                "signed: at most 1.5 times itsdangerous with JSON",
                f"{number(over)} times",
                over <= 1.5,
            ),
            Verdict(
                "sealed: at most 0.6 times the size of signed JSON",
                f"{number(share)} (of what itsdangerous deflates: {number(packed)})",
                share <= 0.6,
            ),
        ],
    )


def _lengths(everyone: list[Any]) -> tuple[Table, dict[tuple[str, str], float]]:
    vector = np.random.default_rng(0).normal(size=384).astype(np.float32)
    vector /= np.linalg.norm(vector)
    cases = {f"{length} messages": [plain(d) for d in dialogues(length)[0]] for length in SIZES}
    cases["20 messages and 384 floats"] = [
        {**each, "taste": vector.tolist()} for each in cases["20 messages"]
    ]
    table = Table(["characters", *(each.name for each in everyone)])
    found: dict[tuple[str, str], float] = {}
    for case, data in cases.items():
        row = [case]
        for each in everyone:
            mean = sum(len(each.write(one)) for one in data) / len(data)
            found[case, each.name] = mean
            row.append(number(mean))
        table.rows.append(row)
    return table, found


if __name__ == "__main__":
    import asyncio
    import sys

    from bench.report import REACHED
    from bench.report import table as lines

    part = asyncio.run(tokens(Effort("--quick" in sys.argv)))
    print(part.how)
    for each in part.tables:
        print("", *lines(each), sep="\n")
    for verdict in part.verdicts:
        print(f"{REACHED[verdict.reached]:9} {verdict.target}: {verdict.measured}")
