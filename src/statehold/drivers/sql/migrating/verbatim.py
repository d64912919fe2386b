"""SQL as text, so that Alembic passes it on as it is."""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy.engine import Dialect

_PARAMETER = re.compile(r"(?<![:\w\\]):(?=\w)")


def verbatim(sql: str) -> str:
    """The statement with every `:name` in it told apart from a parameter."""
    return _PARAMETER.sub(r"\\:", sql)


def spelled(statement: Any, dialect: Dialect) -> str:
    """A statement with its values in it, as text that Alembic passes on as it is."""
    if isinstance(statement, str):
        return statement
    compiled = statement.compile(dialect=dialect, compile_kwargs={"literal_binds": True})
    return verbatim(str(compiled))
