"""`AsyncStore` and `Store`: a backend, opened. Each of the two gives the other over the same backend.

The core is asynchronous. For synchronous callers it runs in their thread; what a driver that suspends
is asked goes to an event loop in a thread of its own, the portal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from statehold.backends import open_for_tasks, open_for_threads
from statehold.clock import Clock, SystemClock
from statehold.driver import Driver, Swept
from statehold.engine import BlockingClock, WaitingClock, run_now
from statehold.errors import Invalid
from statehold.schema import Lifetime
from statehold.state import S
from statehold.store.collection import AsyncCollection
from statehold.store.names import checked
from statehold.store.opened import DRAIN_SECONDS, SWEEP_SECONDS, Opened
from statehold.store.outcomes import Committed
from statehold.store.sync import Collection
from statehold.store.together import Step, apply_together
from statehold.store.turns import NoTurns

if TYPE_CHECKING:
    from statehold.middleware.bridge import Run
    from statehold.portal import Portal
    from statehold.store.sharing import Sharing


class AsyncStore(Opened):
    """A backend, opened. Its collections hold the states of one class each.

    `async with AsyncStore.open("sqlite:///state.db") as store: …` closes it at the end.
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        super().__init__(driver, clock=clock)
        self._sharing: Sharing | None = None

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **settings: object) -> AsyncStore:
        """The store at this URL: `memory://`, `sqlite:///state.db?synchronous=FULL` and so on.

        Concurrent commits are gathered where the backend profits from it. Raises `ConfigError`, or
        `Unavailable` or `NotAStore` where opening already shows it.
        """
        return cls(open_for_tasks(url, **settings), clock=clock)

    def collection(self, cls: type[S], *, tenant: str = "") -> AsyncCollection[S]:
        """The states of a class, in a tenant's namespace; tenants never see each other's."""
        tenant = checked(tenant, "tenant", empty=True)
        found = cast("AsyncCollection[S] | None", self._collections.get((cls, tenant)))
        if found is None:
            if not hasattr(cls, "__schema__"):
                raise Invalid("a collection is of a subclass of State", field="cls", found=cls)
            if not cls.__schema__.fields:
                raise Invalid(f"{cls.__name__} has no fields to keep", field="cls", found=cls)
            layout = cls.__schema__.layout()
            known = self._kinds.setdefault(layout.kind, layout)
            difference = known.difference(layout)
            if difference is not None:
                raise Invalid(
                    f"kind {layout.kind!r} was opened with another definition ({difference}): give "
                    "one of the two another kind, or open the store anew",
                    field="kind",
                    found=cls,
                )
            found = self._collections[cls, tenant] = AsyncCollection(self, cls, tenant)
        return found

    async def apply_together(
        self, *steps: Step, op: str | None = None, since: float | None = None
    ) -> list[Committed[Any]]:
        """All of these steps stand or none does; what became of each, in their order.

        For example::

            await store.apply_together(
                chats.step("c1", Chat.messages.append(answer)),
                users.step("ann", User.credits.add(-1), where=User.credits.at_least(1)),
                op=request_id,
            )

        Each is of another state, and says its own `expect`, `epoch` and the like. `op` is an
        idempotency key of all of them, with `since` as in `apply`: sent again, none is applied twice.

        Raises what `apply` does, for the first step that is barred: `error.key` is its state, and
        nothing is written to any. `InDoubt` if one of the states has forgotten what another knows
        was done. `Unsupported` where the backend cannot (`Feature.TOGETHER`).
        """
        return await apply_together(self, steps, op, since)

    def blocking(self) -> Store:
        """A `Store` over the same backend, for synchronous callers of other threads.

        Both may be used at once; op ids and kinds are known to both. It is asked for in the event
        loop that the store is used in. There nobody may call it: whatever the backend,
        `WrongThread` is raised where a call would wait for the loop that it stops. Closing it
        ends nothing but its own use; once this store is closed, or its loop has ended, it raises
        `Closed`.
        """
        return _blocking(self._shared())

    def asynchronous(self) -> AsyncStore:
        """An `AsyncStore` over the same backend, for the tasks of any event loop in any thread.

        Otherwise like `blocking`: both may be used at once, and this store is the one to close. Both
        are methods of both stores, so that whoever is given one need not ask which it is.
        """
        return _asynchronous(self._shared())

    def _shared(self) -> Sharing:
        from statehold.portal import Guest
        from statehold.store.sharing import Sharing

        return self._sharing or Sharing(self, self.driver, self.clock, Guest())

    def _part(self) -> None:
        """The store that this one shares with has ended: nothing is gathered over their driver."""
        if self._sharing is not None:
            self._sharing.end(self.driver)


