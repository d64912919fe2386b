"""Values ↔ bytes. JSON by msgspec (Pydantic models by Pydantic); arrays as raw little-endian floats.

What is encoded is decoded once and compared before it is stored, by value and by type, so that
nothing is written that would not be read back as it was; a value that does not fit its declared type
is refused there. Only what cannot but be read back as it is (`Format.certain`) is spared that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from statehold.canonical import canonical, loose_numbers
from statehold.comparing import difference, plain
from statehold.errors import Invalid, SchemaError, TooLarge
from statehold.formats import Format, encode, encode_name, is_pydantic, json_schema, type_name
from statehold.reasons import reason, refusal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

MAX_ENTRY_BYTES: Final = 512
"""Maximum size of an entry's name, in bytes: the key of a map, the member of a set."""


RAW: Final = b"\0"
"""What stored bytes begin with that are a value themselves. No JSON does."""


class Undecodable(ValueError):
    """Stored bytes are not what the type says. Internal; becomes `meta.corrupted`."""


class Unlike(TypeError):
    """A value would be read back as another. Internal; becomes `Invalid`."""


class Codec:
    """Encodes and decodes the values of one field.

    `kind` is any type that msgspec can encode, or has Pydantic models in it. Raises `SchemaError`
    for any other.
    """

    __slots__ = ("_certain", "_dump", "_load", "_others", "field", "kind", "max_bytes")

    def __init__(self, kind: Any, field: str, max_bytes: int) -> None:
        self.kind = kind
        self.field = field
        self.max_bytes = max_bytes
        try:
            format = Format(kind)
        except Exception as error:
            raise SchemaError(
                f"{field}: values of type {kind!r} cannot be stored: {error}", field=field
            ) from error
        self._dump, *self._others = format.dumps
        self._certain = format.certain
        self._load = format.load

    def encode(self, value: Any) -> bytes:
        """The value as JSON. Raises `Invalid` (wrong type) or `TooLarge` (over `max_bytes`)."""
        try:
            data = b"%b" % self._dump(value)  # msgspec's own bytes hold up to twice their size
            if not self._certain(value):
                self._compare(data, value)
        except Exception as error:  # noqa: BLE001  Pydantic's errors, and those of people's classes
            data = self._written_otherwise(value, error)
        if len(data) > self.max_bytes:
            raise TooLarge(
                f"{self.field}: a value of {len(data)} bytes, at most {self.max_bytes} allowed",
                field=self.field,
                expected=self.max_bytes,
                found=len(data),
            )
        return data

    def _compare(self, data: bytes, value: Any) -> None:
        unlike = difference(self._load(data), value)
        if unlike is not None:
            raise Unlike(unlike)

    def _written_otherwise(self, value: Any, error: Exception) -> bytes:
        for dump in self._others:
            try:
                data = dump(value)
                self._compare(data, value)
            except Exception as another:  # noqa: BLE001  likewise
                error = another
            else:
                return data
        given, wanted = type(value).__name__, type_name(self.kind)
        what = (
            f"this {given} cannot be stored"
            if given == wanted
            else f"{given} is not a valid {wanted}"
        )
        raise Invalid(
            f"{self.field}: {what}: {refusal(error, self.kind, value)}",
            field=self.field,
            expected=self.kind,
            found=type(value),
        ) from None  # the error may show the value

    def decode(self, data: Any) -> Any:
        """The value. Raises `Undecodable`."""
        try:
            return self._load(data)
        except Exception as error:  # noqa: BLE001  likewise
            if isinstance(data, int | float):  # a counter's, whose field was declared anew
                raise Undecodable("a number of a counter, where JSON should be") from None
            raise Undecodable(reason(error, self.kind)) from None

    def from_json(self, obj: Any) -> Any:
        """The value that plain JSON data stands for. Raises `Invalid`."""
        try:
            return self._load(encode(obj))
        except Exception as error:  # noqa: BLE001  likewise
            raise Invalid(
                f"{self.field}: not a valid {type_name(self.kind)}: {reason(error, self.kind)}",
                field=self.field,
            ) from None

    def schema(self) -> dict[str, Any]:
        """The JSON schema of a value, without references; `{}` for what has none."""
        return json_schema(self.kind)


