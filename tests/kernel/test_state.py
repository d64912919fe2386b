"""A state's class says what it remembers, and for how long; an instance says what is known of it."""

from datetime import timedelta

import pytest
from sample import Everything, class_of, opened

from statehold import (
    ABSENT,
    Counter,
    Invalid,
    Log,
    ManualClock,
    Map,
    Register,
    SchemaError,
    SetOf,
    State,
    Store,
    Unavailable,
)
from statehold.drivers.memory import MemoryDriver


def test_ttl_is_required():
    with pytest.raises(SchemaError, match=r"Chat: ttl is required: ttl="):

        class Chat(State):
            turns = Counter()


@pytest.mark.parametrize(
    "ttl",
    [
        0,
        -1,
        0.0,
        timedelta(0),
        timedelta(-1),
        float("nan"),
        float("inf"),
        True,
        "",
        "soon",
        b"1",
        [],
    ],
)
def test_a_ttl_of_nothing_is_refused(ttl):
    with pytest.raises(SchemaError, match="Chat"):

        class Chat(State, ttl=ttl):
            pass

    with pytest.raises(SchemaError, match="Chat"):

        class Chat(State, ttl=1, max_age=ttl):
            pass


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [
        (timedelta(days=3, seconds=1), 259_201),
        (5, 5),
        (0.5, 0.5),
        ("1h30m", 5400),
        ("7d", 604_800),
        (None, None),
        ("never", None),
    ],
)
def test_a_ttl_is_a_duration_or_never(ttl, seconds):
    class Chat(State, ttl=ttl):
        turns = Counter()

    assert Chat.__schema__.ttl == seconds
    with opened(Chat) as (chats, clock):
        start = clock.now()
        chats.apply("a", Chat.turns.add(1))
        assert chats.get("a").meta.expires == (None if seconds is None else start + seconds)
        clock.advance(10**9 if seconds is None else seconds - 0.25)
        assert chats.get("a").meta.exists
        clock.advance(0.25)
        assert chats.get("a").meta.exists == (seconds is None)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Chat", "chat"),
        ("ShopVisit", "shop_visit"),
        ("HTTPSession2", "http_session2"),
        ("ABTest", "ab_test"),
    ],
)
def test_the_kind_is_the_classes_name(name, kind):
    assert type(State)(name, (State,), {}, ttl=1).__schema__.kind == kind


@pytest.mark.parametrize("kind", ["Chat", "a-b", "1a", "a:b", "a" * 64, "é", "a b", "_a"])
def test_a_kind_is_a_plain_name(kind):
    with pytest.raises(SchemaError, match="kind"):

        class Chat(State, ttl=1, kind=kind):
            pass


@pytest.mark.parametrize(
    "name", ["meta", "pending", "max_bytes", "kind", "to_json", "id", "_hidden"]
)
def test_names_that_a_state_needs_are_no_fields(name):
    with pytest.raises(SchemaError, match=f"'{name}' cannot name a field") as caught:
        type(State)("Chat", (State,), {name: Counter()}, ttl=1)
    taken = "id, kind, max_bytes, meta, pending, to_builtins, to_json and what begins with _"
    assert taken in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"a": Counter(stored_as="x"), "b": Counter(stored_as="x")},
        {"a": Counter(stored_as="b"), "b": Counter()},
        {"a": Counter(stored_as="x@2")},
        {"a": Register(int, default="five")},
        {"a": Register(str, default="x" * 99, max_bytes=9)},
    ],
    ids=["twice", "another's", "version", "default", "large default"],
)
def test_fields_that_cannot_be_are_refused_with_their_class(fields):
    """As `SchemaError` on every Python: 3.11 wraps what a field raises."""
    with pytest.raises(SchemaError):
        type(State)("Chat", (State,), fields, ttl=1)


def test_a_field_has_one_name():
    shared = Counter()
    with pytest.raises(SchemaError, match="other: this field is one already"):
        type(State)("Chat", (State,), {"one": shared, "other": shared}, ttl=1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": 0},
        {"version": 2},
        {"version": 2, "upcast": {2: str}},
        {"upcast": {1: str}},
        {"version": True},
        {"version": 3, "upcast": {1: str}},
    ],
    ids=str,
)
def test_each_older_version_has_its_upcaster(wrong):
    with pytest.raises(SchemaError):
        class_of(Register(str, default="", **wrong))


