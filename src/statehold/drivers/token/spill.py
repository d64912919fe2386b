"""Spilled fields: cells too large for the token, kept in a store under a handle in the token.

What is kept under a handle is never changed: a field that changes gets a new handle, so a token and
what it points to always belong together, and a response that is lost breaks nothing. The handle is
a digest of the content, checked when it is read, within the state's own life. What no token points
to any more goes with its expiry.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Final

from statehold.changes import Cell, Put
from statehold.commits import PRESENT, Commit, Key, Want
from statehold.driver import Conflicted, Driver, FieldLayout, Layout, Written
from statehold.drivers.token.record import Malformed, Record, pack_cell, unpack_cell
from statehold.drivers.token.registry import LEEWAY
from statehold.errors import Corrupted

KIND: Final = "token_spill"
_FIELD: Final = "cell"
_LAYOUT: Final = Layout(
    KIND,
    (FieldLayout(_FIELD, "blob", frozenset({"put", "drop"}), bytes, 1, 1 << 26),),
    8,
)


class Spill:
    """The spilled fields in a store, through its driver."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self._opened = False

    async def _ready(self) -> None:
        if not self._opened:
            await self.driver.open(_LAYOUT)
            self._opened = True

    async def load(self, record: Record, names: Iterable[str], now: float) -> dict[str, Cell]:
        """The cells of those of the names that are spilled; one that is gone is left out."""
        await self._ready()
        wanted = [name for name in names if name in record.spilled]
        keys = [_key(record, record.spilled[name]) for name in wanted]
        found = await self.driver.read(keys, Want(), now) if keys else []
        cells: dict[str, Cell] = {}
        for name, kept in zip(wanted, found, strict=True):
            if kept is None:
                continue
            cell = kept.fields.get(_FIELD)
            data = cell.get("") if isinstance(cell, dict) else None
            if isinstance(data, bytes) and digest(data) == record.spilled[name]:
                try:
                    cells[name] = unpack_cell(data)
                except Malformed:
                    continue
        return cells

    async def save(
        self, record: Record, cells: Mapping[str, Cell], kept: Iterable[str], now: float
    ) -> dict[str, str]:
        """The handles of the cells, kept as long as the record; `kept` handles are renewed."""
        await self._ready()
        ttl = None if record.deadline is None else max(0.0, record.deadline - now) + LEEWAY
        handles: dict[str, str] = {}
        commits: list[Commit] = []
        for name, cell in cells.items():
            data = pack_cell(cell)
            handles[name] = digest(data)
            put = Put(_FIELD, "", data, if_absent=True)
            commits.append(Commit(_key(record, handles[name]), (put,), ttl))
        commits += [Commit(_key(record, handle), (), ttl, expect=PRESENT) for handle in kept]
        for outcome in await self.driver.commit(commits, now):
            if not isinstance(outcome, Written | Conflicted):  # gone: reported when it is read
                raise Corrupted("spill: the store refuses a field", found=outcome)
        return handles

    async def erase(self, record: Record, now: float) -> None:
        """Nothing is kept for the record any more."""
        await self._ready()
        handles = record.spilled.values()
        commits = [Commit(_key(record, handle), (), None, erase=True) for handle in handles]
        await self.driver.commit(commits, now)


def digest(data: bytes) -> str:
    """The handle of a packed cell."""
    return sha256(data).hexdigest()[:40]


def _key(record: Record, handle: str) -> Key:
    return (record.key[0], KIND, f"{record.revision.incarnation:x}.{handle}")
