"""The small numbers under which field names are stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from statehold.drivers.sqlite.schema import FIELD_MASK
from statehold.errors import Corrupted, Invalid


class FieldNames:
    """Field names and their numbers, as far as one process has met them. Numbers never change."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        """Those that are known."""
        self._names: dict[int, str] = {}
        self._fresh: list[str] = []

    def number(self, execute: Callable[..., sqlite3.Cursor], name: str) -> int:
        """The field's number, given within the transaction under way if it has none yet."""
        number = self.numbers.get(name)
        if number is not None:
            return number
        number = self.known(execute, name)
        if number is None:
            (newest,) = execute("SELECT max(number) FROM field").fetchone()
            number = (newest or 0) + 1
            if number > FIELD_MASK:
                raise Invalid(f"{name}: a file holds at most {FIELD_MASK} field names", field=name)
            execute("INSERT INTO field VALUES (?, ?)", (number, name))
            self._fresh.append(name)
            self._learn(number, name)
        return number

    def known(self, execute: Callable[..., sqlite3.Cursor], name: str) -> int | None:
        """The field's number, or None if nothing was ever stored under that name."""
        number = self.numbers.get(name)
        if number is None:
            row = execute("SELECT number FROM field WHERE name = ?", (name,)).fetchone()
            if row is not None:
                number = int(row[0])
                self._learn(number, name)
        return number

    def name(self, execute: Callable[..., sqlite3.Cursor], number: int) -> str:
        """The name of a stored field."""
        name = self._names.get(number)
        if name is None:
            row = execute("SELECT name FROM field WHERE number = ?", (number,)).fetchone()
            if row is None:
                raise Corrupted(f"field number {number} has no name")
            name = str(row[0])
            self._learn(number, name)
        return name

    def _learn(self, number: int, name: str) -> None:
        self.numbers[name] = number
        self._names[number] = name

    def kept(self) -> None:
        """The transaction stands, and the numbers given in it."""
        self._fresh.clear()

    def taken_back(self) -> None:
        """The transaction was rolled back, and the numbers given in it."""
        for name in self._fresh:  # an interrupt may have come before it was learnt
            self._names.pop(self.numbers.pop(name, 0), None)
        self._fresh.clear()
