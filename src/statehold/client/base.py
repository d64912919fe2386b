"""What can be done with a state by its names and JSON."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import msgspec

from statehold.commits import ABSENT, PRESENT, Key, Revision
from statehold.errors import Invalid
from statehold.store.names import Subjects


class Applied(msgspec.Struct, frozen=True):
    """A commit stands: its revision, and whether its op id had been applied before."""

    revision: Revision
    repeated: bool = False


class Access(ABC):
    """States by name. A key is (tenant, kind, id); every method raises the library's errors."""

    @abstractmethod
    async def get(
        self,
        key: Key,
        *,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
        entries: Any = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> dict[str, Any] | None:
        """The state as JSON data, its fields under "fields"; None if it is not found.

        `entries`: by field the keys of single entries, as JSON data.
        """

    @abstractmethod
    async def commit(
        self,
        key: Key,
        changes: Mapping[str, Any],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: float | None = None,
    ) -> Applied:
        """The changes, by field and operation, stand all together. `ttl`: seconds from now on."""

    @abstractmethod
    async def delete(
        self,
        key: Key,
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
    ) -> bool:
        """The state is gone. False if it was not found."""

    @abstractmethod
    async def scan(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 500,
    ) -> tuple[list[str], str | None]:
        """Up to `limit` ids and the cursor to go on from, None at the end."""

    @abstractmethod
    async def page(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 100,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """Up to `limit` states, each as `get` shows it, and the cursor to go on from."""

    @abstractmethod
    async def check(self) -> None:
        """Raise unless the store can answer now."""

    @abstractmethod
    async def ops(self, kind: str) -> int | None:
        """How many op ids a state of this kind remembers; None if that cannot be known."""

    @abstractmethod
    async def close(self) -> None:
        """Everything is released."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


def expectation(text: str | None) -> Revision | None:
    """What "absent", "present" or a revision such as "1f.3" asks for. Raises `Invalid`."""
    if text is None:
        return None
    if text in {"absent", "present"}:
        return ABSENT if text == "absent" else PRESENT
    try:
        return Revision.parse(text)
    except ValueError as error:
        raise Invalid(
            f"expect: {error}; say absent, present or a revision", field="expect", found=text
        ) from None
