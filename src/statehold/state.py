"""`State`: a class that declares what is remembered; an instance is a snapshot that records."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar, Final, Literal, Self, TypeAlias, TypeVar

import msgspec

from statehold.changes import Append, Cell, Change, Entries, Items, Refusal, Scalar, Splice
from statehold.clock import Clock, SystemClock
from statehold.commits import ABSENT, EVERYTHING, Key, Revision, Want, subjects_of
from statehold.driver import Cells, Driver
from statehold.errors import Invalid, SchemaError
from statehold.fields.base import Edit, Field, positive
from statehold.schema import LIMIT_BYTES, OPS, Schema, refused
from statehold.settings import forever_or_duration, size
from statehold.unread import SomeEntries, Unread

_NO_ENTRIES: Final[Entries] = {}
_NO_ITEMS: Final = Items()
_UNSAID: Final = object()
_RESERVED: Final = frozenset(
    {"meta", "pending", "max_bytes", "kind", "to_json", "to_builtins", "id"}
)


Source: TypeAlias = Literal["store", "cache", "default", "new"]


class Home:
    """Where a snapshot comes from: the clock by which it reads, and what it counts there."""

    __slots__ = ("_clock", "_driver", "corrupted")

    def __init__(self, clock: Clock, driver: Driver | None = None) -> None:
        self._clock = clock
        self._driver = driver
        self.corrupted = 0
        """Values met that could not be decoded."""

    def now(self) -> float:
        """The time by the store's clock, so that clients whose clocks differ agree."""
        driver = self._driver
        return self._clock.now() if driver is None else self._clock.now() + driver.skew

    def __reduce__(self) -> tuple[type[Home], tuple[Clock]]:
        return Home, (self._clock,)  # what is copied or sent away leaves its store behind


_NOWHERE: Final = Home(SystemClock())
_NONE_OWN: Final[list[str]] = []
_NO_CHANGES: Final[list[Change]] = []
"""Of every state that nothing was done to: most are only read."""
_ALL_READ: Final[frozenset[str]] = frozenset()


class Corruption(msgspec.Struct, frozen=True):
    """A value that could not be decoded. It is left out of the field and kept in the store."""

    field: str
    entry: str | int
    """The entry's stored name, or the item's position."""
    raw: Scalar
    reason: str


class Meta(msgspec.Struct):
    """What is known about a snapshot beside its fields."""

    id: str
    revision: Revision
    """`ABSENT` if there was no such state."""
    exists: bool
    age: float
    """Seconds since its last commit, as of now; 0 if absent."""
    created: float | None
    updated: float | None
    expires: float | None
    """When it will be gone unless renewed, epoch seconds; None for never."""
    subject: str | None
    """Whom it is about; the foremost of `subjects`."""
    epoch: int
    source: Source
    """Where it came from: "default" when the store could not answer, "new" when made by hand."""
    degraded: bool
    """Whether it may lack what the store has."""
    missing: tuple[str, ...]
    """Fields that could not be had, or were not asked for."""
    corrupted: list[Corruption]
    """What could not be decoded, as far as fields were read until now, and the fields of which the
    store had lost a part."""
    newer: tuple[str, ...]
    """Fields that a newer version of this class has written, which this one cannot read."""
    committed: Revision | None = None
    """At which revision what was done in a session stands; None before its end, if nothing was
    done, or if the store could not answer and `on_failure` let that pass."""
    repeated: bool = False
    """Whether it had been done before under the session's idempotency key (`op`), so that nothing
    was written now, and what was seen in the session is not what stands."""
    subjects: tuple[str, ...] = ()
    """All whom it is about, the foremost first."""


