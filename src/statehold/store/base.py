"""What a collection, its sessions, its steps and its leases go through to the driver."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from statehold.clock import AMBIENT
from statehold.commits import EVERYTHING, Commit, Key, Want
from statehold.driver import Outcome, Written, told
from statehold.errors import NOTHING_WRITTEN, Unavailable
from statehold.schema import Schema
from statehold.state import Home, S
from statehold.store.asking import Asking
from statehold.store.opened import Opened
from statehold.store.outcomes import error_of


class CollectionBase(Generic[S]):
    """The states of one class in one tenant of an open store: how they are asked for and written."""

    def __init__(
        self, store: Opened, cls: type[S], tenant: str, *, home: Home | None = None
    ) -> None:
        self.store = store
        self.cls = cls
        self.tenant = tenant
        self.schema: Schema = cls.__schema__
        self.home = home or Home(store.clock, store.driver)
        self._driver = store.driver
        self._ambiguous = store.driver.ambiguous
        self._now = store.clock.now
        self._kind = self.schema.kind
        renew = self.schema.renew
        self._all = EVERYTHING if renew is None else Want(renew=renew)
        self._asking = Asking(self.schema, self.home, store.driver, tenant, store._doubts)
        self._left = 0  # calls until a turn may be due; none while the kind is not open
        self._open = False

    async def _ready(self) -> None:
        self._left = await self.store._ready(self.schema.layout() if not self._open else None)
        self._open = True

    async def _send(self, commits: Sequence[Commit], *, repeatable: bool = False) -> list[Outcome]:
        """The outcomes. With `repeatable`, some op ids are the caller's, who may send them again."""
        try:
            if not repeatable:
                return told(await self._driver.commit(commits, self._now()))
            return await self._send_noted(commits)
        except Unavailable as error:
            if len(commits) == 1:
                error.key = commits[0].key
            raise

    async def _send_noted(self, commits: Sequence[Commit]) -> list[Outcome]:
        """The outcomes; that it failed is remembered for when they are sent again."""
        doubts, began = self.store._doubts, AMBIENT.monotonic()
        try:
            outcomes = told(await self._driver.commit(commits, self._now()))
        except NOTHING_WRITTEN:
            raise
        except BaseException as error:  # also when cancelled, and then whatever the driver is
            if self._ambiguous or not isinstance(error, Exception):
                doubts.note(commits, began)
            raise
        for commit, outcome in zip(commits, outcomes, strict=True):
            if isinstance(outcome, Written):
                doubts.settle(commit)
        return outcomes

    def _written(self, key: Key, outcome: Outcome) -> Written:
        if isinstance(outcome, Written):
            return outcome
        raise error_of(self.schema, key, outcome)