def test_classes_inherit_fields_and_lifetimes():
    class Visit(State, ttl=60, max_age=3600, renew_on_read=True, ops=7, limit_bytes="1MiB"):
        turns = Counter()
        notes = Log(str, keep=2)

    class Chat(Visit):
        focus = Register(str, default="")
        notes = None  # it has none

    class Brief(Visit, ttl=5, max_age=None, renew_on_read=False, ops=9):
        turns = Log(str, keep=1)

    chat, brief = Chat.__schema__, Brief.__schema__
    assert (chat.kind, list(chat.fields)) == ("chat", ["turns", "focus"])
    assert (chat.ttl, chat.max_age, chat.renew, chat.ops) == (60, 3600, (60, 3600), 7)
    assert (brief.ttl, brief.max_age, brief.renew, brief.ops) == (5, None, None, 9)
    assert isinstance(Brief.turns, Log)
    with opened(Chat) as (chats, _):
        with chats.session("a") as state:
            state.turns += 1
            state.focus = "x"
        assert (chats.get("a").turns, chats.get("a").focus) == (1, "x")
    with pytest.raises(SchemaError, match="1048576"):

        class Large(Visit):
            more = Log(str, keep=1000)

    for wrong in (0, True, "x"):
        with pytest.raises(SchemaError):

            class Bad(Visit, ops=wrong):
                pass

        with pytest.raises(SchemaError):

            class Worse(Visit, limit_bytes=wrong):
                pass


def test_two_parents_give_all_their_fields():
    class Seen(State, ttl=60):
        seen = Counter()

    class Said(State, ttl=30):
        said = Counter()

    class Both(Seen, Said):
        pass

    assert set(Both.__schema__.fields) == {"seen", "said"}
    assert Both.__schema__.ttl == 60


def test_the_worst_case_is_known_and_limited():
    class Chat(State, ttl=1):
        history = Log(str, keep=10, max_bytes=1000)
        focus = Register(str, default="", max_bytes=50)

    assert 10_050 <= Chat.max_bytes <= 10_050 + 128 * 128
    with pytest.raises(
        SchemaError, match=r"Huge: .* \(history: \d+\), over the limit of 67108864"
    ) as caught:

        class Huge(State, ttl=1):
            history = Log(str, keep=1100)
            focus = Register(str, default="")

    assert (caught.value.field, caught.value.expected) == ("history", 64 * 1024 * 1024)

    class Allowed(State, ttl=1, limit_bytes="1GiB"):
        history = Log(str, keep=1100)

    assert Allowed.max_bytes > 64 * 1024 * 1024


def test_what_is_stored_stays_within_the_worst_case():
    with opened() as (collection, clock):
        for n in range(200):
            collection.apply("a", Everything.history.append(*[_message(n % 50)] * 3))
            collection.apply("a", Everything.talk.append(_message(n % 50)))
            collection.apply("a", Everything.spend.add(1))
            clock.advance(10)
            collection.apply("a", Everything.taste.add([1, 2], at=n * 8 * 10**6))
        cells = collection._core._driver._states.slots["", "everything", "a"].cells.fields
        for name, cell in cells.items():
            field = Everything.__schema__.fields[name]
            size = sum(
                len(part) if isinstance(part, str | bytes) else 8
                for part in ([*cell, *cell.values()] if isinstance(cell, dict) else cell)
            )
            assert size <= field.bytes_at_most()
            assert len(cell) <= field.keep


def _message(n):
    from sample import Message

    return Message("user", f"{n}" * 40)


def test_state_itself_is_nobodys():
    with pytest.raises(SchemaError):
        State()
    with Store.open("memory://") as store:
        for cls in (State, int, "Chat"):
            with pytest.raises(Invalid):
                store.collection(cls)


def test_a_kind_is_one_class():
    class Chat(State, ttl=1):
        turns = Counter()

    class Other(State, ttl=1, kind="chat"):
        turns = Counter(float)

    with Store.open("memory://") as store:
        assert store.collection(Chat).schema is Chat.__schema__
        with pytest.raises(Invalid, match="kind 'chat'"):
            store.collection(Other)


# ------------------------------------------------------------------------------ what is known of it


def test_meta_of_a_state_made_by_hand():
    meta = Everything().meta
    assert (meta.exists, meta.revision, meta.source, meta.degraded) == (False, ABSENT, "new", False)
    assert (meta.age, meta.created, meta.updated, meta.expires) == (0.0, None, None, None)
    assert meta.missing == ()


def test_meta_of_what_is_stored():
    with opened() as (collection, clock):
        start = clock.now()
        assert not collection.get("a").meta.exists
        revision = collection.apply("a", Everything.turns.add(1), subject="ann", epoch=4)
        clock.advance(7)
        meta = collection.get("a").meta
        assert (meta.id, meta.revision, meta.exists, meta.source) == ("a", revision, True, "store")
        assert (meta.created, meta.updated, meta.expires) == (start, start, start + 3600)
        assert (meta.age, meta.subject, meta.epoch) == (7, "ann", 4)
        assert (meta.degraded, meta.missing, meta.corrupted, meta.newer) == (False, (), [], ())
        collection.apply("a", Everything.turns.add(1), epoch=4)
        meta = collection.get("a").meta
        assert (meta.created, meta.updated, meta.expires) == (start, start + 7, start + 3607)
        assert (meta.revision.number, meta.subject) == (2, "ann")


