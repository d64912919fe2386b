"""`AsyncStore`: a backend, opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self
from weakref import WeakSet, WeakValueDictionary

from statehold.backends import open_for_tasks
from statehold.clock import AMBIENT, Clock, SystemClock
from statehold.driver import Driver, Layout
from statehold.errors import Closed, Invalid
from statehold.schema import Lifetime
from statehold.settings import duration
from statehold.state import S
from statehold.store.collection import AsyncCollection
from statehold.store.doubts import Doubts
from statehold.store.names import checked
from statehold.store.outcomes import Committed
from statehold.store.together import Step, apply_together
from statehold.store.turns import Turns

if TYPE_CHECKING:
    from statehold.store.lease import AsyncLease
    from statehold.store.sharing import Sharing
    from statehold.store.sync import Store


DRAIN_SECONDS: Final = 10.0
"""How long `drain` waits for calls that are under way, unless it is told."""


class AsyncStore:
    """A backend, opened. Its collections hold the states of one class each.

    `async with AsyncStore.open("sqlite:///state.db") as store: …` closes it at the end.
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self.driver: Driver = driver
        self.clock: Clock = clock or SystemClock()
        # Weak: there may be a tenant for each customer.
        self._collections: WeakValueDictionary[tuple[type, str], Any] = WeakValueDictionary()
        self._kinds: dict[str, Layout] = {}
        self._opened: set[str] = set()
        self._doubts = Doubts(driver)
        self._closed = False
        self._released = False
        self._turns = Turns()
        self._sharing: Sharing | None = None
        self._sharers: WeakSet[AsyncStore] = WeakSet()
        self._leases: WeakSet[AsyncLease] = WeakSet()  # those that are held

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
        found = self._collections.get((cls, tenant))
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
        return self._shared().blocking()

    def asynchronous(self) -> AsyncStore:
        """An `AsyncStore` over the same backend, for the tasks of any event loop in any thread.

        Otherwise like `blocking`: both may be used at once, and this store is the one to close. Both
        are methods of both stores, so that whoever is given one need not ask which it is.
        """
        return self._shared().asynchronous()

    def _shared(self) -> Sharing:
        from statehold.portal import Guest
        from statehold.store.sharing import Sharing

        return self._sharing or Sharing(self, self.driver, self.clock, Guest())

    async def check(self) -> None:
        """Raise `Unavailable` unless the store can answer now."""
        await self._ready()
        await self.driver.check(self.clock.now())

    async def _ready(self, layout: Layout | None = None) -> int:
        """Open the kind if it is not, and give others a turn. For how many calls that will do."""
        if self._closed:
            raise Closed("the store is closed")
        calls = await self._turns.take()
        if layout is not None and layout.kind not in self._opened:
            await self.driver.open(layout)
            self._opened.add(layout.kind)
        return calls

    async def drain(self, timeout: Lifetime = DRAIN_SECONDS) -> bool:  # noqa: ASYNC109  a limit
        """Finish the calls that are under way; new ones are `Closed`. Whether that was done in time.

        Nothing is cancelled; to close the store is still to be done, and ends what is left. What takes
        several calls, as a session does, ends with `Closed` where its next call would come. Leases
        that are held are given back, so that others need not wait for them to run out. Raises
        `Invalid` unless `timeout` is a time span or a number of seconds, over 0.
        """
        try:
            seconds = duration(timeout)
        except ValueError as error:
            raise Invalid(f"timeout: {error}", field="timeout", found=timeout) from None
        self._end_all()
        left = seconds
        began = AMBIENT.monotonic()
        for lease in [one for store in (self, *self._sharers) for one in store._leases]:
            if left > 0:
                await lease._give_back(self.driver)
                left = seconds - (AMBIENT.monotonic() - began)
        return await self.driver.drain(max(0.0, left))

    async def close(self) -> None:
        """Everything is released. Closing twice is fine; using it afterwards is `Closed`."""
        if not self._released:
            self._released = True
            self._end_all()
            for sharer in list(self._sharers):
                if sharer._sharing is not None:
                    sharer._sharing.end(sharer.driver)
            await self.driver.close()

    def _end_all(self) -> None:
        """Every call of this store, and of those that share with it, is `Closed` from now on."""
        self._end()
        for sharer in list(self._sharers):
            sharer._end()

    def _end(self) -> None:
        """Every call is `Closed` from now on."""
        self._closed = True
        for collection in list(self._collections.values()):
            collection._open, collection._left = False, 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