class BytesCodec(Codec):
    """Bytes are stored as they are, behind `RAW`; in JSON they are text in base64.

    What was stored as such JSON is read too.
    """

    __slots__ = ()

    def encode(self, value: Any) -> bytes:
        """The bytes behind `RAW`. Raises `Invalid` (not bytes) or `TooLarge` (over `max_bytes`)."""
        if value.__class__ is not bytes:
            raise Invalid(
                f"{self.field}: {type(value).__name__} is not bytes",
                field=self.field,
                expected=bytes,
                found=type(value),
            )
        if len(value) > self.max_bytes:
            raise TooLarge(
                f"{self.field}: a value of {len(value)} bytes, at most {self.max_bytes} allowed",
                field=self.field,
                expected=self.max_bytes,
                found=len(value),
            )
        return RAW + value

    def decode(self, data: Any) -> Any:
        """The bytes. Raises `Undecodable`."""
        if data.__class__ is bytes and data[:1] == RAW:
            return data[1:]
        return super().decode(data)


def codec_of(kind: Any, field: str, max_bytes: int) -> Codec:
    """The codec of a field whose values may be raw bytes."""
    return (BytesCodec if kind is bytes else Codec)(kind, field, max_bytes)


def as_json(raw: Any) -> msgspec.Raw:
    """A stored value as JSON, to be sent as it is: bytes in base64."""
    if not isinstance(raw, bytes):
        raise TypeError("a number is no stored JSON")
    return msgspec.Raw(encode(raw[1:]) if raw[:1] == RAW else raw)


class NameCodec:
    """Encodes and decodes what names an entry: text as it is, anything else as compact JSON.

    Equal keys have one name. Raises `SchemaError` for types whose equal values cannot.
    """

    __slots__ = ("_dump", "_dump_in_order", "_load", "_loose", "_steady", "field", "kind", "plain")

    def __init__(self, kind: Any, field: str) -> None:
        self.kind = kind
        self.field = field
        self.plain = kind is str
        self._steady = kind is int
        try:
            format = Format(kind)
            by_msgspec = not is_pydantic(kind)
            self._loose = loose_numbers(kind, pydantic=not by_msgspec)
        except Exception as error:
            raise SchemaError(f"{field}: keys of type {kind!r}: {error}", field=field) from error
        self._load = format.load
        self._dump = format.dumps[0]
        self._dump_in_order = encode_name if by_msgspec else partial(_in_order, self._dump)

    def encode(self, value: Any) -> str:
        """The entry's name. Raises `Invalid` or `TooLarge` (over 512 bytes)."""
        try:
            if self.plain:
                name = value if value.__class__ is str else plain(value)
                if name.__class__ is not str:
                    what = "be read back as str" if isinstance(name, str) else "have to be text"
                    raise Unlike(f"it would {what}")  # noqa: TRY301  one backend translates
                size = len(name.encode())
            else:
                data = self._dump(value)
                back = self._load(data)
                unlike = difference(back, value)
                if unlike is not None:
                    raise Unlike(unlike)  # noqa: TRY301  likewise
                if not self._steady:
                    data = self._canonical(back)
                name, size = data.decode(), len(data)
        except Exception as error:  # noqa: BLE001  Pydantic's errors, and those of people's classes
            raise Invalid(
                f"{self.field}: {type(value).__name__} cannot be a key: {reason(error, self.kind)}",
                field=self.field,
                expected=self.kind,
                found=type(value),
            ) from None  # the error may show the key
        if size > MAX_ENTRY_BYTES:
            raise TooLarge(
                f"{self.field}: a key of {size} bytes, at most {MAX_ENTRY_BYTES} allowed",
                field=self.field,
                expected=MAX_ENTRY_BYTES,
                found=size,
            )
        return name

    def _canonical(self, key: Any) -> bytes:
        """The JSON of all keys that equal this one."""
        one = canonical(key, self._loose)
        data = self._dump_in_order(one)
        if one is not key and self._load(data) != key:
            raise Unlike("those equal to it cannot be written as one")
        return data

    def decode(self, name: str) -> Any:
        """The key. Raises `Undecodable`."""
        if self.plain:
            return name
        try:
            return self._load(name.encode())
        except Exception as error:  # noqa: BLE001  likewise
            raise Undecodable(reason(error, self.kind)) from None

    def from_json(self, obj: Any) -> Any:
        """The key that a JSON value or the text of an object's key stands for."""
        if self.plain:
            return obj
        for data in (obj.encode() if isinstance(obj, str) else b"", encode(obj)):
            try:
                return self._load(data)
            except Exception:  # noqa: BLE001, S112  the second reading decides
                continue
        raise Invalid(f"{self.field}: not a valid key", field=self.field, found=type(obj))


def _in_order(dump: Callable[[Any], bytes], value: Any) -> bytes:
    """JSON with the members of its objects in the order of their names."""
    return encode_name(msgspec.json.decode(dump(value)))


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