class _StateType(type):
    """Gives state classes no `__dict__`, so that a misspelt field is an error, and `max_bytes`."""

    __schema__: Schema

    def __new__(
        mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
    ) -> _StateType:
        namespace.setdefault("__slots__", ())
        try:
            return super().__new__(mcs, name, bases, namespace, **options)
        except RuntimeError as error:  # so Python 3.11 wraps what `__set_name__` raises
            if isinstance(error.__cause__, SchemaError):
                raise error.__cause__ from None
            raise

    @property
    def max_bytes(cls) -> int:
        """The maximum of bytes of names and values that a state of this class can take.

        Raises `SchemaError` where there is none, as a field is kept `BY_TTL`.
        """
        most = cls.__schema__.max_bytes
        if most is None:
            name = cls.__schema__.by_ttl[0]
            raise SchemaError(
                f"{cls.__name__} has no worst case: {name} is kept BY_TTL", field=name
            )
        return most


class State(metaclass=_StateType):
    """Subclass it, and give it fields, to say what a service remembers.

    Class arguments:

    * `ttl`: timedelta or seconds from the last write until the state is gone; None for never.
      Required.
    * `max_age`: the maximum age of a state, however often it is renewed (default: no limit).
    * `renew_on_read`: whether reading renews it too (default: only writing does).
    * `kind`: the name under which it is stored (default: the class's name in snake_case).
    * `ops`: how many op ids (idempotency keys) a state remembers (default 128).
    * `limit_bytes`: the maximum of `max_bytes`, the worst case by its bounds (default 64 MiB);
      fields that are kept `BY_TTL` do not count.

    A subclass of a subclass inherits them, the kind aside, as it does the fields. Raises
    `SchemaError` when the class is defined if any of that cannot be.

    An instance is a snapshot: it shows what was read and at once what you do to it, and keeps what
    you did as changes in `pending`, to be committed as one. An instance made by calling the class
    is an absent state.
    """

    __slots__ = (
        "_cells",
        "_corrupted",
        "_done",
        "_home",
        "_key",
        "_own",
        "_seen",
        "_source",
        "_todo",
        "_unread",
    )
    __schema__: ClassVar[Schema]

    _cells: Cells | None
    _seen: dict[str, Cell]
    _done: tuple[Revision, bool] | None  # `committed` and `repeated` of `Meta`
    _own: list[str]
    _todo: list[Change]
    _home: Home
    _key: Key
    _unread: frozenset[str]
    _source: Source
    _corrupted: list[Corruption] | None

    def __init_subclass__(
        cls,
        *,
        ttl: Any = _UNSAID,
        max_age: Any = _UNSAID,
        renew_on_read: bool | None = None,
        kind: str | None = None,
        ops: int | None = None,
        limit_bytes: int | str | None = None,
        **rest: Any,
    ) -> None:
        super().__init_subclass__(**rest)
        inherited: Schema | None = getattr(cls, "__schema__", None)
        if inherited is not None:
            ttl = inherited.ttl if ttl is _UNSAID else ttl
            max_age = inherited.max_age if max_age is _UNSAID else max_age
            renew_on_read = inherited.renew is not None if renew_on_read is None else renew_on_read
            ops = inherited.ops if ops is None else ops
            limit_bytes = inherited.limit_bytes if limit_bytes is None else limit_bytes
        fields: dict[str, Field[Any]] = {}
        for base in reversed(cls.__mro__):
            for name, value in vars(base).items():
                if isinstance(value, Field):
                    fields[name] = value
                else:
                    fields.pop(name, None)
        for name in fields:
            if name in _RESERVED or name.startswith("_"):
                raise SchemaError(
                    f"{cls.__name__}: {name!r} cannot name a field, since every state has that of its own:"
                    f" {', '.join(sorted(_RESERVED))} and what begins with _ are taken (`stored_as` names"
                    " it as it is stored)",
                    field=name,
                )
        _refuse_annotations(cls, fields)
        if ttl is _UNSAID:
            raise SchemaError(
                f"{cls.__name__}: ttl is required: ttl=timedelta(…), or ttl=None to keep it for ever"
            )
        try:
            seconds = forever_or_duration(ttl)
            oldest = None if max_age is _UNSAID else forever_or_duration(max_age)
            limit = LIMIT_BYTES if limit_bytes is None else size(limit_bytes)
        except ValueError as error:
            raise SchemaError(f"{cls.__name__}: {error}") from error
        cls.__schema__ = Schema(
            cls.__name__,
            kind or _snake(cls.__name__),
            fields,
            seconds,
            oldest,
            bool(renew_on_read),
            OPS if ops is None else positive(ops, "ops"),
            limit,
        )

    def __init__(self) -> None:
        if type(self) is State:
            raise SchemaError("State is to be subclassed")
        self._key = ("", "", "")
        self._cells = None
        self._home = _NOWHERE
        self._unread = _ALL_READ
        self._source = "new"
        self._done = None
        self._own = _NONE_OWN
        self._corrupted = None
        self._todo = _NO_CHANGES
        self._seen = {}

    # ------------------------------------------------------------------------------ for the fields

    def _cell_entries(self, field: str) -> Mapping[str, Scalar]:
        cell = self._seen.get(field)
        if isinstance(cell, dict):
            return self._as_asked(field, cell) if self._unread else cell
        if cell is None:
            return self._as_asked(field, _NO_ENTRIES)
        self._corrupt(self._field_name(field), "", b"", "a list where entries should be")
        return _NO_ENTRIES

    def _as_asked(self, field: str, entries: Entries) -> Mapping[str, Scalar]:
        """The entries as far as they were asked for."""
        self._was_read(field)
        unread = self._unread
        if not isinstance(unread, Unread) or field not in unread.entries:
            return entries
        return SomeEntries(self._field_name(field), entries, unread.entries[field])

    def _cell_items(self, field: str) -> Items:
        cell = self._seen.get(field)
        if isinstance(cell, Items):
            if self._unread:
                self._was_read(field)
            return cell
        if cell is None:
            self._was_read(field)
        else:
            self._corrupt(self._field_name(field), "", b"", "entries where a list should be")
        return _NO_ITEMS

    def _was_read(self, field: str) -> None:
        if field in self._unread:
            name = self._field_name(field)
            raise Invalid(f"{name}: was not among the fields asked for", field=name)

    def _field_name(self, stored: str) -> str:
        field = type(self).__schema__.bases.get(stored.partition("@")[0])
        return stored if field is None else field.name

    def _now(self) -> float:
        return self._home.now()

    def _corrupt(self, field: str, entry: str | int, raw: Scalar, reason: str) -> None:
        found = Corruption(field, entry, raw, reason)
        if self._corrupted is None:
            self._corrupted = []
        if found not in self._corrupted:
            self._corrupted.append(found)
            self._home.corrupted += 1

    def _record(self, edit: Edit) -> None:
        changes = type(self).__schema__.changes((edit,), self._home)
        # One change leaves nothing behind when it is refused; several are tried on a copy.
        own = self._own if self._todo and len(changes) == 1 else []
        cells = self._seen if own is self._own else dict(self._seen)
        try:
            for change in changes:
                if isinstance(change, Append | Splice) and change.field not in own:
                    self._fork(cells, change.field, own)
                change.into(cells, own)
        except Refusal as refusal:
            raise refused(type(self).__schema__, self._key, refusal) from None
        self._seen = cells
        self._own = own
        if self._todo is _NO_CHANGES:
            self._todo = []
        self._todo.extend(changes)

    def _fork(self, cells: dict[str, Cell], field: str, own: list[str]) -> None:
        """Part from the list that the store goes on appending to."""
        cell = cells.get(field)
        if isinstance(cell, Items):
            cells[field] = cell.fork()
            own.append(field)

    def _revision(self) -> Revision:
        return ABSENT if self._cells is None else self._cells.revision

    # ----------------------------------------------------------------------------------- for people

    @property
    def pending(self) -> tuple[Change, ...]:
        """What was done to it since it was read, in order."""
        return tuple(self._todo)

    @property
    def meta(self) -> Meta:
        """What is known about this snapshot beside its fields."""
        cells = self._cells
        schema = type(self).__schema__
        committed, repeated = self._done or (None, False)
        if self._corrupted is None:
            self._corrupted = []
        degraded = self._source == "default"
        gone = self._unread if cells is None else self._unread.union(cells.corrupted)
        missing = tuple(n for n, f in schema.fields.items() if degraded or f.stored in gone)
        if cells is None:
            return Meta(
                id=self._key[2],
                revision=ABSENT,
                exists=False,
                age=0.0,
                created=None,
                updated=None,
                expires=None,
                subject=None,
                epoch=0,
                source=self._source,
                degraded=degraded,
                missing=missing,
                corrupted=self._corrupted,
                newer=(),
                committed=committed,
                repeated=repeated,
            )
        subjects = subjects_of(cells.subject)
        return Meta(
            id=self._key[2],
            revision=cells.revision,
            exists=True,
            age=max(0.0, self._now() - cells.updated),
            created=cells.created,
            updated=cells.updated,
            expires=cells.deadline,
            subject=subjects[0] if subjects else None,
            epoch=cells.epoch,
            source=cells.source,
            degraded=bool(cells.corrupted),
            missing=missing,
            corrupted=self._corrupted,
            newer=schema.newer(cells.fields),
            committed=committed,
            repeated=repeated,
            subjects=subjects,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields that were read, as something that msgspec encodes; values as they are stored.

        It holds `msgspec.Raw`, which other encoders do not know: for those there is `to_builtins`.
        """
        fields = type(self).__schema__.fields.items()
        return {n: field.to_json(self) for n, field in fields if field.stored not in self._unread}

    def to_builtins(self) -> dict[str, Any]:
        """The fields that were read, as plain Python data: what any JSON encoder takes."""
        plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self.to_json()))
        return plain

    def __copy__(self) -> Self:
        """The same snapshot with the same changes pending; from here on they differ."""
        new = type(self).__new__(type(self))
        for name in State.__slots__:
            setattr(new, name, getattr(self, name))
        new._seen = {
            name: cell.fork() if isinstance(cell, Items) else cell.copy()
            for name, cell in self._seen.items()
        }
        new._own = []
        new._todo = self._todo.copy()
        new._corrupted = self._corrupted and self._corrupted.copy()
        return new

    def __deepcopy__(self, _memo: object) -> Self:
        return self.__copy__()  # what they share from here on is never changed

    def __repr__(self) -> str:
        fields = ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name, field in type(self).__schema__.fields.items()
            if field.stored not in self._unread
        )
        return f"{type(self).__name__}({fields})"


S = TypeVar("S", bound=State)


_bare = object.__new__


def snapshot(
    cls: type[S],
    key: Key,
    cells: Cells | None,
    home: Home,
    unread: frozenset[str] = _ALL_READ,
    source: Source = "store",
    want: Want = EVERYTHING,
) -> S:
    """An instance that shows these cells; `unread` names those that were not asked for."""
    state = _bare(cls)
    state._key = key
    state._cells = cells
    state._home = home
    state._unread = unread
    state._source = source
    state._done = None
    state._own = _NONE_OWN
    state._corrupted = None
    state._todo = _NO_CHANGES
    if cells is None:
        state._seen = {}
    else:
        schema = cls.__schema__
        state._seen = schema.upgraded(cells.fields, want) if schema.versioned else cells.fields
        if cells.corrupted:
            _tell_missing(state, cells.corrupted)
    return state


def _tell_missing(state: State, stored: Iterable[str]) -> None:
    for name in stored:
        state._corrupt(state._field_name(name), "", b"", "a part is missing in the store")


def _annotated(cls: type) -> Iterator[str]:
    """The public names that a class annotates itself, those aside that say they are its own."""
    try:
        own = inspect.get_annotations(cls)
    except NameError:  # evaluated late, of names that only a type checker knows
        return
    for name, kind in own.items():
        said = kind if isinstance(kind, str) else str(kind)
        if not name.startswith("_") and not re.match(r"(\w+\.)*(ClassVar|Final)\b", said):
            yield name


def _refuse_annotations(cls: type, fields: Mapping[str, object]) -> None:
    """Raise SchemaError for what other libraries would make a field of; here it holds nothing."""
    for name in _annotated(cls):
        if name not in fields:
            raise SchemaError(
                f"{cls.__name__}: {name!r} is an annotation and holds nothing; declare a field, "
                f"as in {name} = Register(int, default=0)",
                field=name,
            )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
