"""One kind of state with every field, in the forms that it takes as a service is developed."""

from datetime import timedelta

from statehold import (
    Counter,
    DecayedMean,
    Log,
    Map,
    Register,
    SetOf,
    State,
    Steps,
    Tally,
    Turns,
    Vector,
    Window,
)

HOUR = timedelta(hours=1)
AT = 1_700_000_000.0


class Visit(State, ttl=HOUR, kind="visit"):
    """The first release."""

    focus = Register(str | None, default=None)
    page = Register(int | None, default=None)
    score = Register(float, default=0.0)
    member = Register(bool, default=False)
    seen_at = Register(dict[str, int], default={})
    turns = Counter()
    spent = Counter(float)
    filters = Map(str, str, keep=32)
    tags = SetOf(str, keep=100)
    history = Log(str, keep=10)
    chat = Turns(str, keep=5)
    embedding = Vector(3)
    taste = DecayedMean(dim=2, half_life=HOUR)
    clicks = Tally(str, keep=50)
    spend = Window(HOUR, buckets=4)
    steps = Steps(dict[str, int], keep=16)


class Renamed(State, ttl=HOUR, kind="visit"):
    """The same fields, each under another name; `RENAMED` says which."""

    topic = Register(str | None, default=None)
    backend = Register(int | None, default=None)
    points = Register(float, default=0.0)
    known = Register(bool, default=False)
    looked = Register(dict[str, int], default={})
    rounds = Counter()
    money = Counter(float)
    choices = Map(str, str, keep=32)
    labels = SetOf(str, keep=100)
    past = Log(str, keep=10)
    talk = Turns(str, keep=5)
    meaning = Vector(3)
    liking = DecayedMean(dim=2, half_life=HOUR)
    taps = Tally(str, keep=50)
    outlay = Window(HOUR, buckets=4)
    stages = Steps(dict[str, int], keep=16)


RENAMED = dict(zip(Visit.__schema__.fields, Renamed.__schema__.fields, strict=True))


class Aliased(State, ttl=HOUR, kind="visit"):
    """Renamed in the code alone."""

    topic = Register(str | None, default=None, stored_as="focus")
    past = Log(str, keep=10, stored_as="history")


class Small(State, ttl=HOUR, kind="visit"):
    """Before most of the fields came."""

    focus = Register(str | None, default=None)
    turns = Counter()
    history = Log(str, keep=10)


class Versioned(State, ttl=HOUR, kind="visit"):
    """Values of another type, under a new version."""

    focus = Register(list[str], default=[], version=2, upcast={1: lambda text: [text]})
    turns = Counter()
    history = Log(dict[str, str], keep=10, version=2, upcast={1: lambda text: {"text": text}})


class Floats(State, ttl=HOUR, kind="visit"):
    """Whole numbers became fractions."""

    page = Register(float | None, default=None)
    turns = Counter(float)


class Changed(State, ttl=HOUR, kind="visit"):
    """What cannot be: other types under the same names."""

    focus = Register(int, default=0)
    turns = Log(str, keep=10)


class Basket(State, ttl=HOUR, kind="basket"):
    """Another kind."""

    items = Map(str, int, keep=50)
    notes = Log(str, keep=10)


class Both(State, ttl=HOUR, kind="visit"):
    """Renamed and of another type at once."""

    backend = Register(float | None, default=None)
    rounds = Counter(float)
    taps = Tally(str, keep=50)


def edits(state):
    """Something in every field of a `Visit` or `Renamed`, an explicit null among it."""
    (focus, page, score, member, seen_at, turns, spent, filters, tags, history, *rest) = (
        state.__schema__.fields.values()
    )
    chat, embedding, taste, clicks, spend, steps = rest
    return [
        focus.put("shoes \u00e9 \U0001f45f"),
        page.put(None),
        score.put(0.1),
        member.put(True),
        seen_at.put({"a": 2**53 + 1}),
        turns.add(2**53 + 1),
        spent.add(0.3),
        filters.put("colour", "blue"),
        filters.put('a "quoted" \\ key', ""),
        tags.add("new", "sale"),
        history.append("hello", "again"),
        chat.append("what?", "that"),
        embedding.put([0.5, 1, 2]),
        taste.add([1, 2], at=AT),
        clicks.add("sku-1", 3),
        clicks.add("sku-2"),
        spend.add(19.9),
        steps.put("pay", {"cents": 100}),
    ]
