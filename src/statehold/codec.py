"""Values ↔ bytes. JSON by msgspec (Pydantic models by Pydantic); arrays as raw little-endian floats.

What is encoded is decoded once and compared before it is stored, so that nothing is written that
would not be read back as it was; a value that does not fit its declared type is refused there.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

import msgspec

from statehold.errors import Invalid, SchemaError, TooLarge

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_ENTRY_BYTES: Final = 512
"""Maximum size of an entry's name, in bytes: the key of a map, the member of a set."""


def _plain(value: object) -> object:
    """What msgspec encodes in place of a counter's number, a numpy scalar, a subclass of str."""
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "shape", None) == ():
        return item()
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")


_encode: Final = msgspec.json.Encoder(enc_hook=_plain).encode
_encode_name: Final = msgspec.json.Encoder(enc_hook=_plain, order="deterministic").encode


class Undecodable(ValueError):
    """Stored bytes are not what the type says. Internal; becomes `meta.corrupted`."""


def _methods(value: object) -> set[str]:
    """The names that a value's classes define, those of `object` aside."""
    return {name for cls in type(value).__mro__[:-1] for name in vars(cls)}


def _is_pydantic(kind: Any) -> bool:
    if isinstance(kind, type) and hasattr(kind, "model_validate_json"):
        return True
    return any(_is_pydantic(argument) for argument in typing.get_args(kind))


def _functions(kind: Any) -> tuple[Callable[[Any], bytes], Callable[[bytes], Any]]:
    if _is_pydantic(kind):
        import pydantic

        adapter = pydantic.TypeAdapter[Any](kind)
        return partial(adapter.dump_json, warnings="error"), adapter.validate_json
    decode = msgspec.json.Decoder(kind).decode
    _refuse_custom(msgspec.inspect.type_info(kind), set())
    return _encode, decode


_PLAIN: Final[tuple[object, ...]] = (None, True, 0, 0.0, "", [], {})


def _refuse_custom(info: object, seen: set[int]) -> None:
    """Raise TypeError for a type that no JSON value is ever decoded to."""
    if isinstance(info, tuple):
        for part in cast("tuple[object, ...]", info):
            _refuse_custom(part, seen)
    elif isinstance(info, msgspec.inspect.CustomType):
        if not any(isinstance(value, info.cls) for value in _PLAIN):
            raise TypeError(f"msgspec has no JSON for {info.cls.__name__}")
    elif isinstance(info, msgspec.inspect.Type | msgspec.inspect.Field) and id(info) not in seen:
        seen.add(id(info))
        _refuse_custom(msgspec.structs.astuple(info), seen)


def _same(back: Any, value: Any) -> bool:  # noqa: PLR0911  one kind of value after another
    """Whether two values hold the same, where `==` does not say so.

    It does not for classes that compare by identity, nor for times in the hour that a zone's clock
    shows twice.
    """
    kind: Any = value.__class__
    if not issubclass(type(back), kind):
        return bool(back == value)
    if issubclass(kind, datetime) and value.tzinfo and back.tzinfo:
        return bool(back.astimezone(UTC) == value.astimezone(UTC))
    if issubclass(kind, dict):
        return back.keys() == value.keys() and all(_same(back[key], value[key]) for key in value)
    if issubclass(kind, list | tuple):
        return len(back) == len(value) and all(map(_same, back, value))
    if hasattr(value, "model_dump"):
        return _same(back.model_dump(), value.model_dump())
    for declared in ("__struct_fields__", "__dataclass_fields__", "__attrs_attrs__"):
        names = [getattr(name, "name", name) for name in getattr(value, declared, ())]
        if names:
            return all(_same(getattr(back, name), getattr(value, name)) for name in names)
    return "__eq__" not in _methods(value) or bool(back == value)


