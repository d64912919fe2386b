"""Column types: how names, times, JSON and arrays lie in each database.

In Python a name is `str`, a time is epoch seconds (`float`), an array is little-endian float64
`bytes`. JSON is what the engine makes of it: text for the driver, whose engine leaves JSON alone,
Python objects for queries through an engine of one's own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, LargeBinary, Text
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeDecorator, TypeEngine

NAME_BYTES: Final = 512
"""Maximum size of an id, a tenant, a subject or an entry's name, in bytes."""

OP_BYTES: Final = 1024
"""Maximum size of an op id, in bytes."""

LAST_MOMENT: Final = 253_402_300_799.0
"""The last second of the year 9999, which is as late as all databases and Python count."""


def escaped(name: str) -> str:
    r"""The name for PostgreSQL, whose text cannot hold NUL: `\` is `\\` and NUL is `\0`."""
    if "\\" in name or "\0" in name:
        return name.replace("\\", "\\\\").replace("\0", "\\0")
    return name


def unescaped(text: str) -> str:
    """The name behind `escaped(name)`."""
    if "\\" not in text:
        return text
    return "\\".join(part.replace("\\0", "\0") for part in text.split("\\\\"))


class Name(TypeDecorator[str]):
    """Any text up to `size` bytes, compared byte by byte.

    PostgreSQL: `TEXT COLLATE "C"`, escaped. MariaDB and MySQL: `VARBINARY`, since their text
    collations fold cases or spaces and two such columns would be too long for one index. SQLite:
    TEXT.
    """

    impl = Text
    cache_ok = True

    def __init__(self, size: int = NAME_BYTES) -> None:
        super().__init__()
        self.size = size

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TEXT(collation="C"))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.VARBINARY(self.size))
        return dialect.type_descriptor(Text())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None:
            return None
        if dialect.name == "postgresql":
            return escaped(value)
        return value.encode() if dialect.name in ("mysql", "mariadb") else value

    def process_result_value(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if dialect.name == "postgresql":
            return unescaped(value)
        return value.decode() if isinstance(value, bytes) else str(value)


class Moment(TypeDecorator[float]):
    """A time in epoch seconds; in the database a timestamp in UTC with microseconds.

    SQLite keeps the seconds as they are (REAL). Times after the year 9999 are its last second.
    """

    impl = Double
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.DATETIME(fsp=6))
        return dialect.type_descriptor(Double())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name == "sqlite":
            return value.timestamp() if isinstance(value, datetime) else value
        if not isinstance(value, datetime):
            value = datetime.fromtimestamp(min(value, LAST_MOMENT), UTC)
        return value if dialect.name == "postgresql" else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        if not isinstance(value, datetime):
            return value
        return (value if dialect.name == "postgresql" else value.replace(tzinfo=UTC)).timestamp()


class Json(JSON):
    """JSON as text that stays as it was written.

    SQLite would make numbers of a column declared JSON, so it is TEXT there.
    """

    cache_ok = True


@compiles(Json)  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _declared(_type: Json, _compiler: Any, **_: Any) -> str:
    return "JSON"


@compiles(Json, "sqlite")  # type: ignore[no-untyped-call, untyped-decorator, unused-ignore]
def _declared_in_sqlite(_type: Json, _compiler: Any, **_: Any) -> str:
    return "TEXT"


class Floats(TypeDecorator[bytes]):
    """An array of float64: `double precision[]` in PostgreSQL, little-endian bytes elsewhere."""

    impl = LargeBinary
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name == "postgresql":
            numbers: TypeEngine[float] = Double()
            return dialect.type_descriptor(postgresql.ARRAY(numbers))
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(mysql.LONGBLOB())
        return dialect.type_descriptor(LargeBinary())

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        if value is None or dialect.name != "postgresql":
            return value
        return list(struct.unpack(f"<{len(value) // 8}d", value))

    def process_result_value(self, value: Any, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        if value is None or isinstance(value, bytes):
            return value
        return struct.pack(f"<{len(value)}d", *value)


def number_type() -> TypeEngine[int]:
    """64 bits. SQLite gives out row ids only in what is declared INTEGER."""
    return BigInteger().with_variant(Integer(), "sqlite")


def _text() -> TypeEngine[Any]:
    large = mysql.LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin")
    return Text().with_variant(large, "mysql", "mariadb")


def _bytes() -> TypeEngine[Any]:
    return LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")


ColumnType: TypeAlias = Literal[
    "text", "int", "float", "bool", "json", "bytes", "vector", "array", "nothing"
]
"""What a column holds."""

NATIVE: Final[Mapping[ColumnType, type]] = {"text": str, "int": int, "float": float, "bool": bool}
"""What is no JSON, and of which type it is in Python; there a JSON null is NULL, noted in `nulls`."""

COLUMN_TYPES: Final[dict[str, Callable[[], TypeEngine[Any]]]] = {
    "text": _text,
    "int": number_type,
    "float": Double,
    "bool": Boolean,
    "json": lambda: Json(none_as_null=True),
    "object": lambda: Json(none_as_null=True).with_variant(
        postgresql.JSONB(none_as_null=True), "postgresql"
    ),
    "bytes": _bytes,
    "array": Floats,
}
"""What a column that holds this is declared as."""

ARGUMENT_TYPES: Final = {
    "text": "text",
    "int": "bigint",
    "float": "double precision",
    "bool": "boolean",
    "json": "text",
    "bytes": "bytea",
    "vector": "text",
}
"""What an argument of a statement of PostgreSQL is declared as that carries values for a column."""
