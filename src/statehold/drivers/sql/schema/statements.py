"""Statements made once for a table, since making one costs more than running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from sqlalchemy import Table

T = TypeVar("T")

MOST: Final = 256
"""Of one table. What a service writes has a few forms."""


def kept(table: Table, form: tuple[Any, ...], make: Callable[[], T]) -> T:
    """The statement of this form on the table, made if it is new.

    SQLAlchemy keeps with a statement what it takes to find it compiled, too.
    """
    statements: dict[tuple[Any, ...], T] = table.info.setdefault("statehold", {})
    found = statements.get(form)
    if found is None:
        if len(statements) >= MOST:
            statements.clear()
        found = statements[form] = make()
    return found
