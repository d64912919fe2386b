"""A Hypothesis machine that drives a driver and the model side by side, and compares.

Few keys, entries and op ids, so that everything meets everything: repeats with other changes,
expectations of lives long gone, epochs out of order, several commits of one key in one call.
After each step what it touched equals the model; at the end everything does.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, Phase, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from statehold.changes import INT64_MAX, Accumulate, Add, Append, Drop, Put, Splice
from statehold.commits import ABSENT, EVERYTHING, PRESENT, About, Commit, Is, Key, Revision, Want
from statehold.driver import Feature, WholeLife
from statehold.testing.backend import Backend, rounds
from statehold.testing.commits import KIND
from statehold.testing.model import Life, Model
from statehold.testing.naive import array
from statehold.testing.promises import broken, promised
from statehold.testing.rig import FIELDS, Rig

OTHER_KIND = "basket:more"
IDS = ("a", "a:log", "b%", "é")
ENTRIES = ("", "k", "k:1", "z")
SUBJECTS = ("ann", "an")
ABOUT: tuple[About | None, ...] = (None, None, *SUBJECTS, ("ann", "an"), ("an", "run"), ())
"""What a commit may say of whom its state is about."""
AHEAD = 20.0
"""Units of time from the beginning of an example to where its clock starts."""

AGO = (-1.0, 0.1, 1.0, 9.0, 9.0)
"""By how many units what is sent again was sent before."""

APART = 10.0
"""Units between examples, more than any of these: what ended in one is of no account in the next."""

PREFIXES = ("a", "a:", "b%", "é")
OPS = ("", "", "", "op 1", "op 2", "op 3", "op 4")

entries = st.sampled_from(ENTRIES)
texts = st.sampled_from((b'"red"', b'"blue"', b'""', '"grün"'.encode()))
whole = st.one_of(st.integers(-3, 3), st.sampled_from((2**53 + 1, 2**62, -(2**62), 2**63 - 1)))
numbers = st.one_of(whole, st.sampled_from((0.5, -1.25, 1e-9, 1e300)))
arrays = st.lists(st.sampled_from((0.0, 1.0, -2.5, 1e300)), min_size=2, max_size=2).map(
    lambda amounts: array(*amounts)
)
wrong = st.sampled_from((array(1.0), array(1.0, 2.0, 3.0)))
"""Arrays that fit nothing that is there."""


bounds = st.sampled_from((2, 2, 2, 1, 3))
"""As those of a field that a release has changed, while others are still in use."""


def _log(field: str, *keep: int) -> st.SearchStrategy[Append]:
    items = st.lists(texts, max_size=6).map(tuple)
    return st.builds(Append, st.just(field), items, st.sampled_from(keep))


items = st.lists(texts, max_size=2).map(tuple)


def _splice(field: str, keep: int) -> st.SearchStrategy[Splice]:
    newest = st.builds(
        Splice,
        st.just(field),
        st.just(keep),
        st.just(0),
        st.integers(0, 3),
        items,
        st.one_of(st.none(), st.none(), items),
    )
    one = st.builds(
        Splice,
        st.just(field),
        st.just(keep),
        st.integers(1, 12),
        st.just(0),
        st.tuples(texts),
        st.one_of(st.none(), st.none(), st.tuples(texts)),
    )
    return st.one_of(newest, one)


changes = st.one_of(
    st.builds(Put, st.just("note"), st.just(""), texts),
    st.builds(Put, st.just("map"), entries, texts, st.booleans(), bounds),
    st.builds(
        Put,
        st.just("book"),
        entries,
        texts,
        st.booleans(),
        bounds,
        st.sampled_from((False, False, True)),
    ),
    st.builds(Put, st.just("raw"), entries, st.binary(max_size=4)),
    st.builds(Put, st.just("once"), entries, texts, st.just(True)),
    st.builds(Add, st.just("sum"), entries, numbers, bounds),
    st.builds(Add, st.just("window"), entries, st.integers(-3, 3), bounds, st.just(True)),
    st.builds(Accumulate, st.just("array"), entries, st.one_of(arrays, arrays, wrong), bounds),
    _log("log", 4, 4, 2, 7),
    _log("trail", 1, 1, 3),
    _splice("log", 4),
    _splice("trail", 2),
    st.builds(
        Drop,
        st.sampled_from([f.name for f in FIELDS if f.field != "log"]),
        st.one_of(st.none(), entries),
    ),
    st.builds(Drop, st.sampled_from(("log", "trail"))),
)
conditions = st.one_of(
    st.builds(Is, st.just("note"), st.just(""), st.one_of(st.none(), texts), st.booleans()),
    st.builds(Is, st.just("map"), entries, st.one_of(st.none(), texts), st.booleans()),
    st.builds(Is, st.just("sum"), entries, st.integers(-3, 3), st.booleans(), least=st.booleans()),
    st.builds(Is, st.just("window"), entries, st.none()),
    st.builds(
        Is,
        st.sampled_from(("log", "trail")),
        st.none(),
        st.one_of(st.none(), texts),
        st.booleans(),
    ),
    st.builds(Is, st.just("unheard of"), entries, texts, st.booleans()),
)
wants = st.builds(
    Want,
    st.one_of(
        st.none(),
        st.lists(st.sampled_from([*(f.name for f in FIELDS), "unheard of"]), unique=True).map(
            tuple
        ),
    ),
    st.one_of(st.none(), st.integers(0, 5), st.dictionaries(st.just("log"), st.integers(0, 5))),
    entries=st.one_of(
        st.none(),
        st.dictionaries(
            st.sampled_from([*(f.name for f in FIELDS), "unheard of"]),
            st.lists(entries, max_size=3).map(tuple),
            max_size=3,
        ),
    ),
    after=st.one_of(
        st.none(),
        st.none(),
        st.integers(0, 12),
        st.dictionaries(st.just("log"), st.integers(0, 12)),
    ),
    limit=st.one_of(st.none(), st.integers(1, 3)),
)
ttls = st.sampled_from((1.0, 3.0, 10.0, 10.0, None))


class DriverMachine(RuleBasedStateMachine):
    """One example: a tenant of its own on a driver of the backend."""

    def __init__(self, backend: Backend, *, passed: float = 0.0) -> None:
        super().__init__()
        self.rig = Rig(backend)
        if self.rig.exact:
            self.rig.wait(passed)
        self.rig.open_kind(OTHER_KIND)
        self.has = self.rig.driver.features.__contains__
        self.model = Model(
            exact=self.rig.exact,
            erase_once=self.has(Feature.ERASE_ONCE),
            claims=self.has(Feature.CLAIM),
        )
        self.began = self.rig.now
        if self.rig.exact:
            self.rig.wait(AHEAD)  # where the clock may be set back to the beginning
        self.furthest = self.rig.waited
        self.whole: list[tuple[WholeLife, Life]] = []
        """Lives that were read, and what the model says of each."""

    @property
    def keys(self) -> list[Key]:
        """All keys of the example."""
        return [self.rig.key(id, kind=kind) for kind in (KIND, OTHER_KIND) for id in IDS]

    def commit(self, data: st.DataObject) -> Commit:
        """Any commit to any key."""
        draw = data.draw
        key = draw(
            st.sampled_from(self.keys[: draw(st.sampled_from((1, 1, 1, 2, len(self.keys))))])
        )
        options: dict[str, Any] = {"op": draw(st.sampled_from(OPS)), "ops": 3}
        life = self.model.life(key, self.rig.now)
        options["intent"] = draw(st.sampled_from((0, 0, 0, 1, 2)))
        if self.rig.exact and options["op"] and draw(st.integers(0, 2)) == 0:
            unit = self.rig.unit
            options["since"] = self.rig.now - unit * draw(st.sampled_from(AGO))
            options["until"] = self.rig.now + unit * draw(st.sampled_from((-0.1, 0.0, 1.0)))
        if self.has(Feature.EXPECT):
            options["expect"] = draw(st.sampled_from(self.expected(key, life)))
        if self.has(Feature.WHERE) and draw(st.integers(0, 3)) == 0:
            options["where"] = tuple(draw(st.lists(conditions, min_size=1, max_size=2)))
        if self.has(Feature.EPOCH):
            seen = self.model.seen(key, self.rig.now)
            options["epoch"] = draw(st.sampled_from([seen] * 12 + [0, 1, 2]))
        if self.has(Feature.CLAIM) and draw(st.integers(0, 9)) == 0:
            return self.claim(key, draw, options)
        if draw(st.integers(0, 9)) == 0:
            return self.rig.commit(id=key, erase=True, **options)
        if self.has(Feature.SUBJECT):
            options["subject"] = draw(st.sampled_from(ABOUT))
        if self.has(Feature.RETURNING):
            options["returning"] = draw(st.one_of(st.none(), wants))
        options["ttl"] = draw(ttls) if self.rig.exact else None
        options["max_age"] = draw(st.sampled_from((None, None, 4.0))) if self.rig.exact else None
        if options.get("expect") is None and draw(st.integers(0, 8)) == 0:
            options |= self.decided(data, life)
        return self.rig.commit(*draw(st.lists(changes, max_size=5)), id=key, **options)

    def expected(self, key: Key, life: Life | None) -> list[Revision | None]:
        """What a commit may expect: mostly nothing.

        There are as many to choose from whatever stands, so that what a seed draws does not hang on a
        driver's answers, of which several may be right.
        """
        past = self.model.past.get(key, [ABSENT])
        current = life.revision if life else PRESENT
        return [None] * 12 + [ABSENT, PRESENT, *[current] * 3, past[-1], past[-2:][0], past[0]]

    def decided(self, data: st.DataObject, life: Life | None) -> dict[str, Any]:
        """What somebody else has decided of a commit: mostly the next revision, and a while ago."""
        made: dict[str, Any] = {}
        if self.has(Feature.EXPECT):
            stands = life.revision if life else Revision(random.getrandbits(60) + 1, 0)
            more = data.draw(st.sampled_from((1, 1, 1, 1, 0, 2)))
            made["revision"] = Revision(stands.incarnation, max(1, stands.number + more))
        if self.rig.exact:
            ago = data.draw(st.sampled_from((0.0, 0.1, 2.0)))
            made["at"] = self.rig.now - ago * self.rig.unit
        return made

    def claim(self, key: Key, draw: Callable[..., Any], options: dict[str, Any]) -> Commit:
        """A claim of the next epoch, or of one that is named."""
        options.pop("where", None)
        if draw(st.booleans()):
            options["epoch"] = 0
        if self.has(Feature.RETURNING):
            options["returning"] = draw(st.one_of(st.none(), wants))
        units = draw(st.sampled_from((0.0, 0.2, 2.0, 20.0)))
        seconds = units * self.rig.unit if self.rig.exact else (1000.0 if units else 0.0)
        return self.rig.commit(id=key, claim=seconds, **options)

    def check(self, *keys: Key, want: Want = EVERYTHING) -> None:
        """Read the keys and compare."""
        found = self.rig.read_many(keys, want)
        self.model.took = self.rig.took
        for key, cells in zip(keys, found, strict=True):
            self.model.check_read(key, want, cells, self.rig.now)

    @rule(data=st.data())
    def commits_one(self, data: st.DataObject) -> None:
        """One commit."""
        self.send([self.commit(data)])

    @rule(data=st.data(), count=st.sampled_from((2, 2, 3, 6)))
    def commits_many(self, data: st.DataObject, count: int) -> None:
        """Several in one call, often of the same key."""
        self.send([self.commit(data) for _ in range(count)])

    @precondition(lambda self: self.has(Feature.TOGETHER))
    @rule(data=st.data(), count=st.sampled_from((1, 2, 2, 3)))
    def commits_together(self, data: st.DataObject, count: int) -> None:
        """Several to different states, that stand or fall together."""
        drawn = (self.commit(data) for _ in range(count))
        group = list({one.key: one for one in drawn if one.claim is None}.values())
        if not group:
            return
        note(f"together {group}")
        outcomes = self.rig.send_together(*group)
        self.model.took = self.rig.took
        self.model.judge_together(group, outcomes, self.rig.now)
        self.check(*(commit.key for commit in group))

    def send(self, batch: list[Commit]) -> None:
        """Send them, judge each outcome, and read what they touched."""
        note(f"commits {batch}")
        outcomes = self.rig.send(*batch)
        self.model.took = self.rig.took
        for commit, outcome in zip(batch, outcomes, strict=True):
            self.model.judge(commit, outcome, self.rig.now)
        self.check(*(commit.key for commit in batch))

    @precondition(lambda self: self.has(Feature.WHOLE_LIVES))
    @rule(data=st.data())
    def reads_whole(self, data: st.DataObject) -> None:
        """A life is read whole, to be installed later."""
        key = data.draw(st.sampled_from(self.keys))
        found = self.rig.lives(key)[0]
        life = self.model.check_life(key, found, self.rig.now)
        if found is not None and life is not None:
            self.whole.append((found, life))

    @precondition(lambda self: self.whole)
    @rule(data=st.data())
    def installs(self, data: st.DataObject) -> None:
        """One of the newest that were read is installed, mostly where it comes from or at one other key."""
        found, life = data.draw(st.sampled_from(self.whole[-4:]))
        key = data.draw(st.sampled_from((found.key, *self.keys[:2], *self.keys)))
        comes = replace(found, key=key)
        note(f"installs {comes}")
        (outcome,) = self.rig.install(comes)
        self.model.judge_install(comes, life, outcome, self.rig.now)
        self.check(key)
        self.model.check_life(key, self.rig.lives(key)[0], self.rig.now)

    @rule(data=st.data(), want=wants)
    def reads(self, data: st.DataObject, want: Want) -> None:
        """A read of some fields of some keys."""
        keys = data.draw(st.lists(st.sampled_from(self.keys), max_size=4))
        self.check(*keys, want=want)

    @precondition(lambda self: self.rig.exact)
    @rule(data=st.data(), ttl=ttls, age=st.sampled_from((None, 5.0)))
    def reads_and_renews(self, data: st.DataObject, ttl: float | None, age: float | None) -> None:
        """A read that moves the deadline."""
        unit = self.rig.unit
        renew = (ttl and ttl * unit, age and age * unit)
        key = data.draw(st.sampled_from(self.keys))
        self.check(key, want=Want(renew=renew))
        self.check(key)

    @precondition(lambda self: self.rig.exact)
    @rule(units=st.sampled_from((0.25, 0.25, 1.0, 1.0, 3.0, 12.0)))
    def time_passes(self, units: float) -> None:
        """Later."""
        self.rig.wait(units)
        self.furthest = max(self.furthest, self.rig.waited)
        self.check(*self.keys)

    @precondition(lambda self: self.rig.exact)
    @rule(units=st.sampled_from((0.1, 0.25, 1.0, 5.0)))
    def the_clock_is_set_back(self, units: float) -> None:
        """Earlier, though not so that a state which was found to be over would live again."""
        self.check(*self.keys)
        to = self.rig.now - units * self.rig.unit
        if to >= max(self.began, self.model.expired):
            self.model.set_back(self.rig.now, known=self.rig.backend.set_back)
            self.rig.wait(-units)
            self.check(*self.keys)

    @precondition(lambda self: self.has(Feature.SCAN))
    @rule(
        kind=st.sampled_from((KIND, OTHER_KIND)),
        subject=st.sampled_from((None, *SUBJECTS, "run")),
        prefix=st.sampled_from(("", *PREFIXES)),
        newest=st.booleans(),
        limit=st.integers(1, 5),
    )
    def scans(
        self,
        kind: str,
        subject: str | None,
        limit: int,
        prefix: str = "",
        newest: bool = False,  # noqa: FBT002  a rule is called by name
    ) -> None:
        """A scan, page by page."""
        if subject is not None and not self.has(Feature.SUBJECT):
            return
        newest = newest and subject is not None
        with promised(8):
            found = self.rig.ids(kind, subject=subject, prefix=prefix, newest=newest, limit=limit)
            expected = self.model.keys(self.rig.tenant, kind, self.rig.now, subject, prefix)
            if newest:
                found.sort()  # the order is that of the driver's times: the kit has cases for it
            how = [self.model.how.get(self.rig.key(id, kind=kind)) for id in found]
            over = [end for id, end in zip(found, how, strict=True) if id not in expected]
            with promised(next(filter(None, over), 8)):
                said = f"a scan of {kind!r}, {subject!r}, {prefix!r}: {found}, not {expected}"
                assert found == expected, said

    @precondition(lambda self: self.has(Feature.DURABLE))
    @rule()
    def reopens(self) -> None:
        """A second driver goes on, on the same data."""
        self.rig.reopen()
        self.check(*self.keys)

    def teardown(self) -> None:
        """At the end everything is compared, unless something has failed, which is to be told.

        Nothing is left, so that the next example finds what this one found.
        """
        try:
            if sys.exception() is None:
                self.check(*self.keys)
                if self.has(Feature.SCAN):
                    self.scans(KIND, None, 2)
                    self.scans(OTHER_KIND, None, 100)
        finally:
            with contextlib.suppress(Exception):  # of a driver that fails, which was told already
                highest = {"epoch": INT64_MAX} if self.has(Feature.EPOCH) else {}
                self.rig.send(*(self.rig.commit(id=k, erase=True, **highest) for k in self.keys))
            self.rig.close()


def run(
    backend: Backend, *, examples: int = 40, steps: int = 30, shrink: bool | None = None
) -> None:
    """Look for a difference between a backend's driver and the model. Raises AssertionError.

    What is printed is the first example that was found. With `shrink`, or `STATEHOLD_SHRINK=1` in
    the environment, the shortest one is looked for, which takes minutes and would look like a hanging
    test. `STATEHOLD_SEED` plays the examples of a run again; a failure says which that was. Otherwise each
    run has others, unless Hypothesis's profile says `derandomize`.
    """
    given = os.environ.get("STATEHOLD_SEED")
    other = 1 if settings().derandomize else random.randrange(2**32)
    number = other if given is None else int(given)
    if shrink is None:
        shrink = os.environ.get("STATEHOLD_SHRINK", "0") != "0"

    @seed(number)
    class Machine(DriverMachine):
        """One of several on the same data: its clock begins where that of the last one was furthest, and later."""

        passed = 0.0

        def __init__(self) -> None:
            super().__init__(backend, passed=Machine.passed)

        def teardown(self) -> None:
            super().teardown()
            Machine.passed = self.furthest + APART

    try:
        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=rounds(examples),
                stateful_step_count=steps,
                deadline=None,
                database=None,
                phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
                report_multiple_bugs=False,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )
    except Exception as error:
        if broken(error) is None and not isinstance(error, AssertionError):
            vars(error)["promise"] = 9  # an error that no call may raise while the store is up
        error.add_note(
            f"The same examples again: STATEHOLD_SEED={number}."
            + ("" if shrink else " The shortest one, in minutes: STATEHOLD_SHRINK=1 besides.")
        )
        raise