class Store:
    """A backend, opened for synchronous callers; the same names and parameters as `AsyncStore`.

    Safe for several threads. `with Store.open("sqlite:///state.db") as store: …`

    A process that is forked off may go on using it where the backend allows that: it gets
    connections of its own.
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self._driver = driver
        self._portal: Portal | None = None
        self._sharing: Sharing | None = None
        if driver.suspends:
            from statehold.middleware.bridge import Blocking
            from statehold.portal import Portal  # and with it asyncio, which others do without

            portal = self._portal = Portal(driver.close)
            self._begin(Blocking(driver, portal.run, portal.close), clock, portal.run)
        else:
            self._begin(driver, clock, None)

    def _begin(self, driver: Driver, clock: Clock | None, run: Run | None) -> None:
        """Take this driver, which never suspends, and a clock that does not either."""
        self._clock = BlockingClock() if clock is None or type(clock) is SystemClock else clock
        waiting = self._clock
        if run is not None and not isinstance(waiting, BlockingClock):
            waiting = WaitingClock(waiting, run)
        self._async = AsyncStore(driver, clock=waiting)
        self._async._turns = NoTurns()

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **settings: object) -> Store:
        """The store at this URL: `memory://`, `sqlite:///state.db?synchronous=FULL` and so on.

        `settings` are those of the backend, `clock` is what it tells time by. Commits of
        threads are gathered where each would be a flush to disk. Raises `ConfigError`, or `Unavailable` or `NotAStore` where opening already shows it. More: `AsyncStore.open`.
        """
        return cls(open_for_threads(url, **settings), clock=clock)

    @property
    def driver(self) -> Driver:
        """The driver that answers."""
        return self._driver

    @property
    def clock(self) -> Clock:
        """The clock by which it tells time."""
        return self._clock

    def collection(self, cls: type[S], *, tenant: str = "") -> Collection[S]:
        """The states of a class, in a tenant's namespace; tenants never see each other's.

        Asking again for the same `cls` and `tenant` costs little. Raises `Invalid` for what is no State class, or
        another class of the same kind. More: `AsyncStore.collection`.
        """
        return Collection(self._async.collection(cls, tenant=tenant))

    def apply_together(
        self, *steps: Step, op: str | None = None, since: float | None = None
    ) -> list[Committed[Any]]:
        """All of these steps stand or none does; what became of each, in their order.

        `steps` are made by `collection.step`, each of another state. `op` is an idempotency key of all of them
        (with `since`, when it was first sent). Raises what `apply` does for the first step that is barred
        (`error.key`), and `Unsupported` where the backend cannot. More: `AsyncStore.apply_together`.
        """
        return run_now(self._async.apply_together(*steps, op=op, since=since))

    def blocking(self) -> Store:
        """A `Store` over the same backend, for synchronous callers of other threads.

        Both may be used at once; this store is the one to close. More: `AsyncStore.blocking`.
        """
        return _blocking(self._shared())

    def asynchronous(self) -> AsyncStore:
        """An `AsyncStore` over the same backend, for the tasks of any event loop in any thread.

        Both may be used at once; this store is the one to close. More: `AsyncStore.asynchronous`.
        """
        return _asynchronous(self._shared())

    def _shared(self) -> Sharing:
        if self._sharing is None:
            from statehold.store.sharing import Sharing

            self._sharing = Sharing(self._async, self._driver, self._clock, self._portal)
        return self._sharing

    def check(self) -> None:
        """Raise `Unavailable` unless the store can answer now.

        It raises `Closed` after the store was closed, `ConfigError` where the backend is not as it has to
        be. More: `AsyncStore.check`.
        """
        run_now(self._async.check())

    def sweep(self, timeout: Lifetime = SWEEP_SECONDS, *, after: str | None = None) -> Swept:
        """Clear away what has ended, of every kind and tenant; how many states, and where to go on.

        After about `timeout` (a time span or seconds, 10 s by default) it ends; what it returns has `after`,
        from which another call goes on, or None where everything was looked at. Raises `Invalid` for a
        `timeout` that is not over 0. More: `AsyncStore.sweep`.
        """
        return run_now(self._async.sweep(timeout, after=after))

    def drain(self, timeout: Lifetime = DRAIN_SECONDS) -> bool:
        """Finish the calls that are under way; new ones are `Closed`. Whether that was done in time.

        Calls of other threads are waited for, at most `timeout` (10 s by default); leases are given back.
        `close` is still to come. More: `AsyncStore.drain`.
        """
        return run_now(self._async.drain(timeout))

    def close(self) -> None:
        """Everything is released. Closing twice is fine; using it afterwards is `Closed`.

        Calls of other threads that are under way end with `Closed`; `drain` finishes them first. More:
        `AsyncStore.close`.
        """
        try:
            run_now(self._async.close())
        finally:
            if self._portal is not None:  # which somebody else may be closing
                self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _blocking(sharing: Sharing) -> Store:
    driver, clock, run = sharing.for_threads()
    store = Store.__new__(Store)
    store._driver, store._portal, store._sharing = sharing.driver, None, sharing
    store._begin(driver, clock, run)
    _join(store._async, sharing)
    return store


def _asynchronous(sharing: Sharing) -> AsyncStore:
    driver, clock = sharing.for_tasks()
    store = AsyncStore(driver, clock=clock)
    _join(store, sharing)
    return store


def _join(store: AsyncStore, sharing: Sharing) -> None:
    store._join(sharing.owner)
    store._sharing = sharing
