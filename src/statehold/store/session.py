"""`AsyncSession`: one read and one commit around a block."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Generic

from statehold.commits import Revision
from statehold.errors import Unavailable
from statehold.state import S


class AsyncSession(Generic[S]):
    """One read and one commit around a block, as `AsyncCollection.session` makes it.

    `read` gives the state; `commit` writes what was done to it, and gives the revision and whether its
    op id was a repeat. If it is `lenient`, a store that cannot answer `commit` is no error.
    """

    __slots__ = ("_commit", "_lenient", "_read", "state")

    state: S

    def __init__(
        self,
        read: Callable[[], Coroutine[Any, Any, S]],
        commit: Callable[[S], Coroutine[Any, Any, tuple[Revision, bool]]],
        *,
        lenient: bool,
    ) -> None:
        self._read = read
        self._commit = commit
        self._lenient = lenient

    async def __aenter__(self) -> S:
        self.state = await self._read()
        return self.state

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        state = self.state
        if kind is None and state.pending:
            try:
                state._done = await self._commit(state)
            except Unavailable:
                if not self._lenient:
                    raise
