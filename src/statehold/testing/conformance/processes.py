"""Promise 3 where processes begin and end: two drivers in one, one that looks, one forked off."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pytest

from statehold.changes import Add, Append
from statehold.driver import Driver, Feature, Written
from statehold.store import AsyncStore, Store
from statehold.testing.backend import Backend, rounds
from statehold.testing.children import REFUSED, in_fork
from statehold.testing.commits import TTL
from statehold.testing.conformance.base import Cases, need
from statehold.testing.face import visit
from statehold.testing.promises import promise
from statehold.testing.rig import Rig, Runner
from statehold.testing.twins import killed_and_checked


def write(rig: Rig, name: str, run: Runner | None = None) -> int:
    """Commit, and insist that it stands; how many."""
    run = run or rig.run
    for n in range(3):
        both = (Add("sum", "k", 1), Append("log", (f'"{name} {n}"'.encode(),), 99))
        commit = rig.commit(*both, ttl=None, op=f"{name} {n}")
        (outcome,) = run(run.driver.commit([commit], rig.now))
        assert isinstance(outcome, Written), f"a good commit was not written: {outcome}"
    return 3


class Processes(Cases):
    """Two drivers in one process, a process that only looks, and processes forked off."""

    @promise(3)
    @pytest.mark.parametrize("close", [False, True], ids=["second-open", "second-closed"])
    def test_two_drivers_in_one_process_lose_nothing(self, rig: Rig, close: bool) -> None:
        """What two drivers in one process acknowledge stays, whoever looks, and when it is killed."""
        need(rig, Feature.SHARED, Feature.DURABLE)
        killed_and_checked(rig, close=close, commits=rounds(10))

    @promise(3)
    def test_a_forked_process_works_or_is_refused(self, rig: Rig) -> None:
        """Forked after first use: child and grandchild work or are told; the parent goes on."""
        written = write(rig, "before")

        def in_child(driver: Driver, name: str, *, again: bool) -> Callable[[], Any]:
            def work() -> Any:
                run = Runner(lambda: driver)
                done = write(rig, name, run)
                if again:
                    below = in_fork(in_child(driver, f"{name}'s", again=False))
                    assert below != REFUSED, "a child works, and its own child is refused"
                    done += below
                    done += write(rig, f"{name} again", run)
                run.close()
                return done

            return work

        for name in ("child", "other child"):
            found = in_fork(in_child(rig.driver, name, again=True))
            if found != REFUSED and rig.has(Feature.SHARED):
                written += found
            written += write(rig, f"after the {name}")
        self._stand(rig, written)
        if rig.has(Feature.SHARED):
            self._stand(rig.another(), written)
        if rig.has(Feature.DURABLE):
            rig.reopen()
            self._stand(rig, written)

    def _stand(self, rig: Rig, written: int) -> None:
        fields = rig.fields()
        found = fields["sum"]["k"]
        assert found == written, f"{found} commits are there, {written} were acknowledged"
        assert len(set(fields["log"])) == written, "a commit is there by half, or twice"


class FaceProcesses(Cases):
    """Processes that begin and end, through the async and the sync API."""

    @promise(3)
    @pytest.mark.parametrize("name", ["async", "sync"])
    def test_a_store_used_before_a_fork_works_or_is_refused(
        self, backend: Backend, name: str
    ) -> None:
        """A store that was used before a fork works in the child or says that it cannot, in time."""
        driver = backend.open()
        use, close = _used(driver, name)

        def in_child() -> int:
            before = use(0)
            found = use(2) - before
            close()
            return found

        try:
            assert use(1) == 1
            shared = Feature.SHARED in driver.features
            total = 1
            for _ in range(2):
                added = in_fork(in_child)
                assert added in (2, REFUSED), f"2 commits of a forked process left {added}"
                if shared and added == 2:
                    total += 2
                total += 1
                found = use(1)
                assert found == total, f"{found} commits are there, {total} were acknowledged"
        finally:
            close()


def _used(driver: Driver, name: str) -> tuple[Callable[[int], int], Callable[[], None]]:
    """So many commits through one of the APIs, answered with how many there are now; and its end."""
    tenant = f"t{secrets.token_hex(6)}"
    cls = visit(TTL)
    add = cls.clicks.add(1)
    if name == "sync":
        store = Store(driver)
        visits = store.collection(cls, tenant=tenant)

        def use(times: int) -> int:
            for _ in range(times):
                visits.apply("a", add)
            return int(visits.get("a").clicks)

        return use, store.close

    astore = AsyncStore(driver)
    avisits = astore.collection(cls, tenant=tenant)

    async def use_it(times: int) -> int:
        for _ in range(times):
            await avisits.apply("a", add)
        return int((await avisits.get("a")).clicks)

    # An event loop each time, as the workers of a task queue have it.
    return lambda times: asyncio.run(use_it(times)), lambda: asyncio.run(astore.close())
