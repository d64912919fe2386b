"""What all fields share: a descriptor, the edits it makes, how it reads, what it costs at most."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    Any,
    ClassVar,
    Final,
    Generic,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    overload,
)

import msgspec

from statehold.changes import (
    Accumulate,
    Add,
    Append,
    Change,
    Drop,
    Items,
    Put,
    Scalar,
    Splice,
    said_of,
)
from statehold.codec import BytesCodec, Codec, Undecodable, codec_of
from statehold.commits import Is
from statehold.driver import FieldLayout
from statehold.errors import Invalid, SchemaError

V = TypeVar("V", covariant=True)

VALUE_BYTES = 64 * 1024
"""Maximum size of one value, in bytes, by default."""

BY_TTL: Final = 2**24 - 1
"""As `keep`: as many as come until the state expires, for a class that has a `ttl` or `max_age`.

This number is what drivers are told as the bound: the most that every backend can hold of a field."""

NUMBER_BYTES = 24
"""What a number may take in a store that keeps it as text."""


class Edits:
    """Several changes made by one call, or changes that depend on the time of the commit."""

    __slots__ = ("at", "said")
    field: ClassVar = ""

    def __init__(
        self, at: Callable[[float], Iterable[Change]], said: Sequence[object] | None = None
    ) -> None:
        self.at = at
        """The changes, given the time in epoch seconds."""
        self.said = said
        """The things that were asked for, without that time; None if that cannot be said."""

    @classmethod
    def of(cls, changes: Iterable[Change]) -> Edits:
        """Edits of these changes, which do not depend on the time."""
        kept = tuple(changes)
        return cls(lambda _now: kept, [said_of(change) for change in kept])


Edit: TypeAlias = Put | Drop | Add | Accumulate | Append | Splice | Edits
"""What a field's methods return and `apply` takes."""


class Snapshot(Protocol):
    """What a field needs of a state: cells to read, and where to record what is done."""

    def _cell_entries(self, field: str) -> Mapping[str, Scalar]: ...
    def _cell_items(self, field: str) -> Items: ...
    def _record(self, edit: Edit) -> None: ...
    def _corrupt(self, field: str, entry: str | int, raw: Scalar, reason: str) -> None: ...
    def _now(self) -> float: ...


class Operation(msgspec.Struct, frozen=True):
    """One thing that can be done to a field from JSON: how, and the schema of what it takes."""

    make: Callable[[Any], Edit]
    schema: dict[str, Any]


