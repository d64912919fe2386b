"""What the types say to users. Checked by mypy and pyright, never run.

Each use that must be an error carries one ignore for each checker; one that is not needed any more
is an error itself.
"""

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any, assert_type

import msgspec
import numpy as np
import numpy.typing as npt

from statehold import (
    ABSENT,
    AsyncCollection,
    AsyncStore,
    Collection,
    Committed,
    Counter,
    DecayedMean,
    Edit,
    Log,
    Map,
    Meta,
    Register,
    Revision,
    SetOf,
    State,
    StateholdError,
    Steps,
    Store,
    Tally,
    Turns,
    Vector,
    Window,
)
from statehold.changes import Add, Append, Change, Put
from statehold.fields import Amount, Count
from statehold.fields.log import LogView
from statehold.fields.maps import MapView
from statehold.fields.sets import SetView
from statehold.fields.tally import TallyView
from statehold.fields.turns import TurnsView
from statehold.fields.vector import Decayed
from statehold.fields.window import WindowView


class Message(msgspec.Struct, frozen=True):
    role: str
    content: str


class Chat(State, ttl=timedelta(hours=1)):
    focus = Register(str | None, default=None)
    size = Register(int, default=0)
    turns = Counter()
    spent = Counter(float)
    filters = Map(str, str, keep=32)
    ranks = Map(int, float, keep=32)
    tags = SetOf(str, keep=5)
    history = Log(Message, keep=100)
    talk = Turns(Message, keep=10)
    vector = Vector(2)
    searched = Vector(2, searchable=True)
    taste = DecayedMean(2, half_life=timedelta(minutes=10))
    clicks = Tally(int, keep=100)
    window = Window(timedelta(hours=1))
    steps = Steps(dict[str, int])


class Other(State, ttl=None):
    turns = Counter()


# ------------------------------------------------------------------------------ on an instance


def views(chat: Chat) -> None:
    assert_type(chat.focus, str | None)
    assert_type(chat.size, int)
    assert_type(chat.turns, Count)
    assert_type(chat.spent, Amount)
    assert_type(chat.filters, MapView[str, str])
    assert_type(chat.filters["a"], str)
    assert_type(chat.filters.get("a"), str | None)
    assert_type(chat.ranks[1], float)
    assert_type(chat.tags, SetView[str])
    assert_type(chat.history, LogView[Message])
    assert_type(chat.history[0], Message)
    assert_type(chat.history[-20:], list[Message])
    assert_type(chat.talk, TurnsView[Message])
    assert_type(chat.talk[-1].content, str)
    assert_type(chat.talk.turns, list[tuple[Message, ...]])
    assert_type(chat.vector, npt.NDArray[np.float32] | None)
    assert_type(chat.taste, Decayed)
    assert_type(chat.taste.mean, npt.NDArray[np.float64] | None)
    assert_type(chat.clicks, TallyView[int])
    assert_type(chat.clicks[7], float)
    assert_type(chat.clicks.most_common(3), list[tuple[int, float]])
    assert_type(chat.window, WindowView)
    assert_type(chat.window.sum, float)
    assert_type(chat.steps["pay"], dict[str, int])
    assert_type(chat.pending, tuple[Change, ...])
    assert_type(chat.meta, Meta)
    assert_type(chat.meta.revision, Revision)
    assert_type(chat.meta.subjects, tuple[str, ...])
    assert_type(chat.to_json(), dict[str, Any])
    for message in chat.history:
        assert_type(message, Message)
    for key, value in chat.filters.items():
        assert_type((key, value), tuple[str, str])
    number: int = chat.turns
    amount: float = chat.spent
    assert_type(number + amount, float)


