"""Vectors that PostgreSQL searches by likeness, with its extension pgvector.

A field asks for it, and gets it where the database has the extension, or lets it be made. Everywhere
else the column has the bytes. What a column has become it stays, until a migration converts it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import msgspec
from sqlalchemy import Connection, LargeBinary, Text, cast, func, text
from sqlalchemy.dialects import mysql
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeDecorator, TypeEngine, UserDefinedType

from statehold.errors import ConfigError, Invalid

if TYPE_CHECKING:
    from statehold.driver import FieldLayout, Layout

MOST_NUMBERS: Final = 16_000
"""Which a vector of pgvector may have."""

LACKS: Final = "has no pgvector, at least on the search path"

MAKE: Final = "CREATE EXTENSION IF NOT EXISTS vector"

_THERE = text("SELECT to_regtype('vector') IS NOT NULL")

_encode: Final = msgspec.json.Encoder().encode


class _Vector(UserDefinedType[Any]):
    """PostgreSQL's `vector(dim)`, sent as text and received as what its own clients get in bytes."""

    cache_ok = True

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def get_col_spec(self, **_: Any) -> str:
        return f"vector({self.dim})"

    def bind_expression(self, bindvalue: Any) -> Any:
        return cast(cast(bindvalue, Text()), self)

    def column_expression(self, colexpr: Any) -> Any:
        return func.vector_send(colexpr, type_=colexpr.type)


class _Bytea(UserDefinedType[Any]):
    """PostgreSQL's `bytea`. Reading it fails if a migration has made a vector of the column."""

    cache_ok = True
    render_bind_cast = True

    def get_col_spec(self, **_: Any) -> str:
        return "BYTEA"

    def column_expression(self, colexpr: Any) -> Any:
        return cast(colexpr, self)


class Floats32(TypeDecorator[bytes]):
    """The little-endian bytes of float32, as a `vector` of PostgreSQL if `dim` is not 0.

    In a query it takes a sequence of numbers, too.
    """

    impl = LargeBinary
    cache_ok = True

    def __init__(self, dim: int = 0) -> None:
        super().__init__()
        self.dim = dim

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return _Vector(self.dim) if self.dim else _Bytea()
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.LONGBLOB())
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or isinstance(value, str):
            return value
        raw = value if isinstance(value, bytes) else _floats(value).tobytes()
        return as_text(raw) if self.dim and dialect.name == "postgresql" else raw

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if isinstance(value, bytes) and self.dim and dialect.name == "postgresql":
            return from_sent(value)
        return value


def _floats(numbers: Any) -> Any:
    import numpy as np  # which takes a while, and most have no vector

    return np.asarray(numbers, "<f4")


def as_text(raw: bytes) -> str:
    """What PostgreSQL takes for a vector, to the last bit."""
    import numpy as np

    return _encode(np.frombuffer(raw, "<f4").tolist()).decode()


def checked_text(field: str, dim: int, raw: bytes) -> str:
    """`as_text`. Raises `Invalid` for another length, and for what is not finite."""
    import numpy as np

    if len(raw) != 4 * dim:
        raise Invalid(
            f"{field}: its column holds {dim} float32, and these are {len(raw)} bytes",
            field=field,
            expected=4 * dim,
            found=len(raw),
        )
    if not np.isfinite(np.frombuffer(raw, "<f4")).all():
        raise Invalid(f"{field}: a vector that is searched holds finite numbers only", field=field)
    return as_text(raw)


def from_sent(sent: bytes) -> bytes:
    """Little-endian float32 of a vector as PostgreSQL sends it: two int16, then the numbers."""
    import numpy as np

    return np.frombuffer(sent, ">f4", offset=4).astype("<f4").tobytes()


def limited(layout: Layout) -> None:
    """Raise `ConfigError` for a field that asks for more than pgvector does."""
    for field in layout.fields:
        if field.dim is not None and field.dim > MOST_NUMBERS:
            raise ConfigError(
                f"{layout.kind}.{field.name}: pgvector has vectors of at most {MOST_NUMBERS} numbers,"
                f" and this has {field.dim}; declare it without searchable",
                field=field.name,
                expected=MOST_NUMBERS,
                found=field.dim,
            )


def asked(layout: Layout) -> list[FieldLayout]:
    """The fields that ask for vectors."""
    return [field for field in layout.fields if field.dim is not None]


def there(connection: Connection) -> bool:
    """Whether the database has the extension, where its search path finds it."""
    return connection.dialect.name == "postgresql" and bool(connection.execute(_THERE).scalar())


def to_be_had(connection: Connection, *, keep: bool) -> bool:
    """Whether it is there, or can be made; `keep` leaves it made.

    It is tried, since rights alone do not tell: what an extension asks for is in its own file, and
    services that run databases have rules of their own.
    """
    if there(connection):
        return True
    if connection.dialect.name != "postgresql":
        return False
    attempt = connection.begin_nested()
    try:
        connection.execute(text(MAKE))
        made = there(connection)
    except DBAPIError as error:
        if error.connection_invalidated:
            raise
        attempt.rollback()
        return False
    if keep and made:
        attempt.commit()
    else:
        attempt.rollback()
    return made


def tell(connection: Connection, kind: str, names: Iterable[str]) -> None:
    """Warn of fields that ask for vectors and lie as bytes."""
    listed = ", ".join(f"{kind}.{name}" for name in names)
    if not listed:
        return
    why = "the table was made without" if there(connection) else f"the database {LACKS}"
    warnings.warn(
        f"{listed}: kept as bytes, which cannot be searched by likeness: {why}; once it is there,"
        " run: statehold migrate --apply",
        RuntimeWarning,
        stacklevel=2,
    )
