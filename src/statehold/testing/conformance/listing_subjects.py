"""Promise 8: states that are about several subjects, or about nobody any more."""

from __future__ import annotations

from typing import Any

import pytest

from statehold.changes import Add, Append, Put
from statehold.commits import ABSENT, EVERYTHING, MOST_SUBJECTS, About, Want, subjects_of
from statehold.driver import Feature, Scan, Written
from statehold.testing.commits import KIND
from statehold.testing.conformance.base import Cases, need
from statehold.testing.promises import promise
from statehold.testing.rig import Rig

LONG = tuple(f"{n}{'é' * 255}" for n in range(MOST_SUBJECTS))
"""As many subjects as there may be, each as long as may be."""
ODD: tuple[tuple[str, ...], ...] = (
    ("ann", "bob"),
    ("bob", "ann"),
    ("", "a"),
    ("a\x00", "b"),
    ("a", "\x00b"),
    ('["ann","bob"]', "]"),
    ("ann,bob", ","),
    ("3:ann", "\\0"),
    ("é\n'\"", "%", "*"),
    LONG,
)
TENDER = b"about whom it was"


class Subjects(Cases):
    """By whom states are found that are about several."""

    @promise(8)
    def test_a_state_about_several_is_found_by_each(self, rig: Rig) -> None:
        """A state may be about 8 subjects: each of them finds it, once, and nobody else does."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        rig.open_kind("other")
        for n, about in enumerate(ODD):
            rig.write(id=f"{n}", subject=about)
            rig.write(id=rig.key(f"{n}", kind="other"), subject=about)
            rig.write(id=rig.key(f"{n}", tenant="x"), subject=about)
        rig.write(id="alone", subject="ann")
        rig.write(id="looks alike", subject='["ann","bob"]')
        rig.write(id="nobody's")
        for n, about in enumerate(ODD):
            assert rig.stands(f"{n}").subject == about
        for subject in {one for about in ODD for one in about}:
            for newest in (False, True):
                found = rig.ids(subject=subject, newest=newest, limit=2)
                wanted = [f"{n}" for n, about in enumerate(ODD) if subject in about]
                wanted += ["alone"] if subject == "ann" else []
                wanted += ["looks alike"] if subject == ODD[5][0] else []
                assert sorted(found) == wanted, repr(subject)
        assert rig.stands("alone").subject == "ann"
        assert rig.stands("nobody's").subject is None

    @promise(8)
    def test_a_commit_says_all_whom_a_state_is_about(self, rig: Rig) -> None:
        """A commit replaces all subjects, or leaves them as they are; refused ones count not."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        steps: tuple[About, ...] = (
            ("ann", "run 1"),
            ("ann", "run 2"),
            ("run 2", "ann"),
            "ann",
            ("bob", "run 3", "run 4"),
            "run 4",
            ("run 4", "run 3"),
            (),
            ("ann", "run 1"),
            (),
            "bob",
            (),
        )
        for about in steps:
            rig.write(subject=about)
            _is_about(rig, about)
            rig.write(Add("sum", "k", 1))
            rig.try_(Put("map", "k", b'"x"', bound=0), subject=("eve", "run 9"))
            rig.try_(Put("map", "k", b'"x"', bound=0), subject=())
            _is_about(rig, about)
        rig.write(id="b", subject=())
        assert rig.stands("b").subject is None

    @promise(8)
    def test_the_last_of_a_call_says_whom_it_is_about(self, rig: Rig) -> None:
        """Of several commits in one call the last one that says whom the state is about counts."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        told: tuple[About | None, ...] = (("ann", "bob"), None, "run 1", ("run 1", "run 2"), ())
        for last in range(1, len(told) + 1):
            commits = [rig.commit(Add("sum", "k", 1), subject=about) for about in told[:last]]
            rig.run(rig.driver.commit(commits, rig.now))
            stands = [about for about in told[:last] if about is not None][-1]
            _is_about(rig, stands)
            begun = [rig.commit(subject=("eve", "bob")), rig.commit(erase=True), *commits]
            rig.run(rig.driver.commit([*begun, rig.commit(id="other")], rig.now))
            _is_about(rig, stands)

    @promise(8)
    def test_a_state_about_several_ends_for_all(self, rig: Rig) -> None:
        """Erased or expired, no subject finds it, and the next life is about none of them."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        about = ("ann", "run 1", "run 2")
        for ttl in (None, 2.0):
            rig.write(Add("sum", "k", 1), id="stays", subject=about)
            rig.write(Append("log", (b'"a"',), 3), ttl=ttl, subject=about, op=f"op {ttl}")
            assert rig.ids(subject="run 2") == ["a", "stays"]
            if ttl is None:
                rig.erase()
            else:
                rig.wait(2.5)
            for subject in about:
                assert rig.ids(subject=subject) == ["stays"], subject
                assert rig.ids(subject=subject, newest=True) == ["stays"], subject
            for next_one, found in ((None, None), ("run 1", "run 1"), (("run 2", "x"),) * 2):
                rig.write(subject=next_one)
                assert rig.stands().subject == found
                for subject in about:
                    wanted = ["a", "stays"] if subject in subjects_of(next_one) else ["stays"]
                    assert rig.ids(subject=subject) == wanted, (subject, next_one)
                rig.erase()

    @promise(8)
    def test_whom_it_is_about_outlives_its_deadline_moving(self, rig: Rig) -> None:
        """Every subject finds a state whose end is moved, to never or back, by commits or reads."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        about = ("ann", "run 1")
        rig.write(subject=about)
        for ttl in (9.0, None, 5.0, 9.0):
            rig.write(Add("sum", "k", 1), ttl=ttl)
            _is_about(rig, about)
            rig.write(subject=about[::-1], ttl=ttl)
            rig.write(subject=about, ttl=None if ttl else 9.0)
            _is_about(rig, about)
        unit = rig.unit
        for renewal in (9.0 * unit, None, 9.0 * unit):
            rig.read(want=Want(renew=(renewal, None)))
            _is_about(rig, about)

    @promise(8)
    def test_whom_it_is_about_is_shown_by_every_read(self, rig: Rig) -> None:
        """All subjects are told whatever else is read, and by what a commit returns."""
        need(rig, Feature.SUBJECT)
        about: About = ("ann", "run 1")
        revision = rig.write(
            Add("sum", "k", 1), Append("log", (b'"a"',), 3), subject=about
        ).revision
        wants = (
            EVERYTHING,
            Want(fields=()),
            Want(fields=("sum",)),
            Want(fields=("log",), tail=0),
            Want(unless=(revision,)),
            Want(entries={"sum": ("k",)}),
            Want(after=0),
        )
        for want in wants:
            cells = rig.read(want=want)
            assert cells is not None
            assert cells.subject == about, want
        need(rig, Feature.RETURNING)
        for n, told in enumerate((None, ("bob", "ann", "run 1"), None, "bob", ())):
            outcome = rig.write(subject=told, returning=EVERYTHING, op=f"{n}")
            again = rig.write(subject=told, returning=EVERYTHING, op=f"{n}")
            about = about if told is None else told
            for shown in (outcome.returned, again.returned):
                assert shown is not None
                assert subjects_of(shown.subject) == subjects_of(about)
                assert shown.subject != ()

    @promise(8)
    def test_prefixes_and_pages_of_one_among_several(self, rig: Rig) -> None:
        """A subject's listing takes those about it alone and those about others too in one order."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        names = [f"{'ab'[n % 2]}{n:02}" for n in range(14)]
        for n, name in enumerate(names):
            rig.write(id=name, subject=("run", "ann") if n % 3 else "ann")
            rig.wait(0.01)
        for limit in (1, 4, 14, 100):
            assert rig.ids(subject="ann", limit=limit) == sorted(names)
            assert rig.ids(subject="ann", newest=True, limit=limit) == names[::-1]
            some = [name for name in names if name[0] == "a"]
            assert rig.ids(subject="ann", prefix="a", limit=limit) == some
            found = rig.ids(subject="ann", prefix="a", newest=True, limit=limit)
            assert found == some[::-1]
            run = [name for n, name in enumerate(names) if n % 3]
            assert rig.ids(subject="run", newest=True, limit=limit) == run[::-1]

    @promise(8)
    @pytest.mark.parametrize("about", ["ann", ("ann", "bob")], ids=["one", "several"])
    def test_what_begins_anew_is_listed_at_most_once(self, rig: Rig, about: About) -> None:
        """A state that was listed, and is deleted and begun anew, does not come again in the same listing."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        ids = "abcdef"
        for id in ids:
            rig.write(Add("sum", "k", 1), id=id, subject=about)
        found: list[str] = []
        cursor: str | None = None
        for _ in range(20 * len(ids)):
            asked = Scan(rig.tenant, KIND, "ann", cursor=cursor, limit=1)
            page = rig.run(rig.driver.scan(asked, rig.now))
            for key in page.keys:
                found.append(key[2])
                rig.erase(key[2])
                rig.write(Add("sum", "k", 1), id=key[2], subject=about)
            cursor = page.cursor
            if cursor is None:
                break
        assert sorted(found) == sorted(set(found)), f"listed twice: {found}"

    @promise(8)
    def test_several_subjects_survive_reopening(self, rig: Rig) -> None:
        """All subjects of a state find it after a restart."""
        need(rig, Feature.SCAN, Feature.SUBJECT, Feature.DURABLE)
        rig.write(subject=("ann", "run 1"))
        rig.reopen()
        _is_about(rig, ("ann", "run 1"))
        rig.write(subject=())
        rig.reopen()
        _is_about(rig, ())

    @promise(8)
    def test_a_conflict_leaves_the_subjects(self, rig: Rig) -> None:
        """A commit that is refused, or a repeated one, makes the state about nobody else."""
        need(rig, Feature.SCAN, Feature.SUBJECT)
        rig.write(subject=("ann", "run 1"), op="op")
        options: list[dict[str, Any]] = [{"op": "op"}]
        if rig.has(Feature.EXPECT):
            options.append({"expect": ABSENT})
        for some in options:
            for said in ("eve", ("eve", "run 2"), ()):
                rig.try_(subject=said, **some)
                _is_about(rig, ("ann", "run 1"))
                assert rig.ids(subject="eve") == []

    @promise(12)
    def test_nothing_is_left_of_the_subjects(self, rig: Rig) -> None:
        """Whom an erased state was about is stored nowhere, nor whom one is not about any more."""
        need(rig, Feature.SUBJECT)
        if rig.backend.raw is None:
            pytest.skip("the backend has no hook `raw`")
        who = (f"{TENDER.decode()}, first", f"{TENDER.decode()}, second")
        rig.write(subject=who)
        assert TENDER in rig.backend.raw(), "the hook `raw` must show what is stored"
        assert isinstance(rig.erase(), Written)
        rig.write(id="b", subject=who)
        rig.write(id="b", subject="ann")
        rig.write(id="c", subject=who)
        rig.write(id="c", subject=())
        rig.write(id="d", subject=who, ttl=2)
        rig.wait(2.5)
        for n in range(300):
            rig.write(Add("sum", "k", 1), id=f"busy {n % 5}")
        assert TENDER not in rig.backend.raw(), "whom a state was about is still stored"


def _is_about(rig: Rig, about: About) -> None:
    """The state "a" is about these, and of all subjects of the cases only they find it."""
    assert rig.stands().subject == (None if about == () else about)
    for subject in ("ann", "bob", "eve", "run 1", "run 2", "run 3", "run 4"):
        wanted = ["a"] if subject in subjects_of(about) else []
        assert rig.ids(subject=subject) == wanted, (subject, about)
        assert rig.ids(subject=subject, newest=True) == wanted, (subject, about)
