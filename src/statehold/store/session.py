"""`AsyncSession`: one read and one commit around a block."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic

from statehold.errors import Unavailable
from statehold.state import S

if TYPE_CHECKING:
    from statehold.store.collection import AsyncCollection


class AsyncSession(Generic[S]):
    """One read and one commit around a block."""

    __slots__ = ("_collection", "_exclusive", "_id", "_read", "_write", "state")

    state: S

    def __init__(
        self,
        collection: AsyncCollection[S],
        id: str,
        read: dict[str, Any],
        write: dict[str, Any],
        exclusive: bool,
    ) -> None:
        self._collection = collection
        self._id = id
        self._read = read
        self._write = write
        self._exclusive = exclusive

    async def __aenter__(self) -> S:
        self.state = await self._collection.get(self._id, **self._read)
        return self.state

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pending = self.state.pending
        if kind is None and pending:
            write = self._write.copy()
            if self._exclusive and write["expect"] is None:
                write["expect"] = self.state._revision()
            try:
                state = self.state
                state._done = await self._collection._computed(self._id, pending, write)
            except Unavailable:
                if self._read["on_failure"] != "default":
                    raise