def test_unread_fields_raise_and_are_left_out(collection):
    collection.apply("a", Everything.turns.add(5), Everything.filters.put("a", "b"))
    for fields in (["turns"], [Everything.turns], iter([Everything.turns]), {"turns"}):
        state = collection.get("a", fields=fields)
        assert state.turns == 5
        assert state.to_json() == {"turns": 5}
        assert repr(state) == "Everything(turns=5)"
        assert set(state.meta.missing) == set(Everything.__schema__.fields) - {"turns"}
    for name in set(Everything.__schema__.fields) - {"turns"}:
        with pytest.raises(Invalid, match=f"{name}: was not among the fields asked for"):
            repr(getattr(state, name))
    assert collection.get("a", fields=[]).to_json() == {}


def test_unread_fields_can_be_written_but_do_not_seem_read(collection):
    collection.apply("a", Everything.filters.put("old", "x"), Everything.turns.add(5))
    with collection.session("a", fields=["turns"]) as state:
        state.filters["new"] = "y"
        state.history.append(_message(1))
        state.tags.add("t")
        state.focus = "f"
        with pytest.raises(Invalid, match="filters"):
            len(state.filters)
        with pytest.raises(Invalid, match="history"):
            state.history[:]
        with pytest.raises(Invalid, match="spent"):
            state.spent += 1
    state = collection.get("a")
    assert state.filters == {"old": "x", "new": "y"}
    assert (len(state.history), state.tags, state.focus) == (1, {"t"}, "f")


@pytest.mark.parametrize("fields", ["turns", Everything.turns, ["nope"], [5], [None], [Map]])
def test_fields_that_are_none_are_refused(collection, fields):
    with pytest.raises(Invalid):
        collection.get("a", fields=fields)
    with pytest.raises(Invalid):
        collection.apply("a", Everything.turns.add(1), returning=fields)
    assert not collection.get("a").meta.exists


def test_degraded_says_so():
    with opened() as (collection, _):
        driver = collection._core._driver
        collection.apply("a", Everything.turns.add(5))

        async def down(*_):
            raise Unavailable("down")

        driver.read = down
        with pytest.raises(Unavailable) as caught:
            collection.get("a")
        assert caught.value.key == ("", "everything", "a")
        with pytest.raises(Unavailable):
            collection.get_many(["a"])
        state = collection.get("a", on_failure="default")
        assert (state.turns, state.meta.source, state.meta.degraded) == (0, "default", True)
        assert set(state.meta.missing) == set(Everything.__schema__.fields)
        assert not state.meta.exists
        with pytest.raises(Invalid):
            collection.get("", on_failure="default")


def test_what_a_driver_could_not_read_is_missing():
    with opened() as (collection, _):
        driver = collection._core._driver
        collection.apply("a", Everything.turns.add(5), Everything.focus.put("x"))
        read = driver.read

        async def partly(*args):
            (cells,) = await read(*args)
            cells.fields = {"focus": cells.fields["focus"]}
            cells.corrupted = ("turns",)
            return [cells]

        driver.read = partly
        state = collection.get("a")
        assert (state.focus, state.turns) == ("x", 0)
        assert (state.meta.missing, state.meta.degraded) == (("turns",), True)


def test_time_is_the_stores():
    clock = ManualClock(1000.0)
    with Store.open("memory://", clock=clock) as store:
        collection = store.collection(Everything)
        collection.apply("a", Everything.spend.add(1))
        state = collection.get("a")
        assert state.spend.count == 1
        clock.advance(100)
        assert state.spend.count == 0
        assert store.clock is clock


# ------------------------------------------------------------------------- what the store has lost


class Lossy(MemoryDriver):
    """A store that has lost a part of two fields."""

    async def read(self, keys, want, now):
        found = await super().read(keys, want, now)
        for cells in found:
            if cells is not None:
                cells.fields = {n: c for n, c in cells.fields.items() if n == "turns"}
                cells.corrupted = ("history", "renamed")
        return found


def test_fields_of_which_the_store_lost_a_part_are_reported_and_counted():
    class Chat(State, ttl=60):
        turns = Counter()
        history = Log(str, keep=3)
        tags = SetOf(str, keep=3, stored_as="renamed")

    with Store(Lossy()) as store:
        chats = store.collection(Chat)
        chats.apply("a", Chat.turns.add(1), Chat.history.append("x"), Chat.tags.add("y"))
        meta = chats.get("a").meta
        assert [(c.field, c.entry) for c in meta.corrupted] == [("history", ""), ("tags", "")]
        assert "missing in the store" in meta.corrupted[0].reason
        assert (meta.degraded, meta.missing) == (True, ("history", "tags"))
        assert chats._core.home.corrupted == 2
        assert chats.get("a").turns == 1