class Codec:
    """Encodes and decodes the values of one field.

    `kind` is any type that msgspec can encode, or has Pydantic models in it. Raises `SchemaError`
    for any other.
    """

    __slots__ = ("_decode", "_dump", "field", "kind", "max_bytes")

    def __init__(self, kind: Any, field: str, max_bytes: int) -> None:
        self.kind = kind
        self.field = field
        self.max_bytes = max_bytes
        try:
            self._dump, self._decode = _functions(kind)
        except Exception as error:
            raise SchemaError(
                f"{field}: values of type {kind!r} cannot be stored: {error}", field=field
            ) from error

    def encode(self, value: Any) -> bytes:
        """The value as JSON. Raises `Invalid` (wrong type) or `TooLarge` (over `max_bytes`)."""
        try:
            data = b"%b" % self._dump(value)  # msgspec's own bytes hold up to twice their size
            back = self._decode(data)
            differs = back != value and not self._incomparable(value)
        except Exception as error:
            raise self._unfit(value, str(error)) from error
        if differs:
            raise self._unfit(value, "it would be read back otherwise")
        if len(data) > self.max_bytes:
            raise TooLarge(
                f"{self.field}: a value of {len(data)} bytes, at most {self.max_bytes} allowed",
                field=self.field,
                expected=self.max_bytes,
                found=len(data),
            )
        return data

    def _unfit(self, value: Any, why: str) -> Invalid:
        return Invalid(
            f"{self.field}: {type(value).__name__} is not a valid {_name(self.kind)}: {why}",
            field=self.field,
            expected=self.kind,
            found=type(value),
        )

    def _incomparable(self, value: Any) -> bool:
        """Whether `==` is wrong in saying that the value would be read back otherwise."""
        return _same(self._decode(self._dump(value)), value)

    def decode(self, data: Any) -> Any:
        """The value. Raises `Undecodable`."""
        try:
            return self._decode(data)
        except Exception as error:
            raise Undecodable(str(error)) from error

    def from_json(self, obj: Any) -> Any:
        """The value that plain JSON data stands for. Raises `Invalid`."""
        try:
            return self._decode(_encode(obj))
        except Exception as error:
            raise Invalid(
                f"{self.field}: not a valid {_name(self.kind)}: {error}", field=self.field
            ) from error

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a value, without references; `{}` for what has none."""
        return json_schema(self.kind)


class NameCodec:
    """Encodes and decodes what names an entry: text as it is, anything else as compact JSON."""

    __slots__ = ("_canonical", "_decode", "_dump", "field", "kind", "plain")

    def __init__(self, kind: Any, field: str) -> None:
        self.kind = kind
        self.field = field
        self.plain = kind is str
        self._canonical = kind is int
        try:
            self._dump, self._decode = _functions(kind)
        except Exception as error:
            raise SchemaError(f"{field}: keys of type {kind!r}: {error}", field=field) from error
        if self._dump is _encode:
            self._dump = _encode_name

    def encode(self, value: Any) -> str:
        """The entry's name. Raises `Invalid` or `TooLarge` (over 512 bytes)."""
        try:
            if self.plain:
                if not isinstance(value, str):
                    raise TypeError("not text")  # noqa: TRY301  one backend translates
                name, size = str.__str__(value), len(value.encode())
            else:
                data = self._dump(value)
                back = self._decode(data)
                if back != value:
                    raise TypeError("it would be read back otherwise")  # noqa: TRY301  likewise
                if not self._canonical:  # 1 and 1.0 are one key of floats
                    data = self._dump(back)
                name, size = data.decode(), len(data)
        except Exception as error:
            raise Invalid(
                f"{self.field}: {type(value).__name__} cannot be a key: {error}",
                field=self.field,
                expected=self.kind,
                found=type(value),
            ) from error
        if size > MAX_ENTRY_BYTES:
            raise TooLarge(
                f"{self.field}: a key of {size} bytes, at most {MAX_ENTRY_BYTES} allowed",
                field=self.field,
                expected=MAX_ENTRY_BYTES,
                found=size,
            )
        return name

    def decode(self, name: str) -> Any:
        """The key. Raises `Undecodable`."""
        if self.plain:
            return name
        try:
            return self._decode(name.encode())
        except Exception as error:
            raise Undecodable(str(error)) from error

    def from_json(self, obj: Any) -> Any:
        """The key that a JSON value or the text of an object's key stands for."""
        if self.plain:
            return obj
        for data in (obj.encode() if isinstance(obj, str) else b"", _encode(obj)):
            try:
                return self._decode(data)
            except Exception:  # noqa: BLE001, S112  the second reading decides
                continue
        raise Invalid(f"{self.field}: {obj!r:.60} is not a valid key", field=self.field, found=obj)


def json_schema(kind: Any) -> dict[str, Any]:
    """The JSON schema of a type with its references resolved in place; `{}` for what has none."""
    try:
        if _is_pydantic(kind):
            import pydantic

            schema = pydantic.TypeAdapter[Any](kind).json_schema()
            return _inlined(schema, schema.pop("$defs", {}), ())
        (schema,), defs = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    except Exception:  # noqa: BLE001  custom types have no schema: anything goes
        return {}
    return _inlined(schema, defs, ())


def _inlined(node: dict[str, Any], defs: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    ref = node.get("$ref")
    if isinstance(ref, str):
        name = ref.rsplit("/", 1)[-1]
        return {} if name in seen else _inlined(defs.get(name, {}), defs, (*seen, name))

    def inside(value: Any) -> Any:
        if isinstance(value, dict):
            return _inlined(cast("dict[str, Any]", value), defs, seen)
        if isinstance(value, list):
            return [inside(item) for item in cast("Iterable[Any]", value)]
        return value

    return {key: inside(value) for key, value in node.items()}


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def to_floats(values: Any, dim: int, field: str, dtype: str) -> npt.NDArray[np.floating[Any]]:
    """A contiguous copy as `dtype`, of shape (dim,), finite. Raises `Invalid`."""
    import numpy as np

    try:
        given = np.asarray(values)
        if given.dtype.kind not in "iuf":
            raise TypeError(f"{given.dtype} is no type of numbers")  # noqa: TRY301  likewise
        with np.errstate(over="ignore"):
            array = np.array(given, dtype=dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid(f"{field}: not an array of numbers: {error}", field=field) from error
    if array.shape != (dim,):
        raise Invalid(
            f"{field}: shape {array.shape}, expected ({dim},)",
            field=field,
            expected=(dim,),
            found=array.shape,
        )
    if not np.isfinite(array).all():
        raise Invalid(f"{field}: not finite (NaN, infinity or beyond {dtype})", field=field)
    return array
