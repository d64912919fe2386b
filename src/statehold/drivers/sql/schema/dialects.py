"""What the databases do differently, each difference a name here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import (
    ColumnElement,
    Double,
    Table,
    cast,
    func,
    literal,
    literal_column,
    text,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from statehold.drivers.sql.schema.statements import kept
from statehold.drivers.sql.schema.types import Moment

Rows: TypeAlias = Sequence[Mapping[str, Any]]


class Dialect(msgspec.Struct, frozen=True):
    """One kind of database as the portable path needs to know it."""

    name: str
    """As SQLAlchemy calls it."""
    driver: str
    """The `dialect+driver` of its URL."""
    own_clock: bool = True
    """Whether the database's clock decides expiry; else the caller's does, on the same machine."""
    locks_rows: bool = True
    """Whether `FOR UPDATE` and `SKIP LOCKED` exist; else a writer has the database to itself."""
    waits_for_new: bool = False
    """Whether who locks rows waits for one that is not committed yet; else it is as if not there."""
    escapes: bool = False
    """Whether names are escaped (see `types.escaped`), keys of JSON objects too."""
    spaces_json: bool = False
    """Whether JSON objects come back with blanks in them."""

    keeps_minus_zero: bool = True
    """Whether -0.0 comes back as it was; else it is noted in the column `nulls`."""

    cancels: bool = True
    """Whether a statement can be cancelled; else it goes on in its thread, and its call with it."""

    def clock(self) -> ColumnElement[float]:
        """The database's time now, in epoch seconds."""
        if self.name == "postgresql":
            return cast(func.extract("epoch", func.clock_timestamp()), Double())
        micros = func.timestampdiff(text("MICROSECOND"), "1970-01-01", func.utc_timestamp(6))
        return type_coerce(micros / literal_column("1e6"), Double())

    def moment(self, now: float, later: float = 0.0) -> ColumnElement[float]:
        """The time now, or seconds later, to be compared with a column of times.

        `now` is the caller's.
        """
        if self.name == "postgresql":
            moment = func.statement_timestamp(type_=Moment())
            return (
                type_coerce(moment + text(f"interval '{later:g} seconds'"), Moment())
                if later
                else moment
            )
        if self.name == "mysql":
            moment = func.utc_timestamp(6, type_=Moment())
            if later:
                return func.timestampadd(text("SECOND"), later, moment, type_=Moment())
            return moment
        return literal(now + later, Moment())

    def insert(self, table: Table) -> Any:
        """An INSERT that may say what happens when the row exists."""
        make: Any = {"postgresql": postgresql, "mysql": mysql, "sqlite": sqlite}[self.name]
        return kept(table, ("insert", self.name), lambda: make.insert(table))

    def insert_missing(self, table: Table, unique: Sequence[str]) -> Insert:
        """An INSERT that leaves rows alone which exist, and waits for those under way."""
        form = ("missing", self.name, *unique)
        return kept(table, form, lambda: self._insert_missing(table, unique))

    def _insert_missing(self, table: Table, unique: Sequence[str]) -> Insert:
        statement = self.insert(table)
        if self.name == "mysql":  # INSERT IGNORE would hide other errors
            column = table.c[unique[0]]
            return statement.on_duplicate_key_update({column.name: column})  # type: ignore[no-any-return]
        return statement.on_conflict_do_nothing(index_elements=list(unique))  # type: ignore[no-any-return]

    def upsert(
        self, table: Table, unique: Sequence[str], columns: Sequence[str], *, latest: str = ""
    ) -> Insert:
        """An INSERT of `unique` and `columns` that sets the columns where the row exists.

        The column `latest` stays as it is there if that is the greater value.
        """
        form = ("upsert", self.name, *unique, "", *columns, latest)
        return kept(table, form, lambda: self._upsert(table, unique, columns, latest))

    def _upsert(
        self, table: Table, unique: Sequence[str], columns: Sequence[str], latest: str
    ) -> Insert:
        statement = self.insert(table)
        comes = statement.inserted if self.name == "mysql" else statement.excluded
        setting = {name: comes[name] for name in columns}
        if latest:
            greatest = func.max if self.name == "sqlite" else func.greatest
            setting[latest] = greatest(table.c[latest], comes[latest])
        if self.name == "mysql":
            return statement.on_duplicate_key_update(setting)  # type: ignore[no-any-return]
        return statement.on_conflict_do_update(  # type: ignore[no-any-return]
            index_elements=list(unique), set_=setting
        )


POSTGRESQL: Final = Dialect("postgresql", "postgresql+asyncpg", escapes=True, spaces_json=True)
# asyncmy rather than aiomysql: aiomysql 0.3 cannot send bytes with PyMySQL 1.2, on which it stands,
# while asyncmy has its own protocol in C, is released often, and closes a connection whose call was
# cancelled half-way.
MYSQL: Final = Dialect(
    "mysql", "mysql+asyncmy", waits_for_new=True, spaces_json=True, keeps_minus_zero=False
)
SQLITE: Final = Dialect(
    "sqlite",
    "sqlite+aiosqlite",
    own_clock=False,
    locks_rows=False,
    keeps_minus_zero=False,
    cancels=False,
)

SCHEMES: Final[Mapping[str, Dialect]] = {
    "postgresql": POSTGRESQL,
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "sqlite+sql": SQLITE,
}

__all__ = ["MYSQL", "POSTGRESQL", "SCHEMES", "SQLITE", "Dialect", "Rows"]
