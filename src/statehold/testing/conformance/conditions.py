"""Promise 3 for conditions on parts of a state (`Commit.where`)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import pytest

from statehold.changes import Add, Append, Change, Drop, Put
from statehold.commits import ABSENT, PRESENT, Commit, Is, Revision, Want
from statehold.driver import Conflicted, Doubtful, Feature, Refused, Written
from statehold.errors import Corrupted
from statehold.testing.backend import rounds
from statehold.testing.conformance.base import Cases, need
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

HELD: Final[tuple[Change, ...]] = (
    Put("note", "", b'"x"'),
    Put("map", "k", b'"x"'),
    Put("map", "l:1", b'"y"'),
    Put("raw", "k", b"\0-1 "),
    Add("sum", "k", 5),
    Add("sum", "half", 0.5),
    Add("sum", "big", 2**62 + 1),
    Add("sum", "less", -(2**62) - 1),
    Append("log", (b'"1"', b'"2"', b'"3"'), 2),
)
"""What a state holds, to have conditions on."""

HOLD: Final = (
    Is("note", "", b'"x"'),
    Is("map", "k", b'"x"', absent=True),
    Is("map", "l:1", b'"y"'),
    Is("map", "l", None),
    Is("map", "m", b'"x"', absent=True),
    Is("raw", "k", b"\0-1 "),
    Is("sum", "k", 5),
    Is("sum", "half", 0.5),
    Is("sum", "big", 2**62 + 1),
    Is("sum", "k", 5, least=True),
    Is("sum", "k", 4.5, least=True),
    Is("sum", "half", -7, least=True),
    Is("sum", "big", 2**62 + 1, least=True),
    Is("sum", "big", 2**62, least=True),
    Is("sum", "less", -(2**62) - 2, least=True),
    Is("sum", "none", 0, absent=True, least=True),
    Is("log", None, b'"3"'),
    Is("log", "k", None),
    Is("trail", None, None),
    Is("trail", None, b'"3"', absent=True),
    Is("note", "other", None),
    Is("unheard of", "k", None),
)
HOLD_NOT: Final = (
    Is("note", "", b'"y"'),
    Is("note", "", None),
    Is("note", "", None, absent=True),
    Is("note", "other", b'"x"'),
    Is("map", "k", b'"y"', absent=True),
    Is("map", "m", b'"x"'),
    Is("map", "l", b'"y"'),
    Is("raw", "k", b"\0-1"),
    Is("sum", "k", 6),
    Is("sum", "k", 0, absent=True),
    Is("sum", "half", 1),
    Is("sum", "big", 2**62),
    Is("sum", "k", 6, least=True),
    Is("sum", "half", 0.75, least=True),
    Is("sum", "big", 2**62 + 2, least=True),
    Is("sum", "less", -(2**62), least=True),
    Is("sum", "none", 0, least=True),
    Is("map", "k", 1, least=True),
    Is("map", "k", b'"x"', least=True),
    Is("log", None, b'"3"', least=True),
    Is("log", None, b'"2"'),
    Is("log", None, None),
    Is("log", "k", b'"3"'),
    Is("map", None, b'"x"'),
    Is("trail", None, b'"3"'),
    Is("unheard of", "k", b'"x"'),
)


def shown(condition: Is) -> str:
    """What a condition is called in a report."""
    part = "newest" if condition.entry is None else condition.entry
    how = "-or-absent" * condition.absent + "-or-more" * condition.least
    return f"{condition.field}-{part}-{condition.value!r}{how}"


class Conditions(Cases):
    """Commits on condition of an entry or of a list's newest item."""

    @promise(3)
    @pytest.mark.parametrize("condition", HOLD, ids=shown)
    def test_a_condition_that_holds_bars_nothing(self, rig: Rig, condition: Is) -> None:
        """An entry that is so, a newest item that is so, what is not there: the commit stands."""
        need(rig, Feature.WHERE)
        first = rig.write(*HELD).revision
        written = rig.write(Add("sum", "k", 1), where=(condition,))
        assert written.revision == Revision(first.incarnation, 2)
        assert rig.fields()["sum"]["k"] == 6

    @promise(3)
    @pytest.mark.parametrize("condition", HOLD_NOT, ids=shown)
    def test_a_condition_that_does_not_hold_bars_all(self, rig: Rig, condition: Is) -> None:
        """Otherwise it is in conflict, is told where the state is and which field is otherwise; nothing is written."""
        need(rig, Feature.WHERE)
        stands = rig.write(*HELD)
        before = rig.fields()
        also = Is("note", "", b'"x"')
        outcome = rig.try_(
            Add("sum", "k", 1), Append("log", (b'"no"',), 9), where=(also, condition), op="op 1"
        )
        assert outcome == Conflicted(stands.revision, condition.field)
        assert rig.fields() == before
        assert rig.stands().revision == stands.revision
        assert not rig.write(Add("sum", "k", 1), op="op 1").repeated, "a conflict was remembered"

    @promise(3)
    def test_of_an_absent_state_there_are_no_parts(self, rig: Rig) -> None:
        """A state that is absent or expired has no entry and no item: what may be absent is so."""
        need(rig, Feature.WHERE)
        wants = Is("map", "k", b'"x"')
        assert rig.try_(where=(wants,)) == Conflicted(ABSENT, "map")
        assert rig.read() is None, "a commit in conflict has made the state exist"
        if rig.exact:
            rig.write(*HELD, ttl=1.0)
            rig.wait(1.0)
            assert rig.try_(where=(wants,)) == Conflicted(ABSENT, "map")
        none = (Is("map", "k"), Is("log", None), Is("sum", "k", 0, absent=True))
        rig.write(Put("map", "k", b'"x"'), where=none)
        assert rig.fields() == {"map": {"k": b'"x"'}}

    @promise(3)
    def test_conditions_see_the_commits_before(self, rig: Rig) -> None:
        """Within one batch a condition is about what the commits before have left, erasures too."""
        need(rig, Feature.WHERE)
        rig.write(*HELD)
        send: Callable[..., Commit] = rig.commit
        newest = partial(Is, "log", None)
        outcomes = rig.send(
            send(Append("log", (b'"4"',), 2), where=(newest(b'"3"'),)),
            send(Append("log", (b'"5"',), 2), where=(newest(b'"3"'),)),
            send(Append("log", (b'"6"',), 2), where=(newest(b'"4"'),)),
            send(Drop("log"), Put("map", "k", b'"z"'), where=(newest(b'"6"'),)),
            send(Add("sum", "k", 1), where=(newest(None), Is("map", "k", b'"z"'))),
            send(Append("log", (b'"7"',), 2), where=(Is("sum", "k", 6),)),
            send(Drop("map", "k"), where=(newest(b'"7"'),)),
            send(Put("note", "", b'"y"'), where=(Is("map", "k"), Is("note", "", b'"x"'))),
            send(erase=True, ttl=None, where=(Is("note", "", b'"y"'),)),
            send(Put("note", "", b'"new"'), where=(Is("note", ""), newest(None))),
        )
        stood = [isinstance(one, Written) for one in outcomes]
        assert stood == [True, False, *[True] * 8], f"{outcomes}"
        assert rig.fields() == {"note": {"": b'"new"'}}

    @promise(3)
    def test_a_list_that_was_dropped_has_no_newest_item(self, rig: Rig) -> None:
        """In the next call, too: neither what was dropped before it is there, nor its number."""
        need(rig, Feature.WHERE)
        rig.write(*HELD)
        rig.write(Drop("log"))
        assert isinstance(rig.try_(where=(Is("log", None, b'"3"'),)), Conflicted)
        rig.write(Append("log", (b'"new"',), 2), where=(Is("log", None),))
        for n in range(5):
            last = b'"new"' if n == 0 else b'"%d"' % (n - 1)
            rig.write(Append("log", (b'"%d"' % n,), 2), where=(Is("log", None, last),))
        assert rig.fields()["log"] == [b'"3"', b'"4"']

    @promise(3)
    def test_an_erasure_on_condition(self, rig: Rig) -> None:
        """An erasure whose condition does not hold leaves the state; one whose condition holds takes it."""
        need(rig, Feature.WHERE)
        stands = rig.write(*HELD).revision
        assert rig.erase(where=(Is("note", "", b'"y"'),)) == Conflicted(stands, "note")
        assert rig.fields()["note"] == {"": b'"x"'}
        assert rig.erase(where=(Is("note", "", b'"x"'),)) == Written(stands)
        assert rig.read() is None

    @promise(3)
    def test_conditions_come_after_the_others(self, rig: Rig) -> None:
        """A repetition is told so whatever stands now; `expect` comes first, what is refused last."""
        need(rig, Feature.WHERE)
        first = rig.write(*HELD)
        change = Put("note", "", b'"y"')
        where = (Is("note", "", b'"x"'),)
        done = rig.write(change, where=where, op="op 1")
        again = rig.write(change, where=where, op="op 1")
        assert (again.revision, again.repeated) == (done.revision, True)
        if rig.has(Feature.EXPECT):
            told = rig.try_(change, where=where, expect=first.revision)
            assert told == Conflicted(done.revision), f"{told}"
            told = rig.try_(change, where=where, expect=PRESENT)
            assert told == Conflicted(done.revision, "note"), f"{told}"
        full = Put("map", "third", b'"x"', bound=2)
        assert rig.try_(full, where=where) == Conflicted(done.revision, "note")
        assert isinstance(rig.try_(full, where=(Is("note", "", b'"y"'),)), Refused)

    @promise(3)
    def test_one_winner_for_each_item(self, rig: Rig) -> None:
        """Of writers that append on condition of the same newest item one wins, and others do not disturb them."""
        need(rig, Feature.WHERE)
        rig.write(Append("log", (b'"0"',), 10_000))
        want = Want(fields=("log",), tail=1)
        count = rounds(8)

        async def chain(name: int) -> int:
            won = lost = 0
            while won < count:
                cells = (await rig.driver.read([rig.key()], want, rig.now))[0]
                assert cells is not None
                newest: Any = list(cells.fields["log"])[-1]
                item = f'"{name} {won}"'.encode()
                commit = rig.commit(
                    Append("log", (item,), 10_000),
                    where=(Is("log", None, newest),),
                    op=f"{name} {won} {lost}",
                )
                (outcome,) = await rig.driver.commit([commit], rig.now)
                if isinstance(outcome, Written):
                    won += 1
                else:
                    assert isinstance(outcome, Conflicted | Doubtful), f"{outcome}"
                    assert outcome != Conflicted(), "the state is there"
                    lost += 1
            return lost

        async def disturb() -> None:
            for n in range(3 * count):
                commit = rig.commit(Add("sum", "k", 1), op=f"other {n}")
                (outcome,) = await rig.driver.commit([commit], rig.now)
                assert isinstance(outcome, Written), f"{outcome}"

        answers = rig.run.together(*(partial(chain, n) for n in range(3)), disturb)
        errors = [answer for answer in answers if isinstance(answer, BaseException)]
        assert not errors, f"{errors}"
        fields = rig.fields()
        assert len(fields["log"]) == 1 + 3 * count, "two have won on the same item"
        assert fields["sum"] == {"k": 3 * count}

    @promise(11)
    def test_a_condition_on_what_cannot_be_read_does_not_hold(self, rig: Rig) -> None:
        """Where the field cannot be read nothing is written: it is refused, in conflict, or raises `Corrupted`."""
        need(rig, Feature.WHERE)
        if rig.backend.corrupt is None:
            pytest.skip("the backend has no hook `corrupt`")
        rig.write(*HELD)
        try:
            rig.backend.corrupt(rig.key(), "log")
        except LookupError as error:
            pytest.skip(str(error))
        change = Add("sum", "k", 1)
        for value in (None, b'"2"'):
            with contextlib.suppress(Corrupted):
                outcome = rig.try_(change, where=(Is("log", None, value),))
                assert isinstance(outcome, Refused | Conflicted), f"{value!r} was taken to stand"
        assert rig.fields()["sum"]["k"] == 5
