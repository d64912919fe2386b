"""What a snapshot does not show, since it was not asked for: whole fields, and single entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Self

from statehold.changes import Scalar
from statehold.errors import Invalid


class Unread(frozenset[str]):
    """The fields that were not asked for; and of others, `entries`, which of theirs were."""

    entries: Mapping[str, frozenset[str]] = {}

    @classmethod
    def of(cls, fields: Iterable[str], entries: Mapping[str, Iterable[str]]) -> Self:
        """Not these fields, and only these entries of others."""
        made = cls(fields)
        made.entries = {name: frozenset(some) for name, some in entries.items()}
        return made

    def __bool__(self) -> bool:
        return bool(len(self) or self.entries)


class SomeEntries(Mapping[str, Scalar]):
    """Entries of which only those that were asked for may be looked at.

    Of another one nobody knows here whether the store has it: it is not absent, it was not read.
    """

    __slots__ = ("_asked", "_entries", "_name")

    def __init__(self, name: str, entries: Mapping[str, Scalar], asked: frozenset[str]) -> None:
        self._name = name
        self._entries = entries
        self._asked = asked

    def __getitem__(self, entry: str) -> Scalar:
        if entry not in self._asked:
            raise Invalid(
                f"{self._name}: this entry was not among those asked for", field=self._name
            )
        return self._entries[entry]

    def __iter__(self) -> Iterator[str]:
        return (entry for entry in self._entries if entry in self._asked)

    def __len__(self) -> int:
        return sum(1 for _ in self)