class Field(Generic[V]):
    """A part of a state. As a class attribute it makes edits; on an instance it reads as a view.

    For users are its view and what makes edits and conditions; `codec`, `drops`, `layout` and the
    like are for the package. What cannot be as it was declared is a `SchemaError` once the class is
    defined, since only then it has a name.

    `stored_as` is the name under which it is kept, so that an attribute can be renamed without
    moving data. `version` is raised, with `upcast` for each older one, when the values' type
    changes: `upcast[1]` makes a JSON value of version 2 out of one of version 1, and so on.
    """

    field: ClassVar[str]
    """The kind of field, as in TOML and in the layout."""
    makes: ClassVar[frozenset[type]]
    """The changes that it may make."""
    first_wins: ClassVar[bool] = False
    """Whether the first value of an entry stands; an older version's then comes before a newer's."""
    keyed: ClassVar[bool] = False
    """Whether it has entries that can be read one by one, by their keys."""
    raw: ClassVar[bool] = False
    """Whether its values are bytes and numbers that JSON upcasters cannot read."""

    name: str = ""
    stored: str = ""
    """The name in its changes: an object of its own, which says that this field made them."""
    asked: str = ""
    """The same in its conditions, which are no changes."""
    keep: int = 1
    max_bytes: int = VALUE_BYTES
    mark_bytes: int = 0
    """What a stored value may have beyond that: one byte, where it is raw."""

    def __init__(
        self,
        *,
        stored_as: str | None = None,
        version: int = 1,
        upcast: Mapping[int, Callable[[Any], Any]] | None = None,
    ) -> None:
        self._stored_as = stored_as
        self.version = version
        self.upcast = dict(upcast or {})

    def __set_name__(self, owner: type, name: str) -> None:
        if self.name == name:
            return  # another class has it too, and what one makes is the other's
        if self.name:
            raise SchemaError(f"{name}: this field is {self.name} already", field=name)
        self.name = name
        try:
            self._named()
        except SchemaError as error:
            said = str(error).removeprefix(f"{name}: ")
            raise SchemaError(
                f"{owner.__name__}: {name}: {said}",
                field=name,
                expected=error.expected,
                found=error.found,
            ) from error

    def _named(self) -> None:
        self.check()
        base = self._stored_as or self.name
        if "@" in base:
            raise SchemaError("stored_as must not contain '@'", found=base)
        names = [own_text(stored_name(base, n)) for n in range(self.version, 0, -1)]
        self.stored, *older = names
        self.older = tuple(older)
        self.asked = own_text(self.stored)
        self.ready()

    def check(self) -> None:
        """Raise `SchemaError` unless the field can be as it was declared.

        The error then gets the field's name.
        """
        version = positive(self.version, "version")
        if set(self.upcast) != set(range(1, version)):
            raise SchemaError(f"version {version} needs upcast for each of 1…{version - 1}")
        if self.upcast and self.raw:
            raise SchemaError(f"a {self.field} holds no JSON values to upcast")

    def ready(self) -> None:
        """Make what depends on the field's name. Called once, when its class is defined."""

    def codec(self, kind: Any) -> Codec:
        """What encodes the field's values of this type, which may be raw bytes."""
        made = codec_of(kind, self.name, self.max_bytes)
        self.mark_bytes = int(isinstance(made, BytesCodec))
        return made

    # ----------------------------------------------------------------------------------- descriptor

    @overload
    def __get__(self, obj: None, owner: type[Any]) -> Self: ...
    @overload
    def __get__(self, obj: Snapshot, owner: type[Any]) -> V: ...
    def __get__(self, obj: Snapshot | None, owner: type[Any]) -> Any:
        return self if obj is None else self.view(obj)

    def __set__(self, obj: Snapshot, value: Any) -> None:
        if getattr(value, "_field", None) is self and getattr(value, "_state", None) is obj:
            return  # the end of `state.tags |= …`: the view has recorded it
        raise AttributeError(f"{self.name} is changed through its methods, not assigned to")

    @abstractmethod
    def view(self, state: Snapshot) -> V:
        """The field as it reads on this state."""
        raise NotImplementedError

    # -------------------------------------------------------------------------------------- as JSON

    @abstractmethod
    def to_json(self, state: Snapshot) -> Any:
        """What msgspec encodes as the field's JSON."""
        raise NotImplementedError

    @abstractmethod
    def json_schema(self) -> dict[str, Any]:
        """The schema of `to_json`."""
        raise NotImplementedError

    @abstractmethod
    def operations(self) -> dict[str, Operation]:
        """What can be done to the field from JSON, by name."""
        raise NotImplementedError

    def upcasted(self, value: Any, version: int) -> Any:
        """The JSON value of an older version as one of this version."""
        for number in range(version, self.version):
            value = self.upcast[number](value)
        return value

    # --------------------------------------------------------------------------------- what it costs

    def bytes_at_most(self) -> int:
        """The maximum of bytes of names and values that the field can hold, older versions included.

        Not to be asked of a field that is `by_ttl`.
        """
        return self.keep * self.entry_bytes() * self.version

    @property
    def by_ttl(self) -> bool:
        """Whether nothing but the end of the state bounds it, so that there is no such maximum."""
        return self.keep == BY_TTL

    def entry_bytes(self) -> int:
        """The maximum size of one entry or item, in bytes."""
        return self.max_bytes + self.mark_bytes

    def values(self) -> object:
        """The Python type of the values; `bytes` for raw ones."""
        return bytes

    def layout(self) -> FieldLayout:
        """What a driver may know of the field."""
        names = frozenset(make.__name__.lower() for make in self.makes)
        size = self.max_bytes + self.mark_bytes
        return FieldLayout(self.stored, self.field, names, self.values(), self.keep, size)

    # ------------------------------------------------------------------------- its single entries

    def entry_of(self, key: Any) -> str:  # noqa: ARG002  whose field has entries
        """What the entry of this key is called in the store.

        Raises `Invalid` for a key that is not of the field's type, or a field without entries.
        """
        raise Invalid(
            f"{self.name}: a {self.field} has no entries to be read one by one", field=self.name
        )

    def key_schema(self) -> dict[str, Any]:
        """The JSON Schema of a key, as far as one tells."""
        return {}

    def key_from_json(self, value: Any) -> Any:
        """The key that a JSON value, or the text of an object's key, stands for.

        Raises `Invalid`.
        """
        return value

    # --------------------------------------------------------------------------------------- helpers

    def drops(self, entry: str | None = None) -> Edit:
        """The edit that removes an entry, or everything (None), in older versions of the field too."""
        if not self.older:
            return Drop(self.stored, entry)
        return Edits.of(Drop(name, entry) for name in (self.stored, *self.older))

    def condition(
        self,
        entry: str | None,
        value: Scalar | None,
        *,
        absent: bool = False,
        least: bool = False,
    ) -> Is:
        """That this is what stands there.

        Raises `Invalid` for a field that older versions share.
        """
        self.refuse_unless(
            not self.older, f"is of version {self.version}: no condition can see the older ones"
        )
        return Is(self.asked, entry, value, absent, least)

    def refuse_unless(self, condition: bool, message: str, found: object = None) -> None:
        """Raise `Invalid`, with the field's name before the message, unless the condition holds."""
        if not condition:
            raise Invalid(f"{self.name}: {message}", field=self.name, found=found)


