"""What was redacted in a list is nowhere in its view, and the others keep their positions."""

import random

import pytest

from statehold import Conflict, Log, State, Store, Turns


class Talk(State, ttl=60):
    lines = Log(str, keep=400)
    notes = Log(str | None, keep=20)
    turns = Turns(str, keep=5)


@pytest.fixture
def talks():
    with Store.open("memory://") as store:
        yield store.collection(Talk)


def outcome(listed, index):
    try:
        return listed[index]
    except IndexError:
        return IndexError


@pytest.mark.parametrize("size", [0, 1, 2, 5, 9, 300])
def test_a_log_is_a_sequence_of_what_was_not_redacted(talks, size):
    """By length, index, slice and iteration, as the list of the others would be."""
    rng = random.Random(size)
    for run in range(10):
        items = [str(n) for n in range(size)]
        gone = {n for n in range(size) if rng.random() < (0, 0.3, 0.9)[run % 3]}
        edits = [Talk.lines.redact(n + 1) for n in gone]
        talks.apply(f"{run}", Talk.lines.append(*items), *edits)
        shown = [item for n, item in enumerate(items) if n not in gone]
        log = talks.get(f"{run}").lines
        assert (len(log), list(log), list(reversed(log))) == (len(shown), shown, shown[::-1])
        assert log.positions == [n + 1 for n in range(size) if n not in gone]
        assert (log.first, log.last, bool(log)) == (1, size, bool(shown))
        near = [*range(-12, 12), -size - 1, -size, size - 1, size]
        for at in near:
            assert outcome(log, at) == outcome(shown, at)
            for stop in (None, *rng.sample(near, 4)):
                for step in (None, 1, -1, 2):
                    assert log[at:stop:step] == shown[at:stop:step]
            assert log[:at] == shown[:at]
        count = rng.randrange(1, 9)
        with talks.session(f"{run}") as state:
            assert state.lines.take(count) == shown[-count:]
            assert list(state.lines) == shown[:-count]
        after = talks.get(f"{run}").lines
        assert list(after) == shown[:-count]
        assert after.positions == log.positions[: len(after)]


def test_the_newest_is_the_newest_that_is_shown(talks):
    """A pop takes away what was redacted after it, too, and their positions are had again."""
    talks.apply(
        "a", Talk.lines.append("1", "2", "3", "4"), Talk.lines.redact(3), Talk.lines.redact(4)
    )
    with talks.session("a") as state:
        assert state.lines[-1] == "2"
        assert state.lines.pop() == "2"
        state.lines.append("new")
    log = talks.get("a").lines
    assert (list(log), log.positions) == (["1", "new"], [1, 2])
    talks.apply("a", Talk.lines.redact(1), Talk.lines.redact(2))
    state = talks.get("a")
    with pytest.raises(IndexError):
        state.lines.pop()
    assert state.lines.take(3) == []
    assert (len(state.lines), state.lines.first, state.lines.last) == (0, 1, 2)
    assert not state.lines
    talks.apply("a", Talk.lines.append("on"))
    assert talks.get("a").lines.positions == [3]


def test_nobody_else_has_what_was_popped_before_a_redacted_one(talks):
    talks.apply("a", Talk.lines.append("1", "2"), Talk.lines.redact(2))

    def pop_too_late():
        with talks.session("a") as state:
            state.lines.pop()
            talks.apply("a", Talk.lines.append("3"))

    with pytest.raises(Conflict, match="lines"):
        pop_too_late()
    assert list(talks.get("a").lines) == ["1", "3"]


def test_what_is_not_read_sees_the_positions(talks):
    """A blind pop and a condition know of nothing but the newest position."""
    talks.apply("a", Talk.lines.append("1", "2"), Talk.lines.redact(2))
    for condition in (Talk.lines.ends_with("1"), Talk.lines.ends_with("2")):
        with pytest.raises(Conflict, match=r"lines is not .*redacted item is still the newest"):
            talks.apply("a", Talk.lines.append("3"), where=condition)
    talks.apply("a", Talk.lines.redact(1))
    with pytest.raises(Conflict, match=r"redacted item is still the newest"):
        talks.apply("a", Talk.lines.append("3"), where=Talk.lines.is_empty())
    talks.apply("a", Talk.lines.pop())
    assert talks.get("a").lines.last == 1
    talks.apply("a", Talk.lines.pop())
    talks.apply("a", Talk.lines.append("3"), where=Talk.lines.is_empty())


def test_a_position_is_redacted_again_and_written_again(talks):
    talks.apply("a", Talk.lines.append("1", "2"), Talk.lines.redact(1))
    talks.apply("a", Talk.lines.redact(1), Talk.turns.append("x"))
    with talks.session("a") as state:
        state.lines.redact(1)
    assert list(talks.get("a").lines) == ["2"]
    with talks.session("a") as state:
        state.lines.edit(1, "one")
    assert list(talks.get("a").lines) == ["one", "2"]
    talks.apply("a", Talk.lines.redact(1), Talk.lines.edit(1, "uno"))
    assert list(talks.get("a").lines) == ["uno", "2"]
    with pytest.raises(Conflict, match="position 3"):
        talks.apply("a", Talk.lines.redact(3))


def test_where_none_is_a_value_it_reads_as_none(talks):
    """Nothing tells it from one then."""
    talks.apply("a", Talk.notes.append("1", None, "3"), Talk.notes.redact(1))
    notes = talks.get("a").notes
    assert (list(notes), len(notes), notes.positions) == ([None, None, "3"], 3, [1, 2, 3])
    assert notes[0] is None
    assert notes[-2] is None


def test_turns_have_positions(talks):
    """Of whole turns, as `turns` has them, whatever was redacted or trimmed."""
    for n in range(1, 7):
        talks.apply("a", Talk.turns.append(f"q{n}", f"a{n}"))
    turns = talks.get("a").turns
    assert (turns.positions, turns.first, turns.last) == ([2, 3, 4, 5, 6], 2, 6)
    talks.apply("a", Talk.turns.redact(2), Talk.turns.redact(4), Talk.turns.redact(2))
    turns = talks.get("a").turns
    assert dict(zip(turns.positions, turns.turns, strict=True)) == {
        n: (f"q{n}", f"a{n}") for n in (3, 5, 6)
    }
    assert (len(turns), turns[0], turns[-1]) == (6, "q3", "a6")
    talks.apply("a", Talk.turns.redact(6))
    with talks.session("a") as state:
        assert state.turns.positions == [3, 5]
        assert state.turns.pop() == ("q5", "a5")
        assert state.turns.positions == [3]
        state.turns.redact(3)
        with pytest.raises(IndexError, match="no turn"):
            state.turns.pop()
        state.turns.append("new")
    turns = talks.get("a").turns
    assert (turns.positions, turns.turns) == ([5], [("new",)])
