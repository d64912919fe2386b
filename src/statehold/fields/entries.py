"""What the fields of many named entries share: names, bounds, what happens past them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any, ClassVar, Final, Generic, Literal, TypeAlias, TypeVar
from uuid import UUID

from statehold.changes import Scalar, said_of
from statehold.codec import MAX_ENTRY_BYTES, NameCodec, Undecodable
from statehold.commits import Is
from statehold.errors import SchemaError
from statehold.fields.base import Edit, Edits, Field, Operation, Snapshot, bound, flag, positive
from statehold.formats import type_name

K = TypeVar("K")
View = TypeVar("View", covariant=True)

Past: TypeAlias = Literal["refuse", "drop_lowest"]
"""What becomes of a new key past `keep`. "refuse": nothing, it is `TooLarge`. "drop_lowest": the key
that comes first in the order of names is dropped, which may be the new one."""

IN_ORDER: Final = (str, date, UUID)
"""Types of keys whose names are in the order of the keys, so that the lowest is the one expected."""


class EntriesField(Field[View], Generic[View, K]):
    """What the fields of many entries share: named entries, at most `keep` of them."""

    keyed: ClassVar = True

    def __init__(
        self, names: Any, *, keep: int, max_bytes: int, past: Past = "refuse", **options: Any
    ) -> None:
        super().__init__(**options)
        self._names_type = names
        self.keep = keep
        self.max_bytes = max_bytes
        self._past = past
        self._dropping = past == "drop_lowest"

    def check(self) -> None:
        """Raise `SchemaError` unless bounds, keys and `past` as declared can be."""
        super().check()
        bound(self.keep)
        positive(self.max_bytes, "max_bytes")
        past, names = self._past, self._names_type
        if past not in ("refuse", "drop_lowest"):
            raise SchemaError(
                f'past must be "refuse" or "drop_lowest", not {past!r:.40}', found=past
            )
        if self._dropping and self.by_ttl:
            raise SchemaError("keep=BY_TTL has no bound past which the lowest could be dropped")
        if self._dropping and names not in IN_ORDER:
            raise SchemaError(
                f'past="drop_lowest" needs keys that are str, date or UUID, not {type_name(names)}: '
                "the names of others are not in their order, as 10 is before 9 in text; use str",
                expected=IN_ORDER,
                found=names,
            )

    def ready(self) -> None:
        """Make what encodes the keys."""
        self._names = NameCodec(self._names_type, self.name)

    def entry_bytes(self) -> int:
        """The maximum size of one entry, its name included, in bytes."""
        return MAX_ENTRY_BYTES + self.max_bytes + self.mark_bytes

    def read_entries(self, state: Snapshot) -> Iterator[tuple[K, str, Scalar]]:
        """(key, entry, raw value) of all entries whose names can be read."""
        for entry, raw in state._cell_entries(self.stored).items():
            key = self.read_name(state, entry, raw)
            if key is not None:
                yield key[0], entry, raw

    def read_name(self, state: Snapshot, entry: str, raw: Scalar) -> tuple[K] | None:
        """The key of this entry in a tuple; None if it cannot be read, noted as corrupted on the state."""
        try:
            return (self._names.decode(entry),)
        except Undecodable as error:
            state._corrupt(self.name, entry, raw, str(error))
            return None

    def entry_of(self, key: K) -> str:
        """What the entry of this key is called in the store.

        Raises `Invalid` for a key that is not of the declared type.
        """
        return self._names.encode(key)

    def key_from_json(self, value: Any) -> K:
        """The key that a JSON value, or the text of an object's key, stands for.

        Raises `Invalid`.
        """
        key: K = self._names.from_json(value)
        return key

    def drop(self, key: K) -> Edit:
        """The key's entry is gone, if there was one; other keys keep theirs.

        An edit for `apply`. Raises `Invalid` for a key that is not of the declared type.
        """
        return self.drops(self._names.encode(key))

    def lacks(self, key: K) -> Is:
        """The condition (`where=`) that there is no entry of this key.

        Where it does not hold, the commit is a `Conflict` and nothing is written.
        """
        return self.condition(self._names.encode(key), None)

    def clear(self) -> Edit:
        """Every entry is gone. An edit for `apply`; an empty field stays empty."""
        return self.drops()

    def _drop_all(self, keys: Any) -> Edit:
        self.refuse_unless(isinstance(keys, list), "drop takes a list of keys", keys)
        edits = [self.drop(self._names.from_json(key)) for key in keys]
        return together(edits)

    def _pairs(self, payload: Any, what: str) -> Iterator[tuple[Any, Any]]:
        self.refuse_unless(isinstance(payload, dict), f"{what} takes an object", payload)
        for key, value in payload.items():
            yield self._names.from_json(key), value

    def _removals(self) -> dict[str, Operation]:
        names = {"type": "array", "items": self.key_schema()}
        return {"drop": Operation(self._drop_all, names), "clear": flag(self, self.clear)}

    def key_schema(self) -> dict[str, Any]:
        """The JSON Schema of a key: a string where keys are stored as they are, else nothing is said."""
        return {"type": "string"} if self._names.plain else {}


def together(edits: Iterable[Edit]) -> Edits:
    """The edits as one, in this order."""
    kept = list(edits)

    def at(now: float) -> Iterator[Any]:
        for edit in kept:
            if isinstance(edit, Edits):
                yield from edit.at(now)
            else:
                yield edit

    said: list[object] | None = []
    for edit in kept:
        of_one = edit.said if isinstance(edit, Edits) else [said_of(edit)]
        said = None if said is None or of_one is None else [*said, *of_one]
    return Edits(at, said)