def flag(field: Field[Any], make: Callable[[], Edit]) -> Operation:
    """An operation that takes `true`."""

    def checked(value: Any) -> Edit:
        field.refuse_unless(value is True, f"takes true, not {value!r:.40}", value)
        return make()

    return Operation(checked, {"const": True})


def stored_name(base: str, version: int) -> str:
    """The name of the cell that holds a field's values of one version."""
    return base if version == 1 else f"{base}@{version}"


def own_text(text: str) -> str:
    """The text as an object that nothing else has, whoever has the same text.

    So the name in a change says which field made it, at no cost: see `Schema.changes`. Of each of
    the first 256 characters CPython has one text that it shares, but not where it has changed the
    case.
    """
    if len(text) > 1 or text > "\xff":
        return f"{text} "[:-1]
    lower = text.lower()
    return lower if lower == text else text.upper()


def positive(value: object, what: str) -> int:
    """A bound. Raises `SchemaError` unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise SchemaError(
            f"{what} must be a whole number of at least 1, not {value!r}", found=value
        )
    return value


def bound(keep: object) -> int:
    """The `keep` of a field. Raises `SchemaError`."""
    try:
        return positive(keep, "keep")
    except SchemaError as error:
        raise SchemaError(
            f"{error}; statehold.BY_TTL keeps as many as come until the state expires", found=keep
        ) from None


def decoded(
    state: Snapshot, field: Field[Any], entry: str | int, raw: Scalar, decode: Callable[[Any], Any]
) -> tuple[Any] | None:
    """The decoded value in a tuple, or None, noted as corrupted on the state."""
    try:
        return (decode(raw),)
    except Undecodable as error:
        state._corrupt(field.name, entry, raw, str(error))
        return None


__all__ = [
    "BY_TTL",
    "NUMBER_BYTES",
    "VALUE_BYTES",
    "Edit",
    "Edits",
    "Field",
    "Operation",
    "Snapshot",
    "bound",
    "decoded",
    "flag",
    "own_text",
    "positive",
    "stored_name",
]
