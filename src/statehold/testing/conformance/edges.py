"""Cases at edges that only luck would meet: memory that is full, ends within a call, clocks, sweeps."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

from statehold.changes import BEYOND, Accumulate, Add, Append, Change, Drop, Put
from statehold.commits import ABSENT, EVERYTHING, Want
from statehold.driver import Feature, Refused, Scan, WaitingDriver, WouldWait, Written
from statehold.errors import Corrupted, Invalid, Unavailable
from statehold.middleware.choosing import layer
from statehold.testing.backend import rounds
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need, need_given_clock, need_raw
from statehold.testing.conformance.commits import ONE_OF_EACH
from statehold.testing.lives import a_life_in_a_process
from statehold.testing.naive import array
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

HELD_SECONDS = 30.0
"""Within which a call that waits for another writer must have ended."""

AT_ONCE_SECONDS = 1.0
"""Within which a call that is not to wait must have ended; drivers wait twice as long otherwise."""

MARK = b"b3a7-left-behind"

CROWD = 640
"""How many states live at once: more than what a sweep looks at in one step."""


class Edges(Cases):
    """What only luck would meet otherwise."""

    @promise(1)
    def test_a_refused_commit_leaves_the_one_before(self, rig: Rig) -> None:
        """What a commit had done to an entry before it was refused is undone, and what others did is not."""
        rig.write(Add("sum", "k", 1))
        first, refused, last = rig.send(
            rig.commit(Add("sum", "k", 10)),
            rig.commit(Add("sum", "k", 100), Add("sum", "one more", 1, 1)),
            rig.commit(Add("sum", "k", 1000)),
        )
        assert isinstance(first, Written)
        assert isinstance(refused, Refused)
        assert isinstance(last, Written)
        assert rig.fields() == {"sum": {"k": 1011}}

    @promise(1)
    def test_as_many_as_can_be_said_may_be_asked_for(self, rig: Rig) -> None:
        """The largest numbers of items and of keys are all that there are, and not none or an error."""
        rig.write(Append("log", (b"1", b"2"), 9))
        for want in (
            Want(tail=BEYOND),
            Want(tail={"log": BEYOND}),
            Want(after={"log": 0}, limit=BEYOND),
        ):
            cells = rig.read(want=want)
            assert cells is not None
            assert list(cells.fields["log"]) == [b"1", b"2"], f"{want}"
        if Feature.SCAN in rig.driver.features:
            asked = Scan(rig.tenant, KIND, limit=BEYOND)
            page = rig.run(rig.driver.scan(asked, rig.now))
            found = list(page.keys)
            while page.cursor is not None:
                page = rig.run(rig.driver.scan(replace(asked, cursor=page.cursor), rig.now))
                found += page.keys
            assert [key[2] for key in found] == ["a"]

    # ------------------------------------------------------------------- 2: exactly once

    @promise(2)
    def test_as_many_op_ids_are_remembered_as_is_said(self, rig: Rig) -> None:
        """A commit that asks for a hundred op ids to be remembered is taken at its word."""
        commits = [rig.commit(Add("sum", "k", 1), op=f"op {n}", ops=100) for n in range(110)]
        rig.send(*commits[:60])
        rig.send(*commits[60:])
        for n, outcome in enumerate(rig.send(*commits[10:])):
            assert isinstance(outcome, Written)
            assert outcome.repeated, f"forgot op {n + 10}, with 100 to be remembered"
        assert rig.fields() == {"sum": {"k": 110}}

    @promise(6)
    def test_a_new_process_begins_new_incarnations(self, rig: Rig) -> None:
        """Lives that are begun by processes which have just started are told apart."""
        need(rig, Feature.SHARED)
        seen: list[int] = []
        for _ in range(2):
            revision = a_life_in_a_process(rig)
            assert revision.number == 1
            assert rig.erase() == Written(revision)
            seen.append(revision.incarnation)
        seen.append(rig.write().revision.incarnation)
        assert len(set(seen)) == 3, "an incarnation came back with another process"

    # ------------------------------------------------------------------------ 4: endings

    @promise(4)
    def test_a_state_may_end_within_a_call(self, rig: Rig) -> None:
        """What ended its own life, by its maximum age, is absent to the rest of the same call."""
        rig.write(Add("sum", "k", 1), Append("log", (b'"old"',), 9))
        rig.wait(1)
        ending, after = rig.send(
            rig.commit(Add("sum", "k", 10), max_age=0.5),
            rig.commit(Add("sum", "k", 100), **_expect(rig)),
        )
        assert isinstance(ending, Written)
        assert isinstance(after, Written), f"what follows its end met the state: {after}"
        assert after.revision.number == 1
        assert after.revision.incarnation != ending.revision.incarnation
        assert rig.fields() == {"sum": {"k": 100}}
        rig.wait(1)
        *_, erased = rig.send(rig.commit(Add("sum", "k", 1), max_age=0.5), rig.commit(erase=True))
        assert erased == Written(ABSENT), f"an erasure met a state that had ended: {erased}"
        assert rig.read() is None

    @promise(4)
    def test_a_renewal_stops_at_the_maximum_age(self, rig: Rig) -> None:
        """A read that renews moves the deadline to the maximum age that it says, and no further."""
        need_given_clock(rig)
        rig.write(Add("sum", "k", 1), ttl=2)
        born = rig.now
        rig.wait(1)
        unit = rig.unit
        assert rig.read(want=Want(renew=(10 * unit, 4 * unit))) is not None
        assert rig.stands().deadline == born + 4 * unit, "a renewal went past the maximum age"
        rig.wait(3)
        assert rig.read(want=Want(renew=(10 * unit, 4 * unit))) is None

    @promise(4)
    def test_a_renewal_of_many_revives_none(self, rig: Rig) -> None:
        """A read that renews some of its states leaves absent what is absent, and renews every other."""
        rig.write(Add("sum", "k", 1), id="over", ttl=1)
        for id in ("a", "b"):
            rig.write(Add("sum", "k", 1), id=id, ttl=4)
        rig.wait(1.5)
        want = Want(renew=(8 * rig.unit, None))
        for _ in range(2):
            found = rig.read_many(["over", "a", "b", "never", "a"], want)
            assert [cells is None for cells in found] == [True, False, False, True, False]
        rig.wait(4)
        found = rig.read_many(["over", "a", "b"])
        assert [cells is None for cells in found] == [True, False, False]

    @promise(4)
    def test_sweeping_spares_the_living(self, rig: Rig) -> None:
        """States whose lives were lengthened or begun anew outlast every sweep; others are absent."""
        fates = ("gone", "longer", "renewed", "anew", "never")
        old, new = Append("log", (b"1",), 9), Append("log", (b"2",), 9)
        ids = {fate: [f"{fate} {n}" for n in range(8)] for fate in fates}
        rig.send(*(rig.commit(old, id=id, ttl=4) for fate in fates for id in ids[fate]))
        rig.read_many(ids["renewed"], Want(renew=(500 * rig.unit, None)))
        rig.send(
            *(rig.commit(new, id=id, ttl=500) for id in ids["longer"]),
            *(rig.commit(id=id, erase=True) for id in ids["anew"]),
            *(rig.commit(new, id=id, ttl=500) for id in ids["anew"]),
            *(rig.commit(id=id, ttl=None) for id in ids["never"]),
        )
        rig.wait(4.5)
        for n in range(200):
            rig.write(Add("sum", "k", 1), id=f"busy {n % 3}")
        held = {"gone": None, "longer": [b"1", b"2"], "renewed": [b"1"], "anew": [b"2"]}
        for fate, log in (*held.items(), ("never", [b"1"])):
            for cells in rig.read_many(ids[fate]):
                found = None if cells is None else list(cells.fields["log"])
                assert found == log, f"after sweeping a state that is {fate} holds {found}"

    @promise(4)
    def test_a_clock_that_steps_back_loses_nothing(self, rig: Rig) -> None:
        """Commits made by an earlier clock stand after those before them, in order and once."""
        need_given_clock(rig)
        for n in range(4):
            rig.write(Append("log", (b"%d" % n,), 9), op=f"op {n}", ops=3)
        rig.wait(-30)
        for n in range(4, 6):
            written = rig.write(Append("log", (b"%d" % n,), 9), op=f"op {n}", ops=3, ttl=5)
            assert written.revision.number == n + 1
        for n in (3, 4, 5):
            assert rig.write(Append("log", (b"%d" % n,), 9), op=f"op {n}", ops=3).repeated
        assert rig.fields() == {"log": [b"%d" % n for n in range(6)]}
        assert rig.stands().deadline == rig.now + 5 * rig.unit
        rig.wait(5)
        assert rig.read() is None

    @promise(4)
    def test_a_renewal_never_reaches_the_next_life(self, rig: Rig) -> None:
        """While reads renew a state that is deleted and made anew, each life keeps its own deadline."""
        need_given_clock(rig)
        driver, start = rig.driver, rig.now
        keys = [rig.key(f"{n}") for n in range(12)]
        lives, done = rounds(100), threading.Event()
        times = [start]
        wrong: list[Any] = []

        async def live() -> None:
            anew = [rig.commit(id=key, erase=True) for key in keys]
            anew += [rig.commit(id=key, ttl=None) for key in keys]
            try:
                for n in range(1, lives + 1):
                    now = start + 1000.0 * n
                    await driver.commit(anew, now)
                    times[0] = now
                    for _ in range(3):
                        if driver.suspends:
                            await asyncio.sleep(0)
                        else:
                            time.sleep(0.0005)  # noqa: ASYNC251  driven by hand, in a thread
                        found = await driver.read(keys, EVERYTHING, now)
                        untils = [0.0 if cells is None else cells.deadline for cells in found]
                        # What the commit waited for the others' turns counts.
                        mine = [None if until is None else (until - now) // 100 for until in untils]
                        wrong.extend((n, each) for each in mine if each not in (None, 5, 6))
            finally:
                done.set()

        async def renew(age: float) -> None:
            while not done.is_set():
                if driver.suspends:
                    await asyncio.sleep(0)
                await driver.read(keys, Want(renew=(None, age)), times[0])

        works = (live, lambda: renew(500.0), lambda: renew(600.0))
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            errors = [each for each in rig.run.together(*works) if each is not None]
        finally:
            sys.setswitchinterval(interval)
        assert not errors, errors
        assert not wrong, f"a renewal reached the life after the one that was read: {wrong[:2]}"

    # ------------------------------------------------------------------------ 5: bounded

    @promise(5)
    def test_bounds_may_change(self, rig: Rig) -> None:
        """A lower bound cuts what drops its lowest, refuses one more elsewhere, and loses nothing."""
        for n in range(6):
            rig.write(Add("window", f"{n}", n, 6, True), Put("map", f"{n}", b'"x"', bound=6))
        rig.write(Add("window", "9", 9, 3, True))
        assert rig.fields()["window"] == {"4": 4, "5": 5, "9": 9}
        outcome = rig.try_(Put("map", "new", b'"x"', bound=3))
        assert isinstance(outcome, Refused), f"over a bound that is lower now: {outcome}"
        rig.write(Put("map", "5", b'"y"', bound=3))
        assert len(rig.fields()["map"]) == 6, "what was there went with a lower bound"
        rig.write(Put("map", "new", b'"x"', bound=7), Add("window", "a", 1, 4, True))
        assert len(rig.fields()["map"]) == 7
        assert rig.fields()["window"] == {"4": 4, "5": 5, "9": 9, "a": 1}

    @promise(5)
    def test_the_bound_of_a_list_may_change(self, rig: Rig) -> None:
        """A list that has turned over grows to a higher bound, shrinks to a lower one, in order."""
        expected: list[bytes] = []
        n = 0
        for keep, appends in ((4, 6), (8, 7), (3, 2), (5, 4), (2, 1), (9, 12)):
            for _ in range(appends):
                n += 1
                item = b"%d" % n
                rig.write(Append("log", (item,), keep))
                expected = [*expected, item][-keep:]
                found = rig.fields()["log"]
                assert found == expected, f"with {keep} to be kept: {found}, not {expected}"

    # -------------------------------------------------------------------------- 8: scans

    @promise(8)
    def test_a_cursor_belongs_to_its_listing(self, rig: Rig) -> None:
        """A cursor of another tenant's, kind's or subject's listing is `Invalid`, and skips nothing."""
        need(rig, Feature.SCAN)
        rig.open_kind("other")
        subject = {"subject": "ann"} if rig.has(Feature.SUBJECT) else {}
        for n in range(5):
            for tenant, kind in (("", KIND), ("x", KIND), ("", "other")):
                rig.write(id=rig.key(f"{n}", kind=kind, tenant=tenant), **subject)
        listings: list[tuple[str, str, str | None]] = [
            ("", KIND, None),
            ("x", KIND, None),
            ("", "other", None),
        ]
        if subject:
            listings += [("", KIND, "ann"), ("", KIND, "ben")]

        def page(of: tuple[str, str, str | None], cursor: str | None) -> Any:
            tenant, kind, about = of
            return rig.run(
                rig.driver.scan(
                    Scan(rig.tenant + tenant, kind, about, cursor=cursor, limit=2), rig.now
                )
            )

        for of in listings[:-1] if subject else listings:
            cursor = page(of, None).cursor
            if cursor is None:
                continue
            for other in listings:
                if other != of:
                    with pytest.raises(Invalid):
                        page(other, cursor)

    @promise(8)
    def test_a_page_may_lose_its_last(self, rig: Rig) -> None:
        """When the last state of a page is deleted before the next one, no other is skipped."""
        need(rig, Feature.SCAN)
        names = [f"{n}" for n in range(12)]
        for name in names:
            rig.write(id=name)
        found: list[str] = []
        cursor: str | None = None
        for _ in range(100):
            page = rig.run(rig.driver.scan(Scan(rig.tenant, KIND, cursor=cursor, limit=2), rig.now))
            found += [key[2] for key in page.keys]
            if page.keys:
                rig.erase(page.keys[-1])
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(names)

    # -------------------------------------------------------------------- 9: down, and 11

    @promise(9)
    def test_waiting_for_a_writer_ends(self, rig: Rig) -> None:
        """While another writer holds the store a commit raises `Unavailable` in time; then all goes on."""
        if rig.backend.held is None:
            pytest.skip("the backend has no hook `held`")
        rig.write(Add("sum", "k", 1))
        with rig.backend.held():
            error = _ends(rig, rig.driver.commit([rig.commit(Add("sum", "k", 10))], rig.now))
            assert isinstance(error, Unavailable), f"while another writer holds it: {error!r}"
            assert rig.fields() == {"sum": {"k": 1}}, "reads wait for a writer"
        rig.write(Add("sum", "k", 100))
        assert rig.fields() == {"sum": {"k": 101}}

    @promise(9)
    def test_what_is_not_to_wait_does_not(self, rig: Rig) -> None:
        """A call with `wait=False` raises `WouldWait` rather than wait, at once and with nothing done."""
        # What gathers above it may wait, in a thread.
        driver = layer(rig.driver, WaitingDriver)  # type: ignore[type-abstract]  # none is made
        if driver is None:
            pytest.skip("the driver never waits: it is no `WaitingDriver`")
        rig.write(Add("sum", "k", 1))
        commits = [rig.commit(Add("sum", "k", 10), id=id) for id in ("a", "b")]
        done = 1
        for _ in range(5):
            with contextlib.suppress(WouldWait):
                rig.run(driver.commit(commits, rig.now, wait=False))
                done += 10
            assert rig.fields() == {"sum": {"k": done}}, "`WouldWait`, and something was done"
        if rig.backend.held is None:
            return
        with rig.backend.held():
            begun = time.monotonic()
            error = _ends(rig, driver.commit(commits, rig.now, wait=False))
            took = time.monotonic() - begun
        assert isinstance(error, WouldWait), f"with another writer there: {error!r}"
        assert took < AT_ONCE_SECONDS, f"it waited {took:.1f} s, and was not to"
        assert rig.fields() == {"sum": {"k": done}}

    @promise(11)
    @pytest.mark.parametrize("field", ["map", "sum", "array", "log"])
    def test_a_broken_field_is_never_served_nor_built_on(self, rig: Rig, field: str) -> None:
        """Entries that cannot be read are reported, and what would build on them is not written."""
        if rig.backend.corrupt is None:
            pytest.skip("the backend has no hook `corrupt`")
        rig.write(*ONE_OF_EACH, Put("map", "k", b'"x"'))
        expected = rig.fields()
        del expected[field]
        try:
            rig.backend.corrupt(rig.key(), field)
        except LookupError as error:
            pytest.skip(str(error))
        assert field in rig.stands().corrupted, "a broken field was not reported"
        assert rig.fields() == expected, "a broken field was served"
        building: dict[str, Change] = {
            "sum": Add("sum", "k", 1),
            "array": Accumulate("array", "k", array(1.0, 1.0)),
        }
        if field in building:
            try:
                outcome = rig.try_(Add("sum", "other", 1), building[field])
            except Corrupted:
                pass
            else:
                assert isinstance(outcome, Refused), f"built on what cannot be read: {outcome}"
            assert rig.fields() == expected
        rig.write(Drop(field))
        rig.write(*ONE_OF_EACH[1:4])
        assert field not in rig.stands().corrupted, "a dropped field is broken still"

    # ------------------------------------------------------------------------ 12: delete

    @promise(12)
    def test_an_erasure_leaves_nothing_behind(self, rig: Rig) -> None:
        """Of a state that was erased, no value, item, entry or id is stored any more."""
        raw = need_raw(rig)
        self._leave(rig, ttl=None)
        assert MARK in raw(), "the hook `raw` does not show what is stored"
        rig.erase(MARK.decode())
        assert MARK not in raw(), "an erased state left something behind"

    @promise(12)
    def test_expired_states_are_swept(self, rig: Rig) -> None:
        """Of states that have expired nothing is stored any more, once others were written for a while."""
        raw = need_raw(rig)
        self._leave(rig, ttl=2)
        rig.wait(2.5)
        for n in range(300):
            rig.write(Add("sum", "k", 1), id=f"busy {n % 5}")
        assert MARK not in raw(), "an expired state is still stored"

    @promise(12)
    def test_sweeping_reaches_what_lies_behind_the_living(self, rig: Rig) -> None:
        """Expired states among and behind many that live are gone after as many commits as there are."""
        raw = need_raw(rig)
        expired = [f"{n:04}" for n in range(0, CROWD + 1, CROWD // 16)]
        crowd = [f"{n:04}" for n in range(CROWD + 1)]
        for begin in range(0, len(crowd), 50):
            rig.send(
                *(
                    rig.commit(
                        Put("map", "k", b"<%s%s>" % (MARK, id.encode())),
                        id=id,
                        ttl=2 if id in expired else None,
                    )
                    for id in crowd[begin : begin + 50]
                )
            )
        marks = [b"<%s%s>" % (MARK, id.encode()) for id in expired]
        left = [mark for mark in marks if mark in raw()]
        assert left == marks, "the hook `raw` does not show what is stored"
        for _ in range(8):
            rig.wait(2.5)
            for n in range(CROWD // 8):
                rig.write(Add("sum", "k", 1), id=f"busy {n % 5}")
        stored = raw()
        left = [mark for mark in marks if mark in stored]
        assert not left, f"of {len(marks)} expired states {len(left)} are still stored: {left[0]!r}"
        living = [id for id in crowd if id not in expired]
        assert None not in rig.read_many(living), "a state that lives was swept"

    def _leave(self, rig: Rig, ttl: float | None) -> None:
        subject = {"subject": MARK.decode()} if rig.has(Feature.SUBJECT) else {}
        changes = (Put("map", MARK.decode(), MARK), Append("log", (MARK,), 5))
        rig.write(*changes, id=MARK.decode(), ttl=ttl, op=MARK.decode(), **subject)


def _ends(rig: Rig, work: Coroutine[Any, Any, Any]) -> BaseException | None:
    """What a call raised. Raises AssertionError if it goes on and on."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            rig.run(work)
        except Exception as error:  # noqa: BLE001  it is the answer
            raised.append(error)
        else:
            raised.append(None)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(HELD_SECONDS)
    assert raised, f"it has waited for {HELD_SECONDS:.0f} s, and waits still"
    return raised[0]


def _expect(rig: Rig) -> dict[str, Any]:
    return {"expect": ABSENT} if rig.has(Feature.EXPECT) else {}
