"""From a record to a token that is short enough, with what it spills."""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from statehold.changes import Cell
from statehold.driver import Layout, Refused
from statehold.drivers.token import budget as budgets
from statehold.drivers.token import format as wire
from statehold.drivers.token.budget import Rules
from statehold.drivers.token.format import Form
from statehold.drivers.token.record import Record, pack_cell
from statehold.drivers.token.ring import KeyRing
from statehold.drivers.token.spill import Spill, digest
from statehold.errors import ConfigError


class Sealer:
    """Writes tokens within a budget."""

    def __init__(
        self, ring: KeyRing, form: Form, rules: Rules, spill: Spill | None, max_bytes: int
    ) -> None:
        self._ring = ring
        self._form = wire.sealed if form == "sealed" else wire.signed
        self._rules = rules
        self._spill = spill
        self._max_bytes = max_bytes
        self.sealed = self.trimmed = self.spilled = 0

    def write(self, record: Record) -> str:
        """The record's token, however long."""
        self.sealed += 1
        return self._form(record, self._ring, self._max_bytes)

    async def fit(
        self, record: Record, layout: Layout | None, now: float
    ) -> tuple[Record, str] | Refused:
        """The record as it can be carried, with its token; what is to be kept elsewhere is."""
        token = self.write(record)
        limit = self._rules.budget
        if len(token) > limit and self._rules.trim:
            trimmed = budgets.trim(record, token, self._rules, layout, self.write)
            record, token = trimmed.record, trimmed.token
            self.trimmed += trimmed.items
        moved: dict[str, Cell] = {}
        kept = tuple(record.spilled.values())
        if len(token) > limit and self._spill is not None:
            for name in budgets.to_spill(self._rules, record):
                moved[name] = cell = record.fields[name]
                record = msgspec.structs.replace(
                    record,
                    fields={n: c for n, c in record.fields.items() if n != name},
                    spilled={**record.spilled, name: digest(pack_cell(cell))},
                )
                token = self.write(record)
                if len(token) <= limit:
                    break
        if len(token) > limit:
            return budgets.refusal(record.fields | moved, len(token), limit)
        if self._spill is not None and (moved or kept):
            await self._spill.save(record, moved, kept, now)
            self.spilled += len(moved)
        return record, token

    async def load(self, record: Record, names: Collection[str], now: float) -> dict[str, Cell]:
        """The cells of these spilled fields, as far as they are still there."""
        if not names:
            return {}
        if self._spill is None:
            raise ConfigError("token: fields were spilled, and no spill is configured")
        return await self._spill.load(record, names, now)

    async def renew(self, record: Record, now: float) -> str:
        """The token of a record that lives longer than it did, and so does what it spilled."""
        if self._spill is not None and record.spilled:
            await self._spill.save(record, {}, record.spilled.values(), now)
        return self.write(record)

    async def erase(self, record: Record, now: float) -> None:
        """What the record spilled is gone."""
        if self._spill is not None and record.spilled:
            await self._spill.erase(record, now)