def doing(chat: Chat) -> None:
    chat.focus = "shoes"
    chat.focus = None
    chat.size = 9
    chat.turns += 1
    chat.turns -= 2
    chat.turns = 5
    chat.spent += 0.5
    chat.spent -= 1
    chat.filters["colour"] = "blue"
    chat.filters |= {"size": "9"}
    del chat.filters["colour"]
    chat.tags.add("a")
    chat.tags |= {"b"}
    chat.history.append(Message("user", "hi"), Message("assistant", "yo"))
    chat.history.extend(message for message in chat.talk)
    chat.history += [Message("user", "hi")]
    chat.talk.append(Message("user", "hi"), Message("assistant", "yo"))
    chat.vector = [1.0, 2.0]
    chat.vector = np.zeros(2)
    chat.vector = None
    chat.taste.add([1, 2], weight=0.5)
    chat.clicks.add(7)
    chat.clicks.add(7, 2)
    chat.window.add(12.5)
    chat.steps["pay"] = {"a": 1}


def wrong_on_an_instance(chat: Chat) -> None:
    chat.focus = 5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    chat.size = "9"  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    chat.size = None  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    chat.turns += "1"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
    chat.turns += 0.5  # type: ignore[arg-type]  # pyright: ignore[reportAttributeAccessIssue]
    chat.turns = 0.5  # type: ignore[assignment]  # pyright: ignore[reportAttributeAccessIssue]
    chat.filters["a"] = 5  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    chat.filters[5] = "a"  # type: ignore[index]  # pyright: ignore[reportArgumentType]
    chat.tags.add(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chat.history.append("hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chat.talk.append(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chat.clicks.add("seven")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chat.steps["pay"] = {"a": "b"}  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    chat.misspelt  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    chat.pending = ()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# ------------------------------------------------------------------------------ on the class


def edits() -> None:
    assert_type(Chat.focus.put("x"), Put)
    assert_type(Chat.focus.drop(), Edit)
    assert_type(Chat.turns, Counter[int])
    assert_type(Chat.turns.add(1), Add)
    assert_type(Chat.turns.add(), Add)
    assert_type(Chat.spent, Counter[float])
    assert_type(Chat.spent.add(0.5), Add)
    assert_type(Chat.filters, Map[str, str])
    assert_type(Chat.history, Log[Message])
    assert_type(Chat.history.append(Message("user", "hi")), Append)
    assert_type(Chat.talk.append(Message("user", "hi")), Append)
    assert_type(Chat.max_bytes, int)
    everything: list[Edit] = [
        Chat.turns.set(5),
        Chat.filters.put("a", "b", if_absent=True),
        Chat.filters.update({"a": "b"}),
        Chat.filters.drop("a"),
        Chat.filters.clear(),
        Chat.tags.add("a", "b"),
        Chat.tags.discard("a"),
        Chat.history.extend([Message("user", "hi")]),
        Chat.history.clear(),
        Chat.vector.put(np.zeros(2)),
        Chat.taste.add((1, 2), at=5.0),
        Chat.clicks.add(7),
        Chat.clicks.update({7: 1}),
        Chat.window.add(1.5, at=5),
        Chat.steps.put("pay", {"a": 1}),
    ]
    del everything


def wrong_on_the_class() -> None:
    Chat.focus.put(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.turns.add(0.5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.turns.add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.filters.put("a", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.filters.put(5, "a")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.tags.add(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.history.append("hi")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.clicks.add("seven")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Chat.steps.put("pay", {"a": "b"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Chat.misspelt  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    Log(str)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Map(str, str)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


# ------------------------------------------------------------------------------ asynchronous


async def asynchronous() -> None:
    async with AsyncStore.open("memory://", max_bytes="64MiB") as store:
        chats = store.collection(Chat, tenant="acme")
        assert_type(chats, AsyncCollection[Chat])
        assert_type(await chats.get("a"), Chat)
        assert_type(await chats.get("a", fields=[Chat.turns, "history"], tail=20), Chat)
        assert_type(await chats.get("a", tail={"history": 20}, on_failure="default"), Chat)
        assert_type(await chats.get("a", tail={Chat.history: 20}), Chat)
        assert_type(await chats.get("a", entries={Chat.history: ["a"], "turns": (1, 2)}), Chat)
        assert_type(await chats.get_many(["a", "b"]), dict[str, Chat])
        assert_type(await chats.apply("a", Chat.turns.add(1), Chat.focus.put("x")), Revision)
        assert_type(await chats.apply("a", Chat.turns.add(1), op="1", expect=ABSENT), Revision)
        assert_type(await chats.apply("a", Chat.turns.add(1), returning=[Chat.turns]), Chat)
        assert_type(await chats.apply("a", returning=["turns"], tail=1), Chat)
        assert_type(await chats.commit("a", [Chat.turns.add(1)]), Committed[Chat])
        assert_type(
            await chats.apply_many([("a", [Chat.turns.add(1)])]), list[Revision | StateholdError]
        )
        assert_type(await chats.touch("a"), bool)
        assert_type(await chats.delete("a", expect=ABSENT), bool)
        async with chats.session("a", exclusive=True, tail=5) as chat:
            assert_type(chat, Chat)
            chat.turns += 1

        async def work(chat: Chat) -> str:
            chat.turns += 1
            return "done"

        assert_type(await chats.transact("a", work), str)
        assert_type(await chats.transact("a", lambda chat: len(chat.history)), int)
        assert_type(chats.scan(), AsyncIterator[str])
        assert_type(chats.find("ann"), AsyncIterator[str])
        assert_type(await chats.scan_page(limit=5), tuple[list[str], str | None])
        assert_type(await chats.get_page(limit=5), tuple[list[Chat], str | None])
        async for id in chats.scan():
            assert_type(id, str)


async def wrong_asynchronous(chats: AsyncCollection[Chat]) -> None:
    await chats.get(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await chats.get("a", on_failure="stale")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await chats.get("a", fields=[5])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await chats.apply("a", Chat.turns)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await chats.apply("a", [Chat.turns.add(1)])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    await chats.apply("a", Chat.turns.add(1), expect=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    with chats.session("a"):  # type: ignore[attr-defined]  # pyright: ignore[reportGeneralTypeIssues]
        pass


# ------------------------------------------------------------------------------ synchronous


def synchronous() -> None:
    with Store.open("memory://") as store:
        chats = store.collection(Chat)
        assert_type(chats, Collection[Chat])
        assert_type(chats.get("a"), Chat)
        assert_type(chats.get("a", fields=[Chat.turns, "history"], tail=20), Chat)
        assert_type(chats.get_many(["a", "b"]), dict[str, Chat])
        assert_type(chats.apply("a", Chat.turns.add(1), Chat.focus.put("x")), Revision)
        assert_type(chats.apply("a", Chat.turns.add(1), returning=[Chat.turns]), Chat)
        assert_type(chats.commit("a", [Chat.turns.add(1)]), Committed[Chat])
        assert_type(chats.apply_many([("a", [Chat.turns.add(1)])]), list[Revision | StateholdError])
        assert_type(chats.touch("a"), bool)
        assert_type(chats.delete("a"), bool)
        with chats.session("a", exclusive=True) as chat:
            assert_type(chat, Chat)
            chat.turns += 1
        assert_type(chats.transact("a", lambda chat: len(chat.history)), int)
        assert_type(chats.scan(), Iterator[str])
        assert_type(chats.find("ann"), Iterator[str])
        assert_type(chats.scan_page(limit=5), tuple[list[str], str | None])
        assert_type(chats.get_page(limit=5), tuple[list[Chat], str | None])


def wrong_synchronous(store: Store, chats: Collection[Chat]) -> None:
    store.collection(int)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    store.collection(Other).get("a").history  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    chats.get(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    chats.apply("a", Chat.turns.add(1)).turns  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    chats.apply("a", "turns")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    chats.get("a", 5)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
