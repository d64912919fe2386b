"""What a token says: a state with all that belongs to it, as msgpack or as readable JSON."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgspec

from statehold.changes import Cell, Entries, Items, Scalar
from statehold.commits import Key, Revision
from statehold.folding import Head
from statehold.items import packed, unpacked

OP_BYTES: Final = 8
"""Bytes of the digest by which an op id is remembered."""

_Number: TypeAlias = int | float


class Malformed(ValueError):
    """What is genuine by its seal does not have the form of a record. Internal."""


class Record(msgspec.Struct, kw_only=True):
    """A state in a token. It is replaced, never changed."""

    key: Key
    revision: Revision
    created: float
    updated: float
    """When it was issued by its last commit, epoch seconds."""
    deadline: float | None
    epoch: int = 0
    registered: bool = False
    """Whether an entry of the registry must vouch for it."""
    ops: dict[bytes, tuple[int, int]] = {}
    """Digests of the newest op ids → the number of the revision that each made, and its intent."""
    versions: dict[str, int] = {}
    """Fields of the class that wrote it → their version, where that is not 1."""
    fields: dict[str, Cell] = {}
    spilled: dict[str, str] = {}
    """Fields that are kept elsewhere → the handle under which."""

    @property
    def head(self) -> Head:
        """As every state has one, but that nobody is told whom a token is about."""
        return Head(self.revision, self.created, self.updated, self.deadline, self.epoch)


def op_digest(op: str) -> bytes:
    """By which an op id is remembered: 64 bits of BLAKE2b."""
    return blake2b(op.encode(), digest_size=OP_BYTES).digest()


# ------------------------------------------------------------------------------------- as msgpack


class _Body(msgspec.Struct, array_like=True):
    """A record without its tenant and kind, which the seal binds and whoever opens it knows."""

    id: str
    incarnation: int
    number: int
    updated: float
    age: _Number
    life: _Number | None
    fields: dict[str, dict[str, bytes | int | float] | list[bytes | int]]
    ops: list[tuple[bytes, int, int]] = []
    epoch: int = 0
    registered: bool = False
    versions: dict[str, int] = {}
    spilled: dict[str, str] = {}


_to_msgpack: Final = msgspec.msgpack.Encoder().encode
_from_msgpack: Final = msgspec.msgpack.Decoder(_Body).decode


def pack(record: Record) -> bytes:
    """The record as msgpack: short, exact, not for people."""
    life = None if record.deadline is None else _short(record.deadline - record.updated)
    body: list[Any] = [
        record.key[2],
        record.revision.incarnation,
        record.revision.number,
        record.updated,
        _short(record.updated - record.created),
        life,
        {
            name: packed(cell) if isinstance(cell, Items) else cell
            for name, cell in record.fields.items()
        },
    ]
    if record.ops or record.epoch or record.registered or record.versions or record.spilled:
        body += [
            [(digest, *which) for digest, which in record.ops.items()],
            record.epoch,
            record.registered,
            record.versions,
            record.spilled,
        ]
    return _to_msgpack(body)


def unpack(data: bytes, tenant: str, kind: str) -> Record:
    """The record of a tenant and kind that was packed. Raises `Malformed`."""
    try:
        body = _from_msgpack(data)
        fields = _cells(body.fields)
    except (ValueError, RecursionError):  # msgspec's are ValueErrors
        raise Malformed from None
    return Record(
        key=(tenant, kind, body.id),
        revision=Revision(body.incarnation, body.number),
        created=body.updated - body.age,
        updated=body.updated,
        deadline=None if body.life is None else body.updated + body.life,
        epoch=body.epoch,
        registered=body.registered,
        ops={digest: (number, intent) for digest, number, intent in body.ops},
        versions=body.versions,
        fields=fields,
        spilled=body.spilled,
    )


def pack_cell(cell: Cell) -> bytes:
    """One cell, to be kept elsewhere."""
    return _to_msgpack(packed(cell) if isinstance(cell, Items) else cell)


_from_cell: Final = msgspec.msgpack.Decoder(
    dict[str, bytes | int | float] | list[bytes | int]
).decode


def unpack_cell(data: bytes) -> Cell:
    """The cell that was packed. Raises `Malformed`."""
    try:
        found: dict[str, Scalar] | list[bytes | int] = _from_cell(data)
        return found if isinstance(found, dict) else unpacked(found)
    except (ValueError, RecursionError):  # msgspec's are ValueErrors
        raise Malformed from None


def _short(seconds: float) -> _Number:
    """The seconds as an int (3 bytes for an hour, not 9) where they are whole."""
    return int(seconds) if seconds.is_integer() else seconds


def _cells(fields: Mapping[str, Entries | list[bytes | int]]) -> dict[str, Cell]:
    return {n: unpacked(cell) if isinstance(cell, list) else cell for n, cell in fields.items()}


# ---------------------------------------------------------------------------------------- as JSON


class _Page(msgspec.Struct, omit_defaults=True):
    """A record for people to read: values as the JSON that they are, numbers and raw bytes apart."""

    kind: str
    tenant: str
    session: str
    revision: str
    created: float
    issued: float
    expires: float | None
    fields: dict[str, dict[str, msgspec.Raw] | list[msgspec.Raw]]
    numbers: dict[str, dict[str, int | float]] = {}
    bytes: dict[str, dict[str, str] | list[str]] = {}
    ops: dict[str, tuple[int, int]] = {}
    epoch: int = 0
    registered: bool = False
    versions: dict[str, int] = {}
    spilled: dict[str, str] = {}
    firsts: dict[str, int] = {}
    """The position of each list's first item, where that is not 1."""


_to_json: Final = msgspec.json.Encoder().encode
_from_json: Final = msgspec.json.Decoder(_Page).decode
_any_json: Final = msgspec.json.Decoder(msgspec.Raw).decode


def write(record: Record) -> bytes:
    """The record as JSON that a client may read."""
    page = _Page(
        kind=record.key[1],
        tenant=record.key[0],
        session=record.key[2],
        revision=str(record.revision),
        created=record.created,
        issued=record.updated,
        expires=record.deadline,
        fields={},
        ops={digest.hex(): which for digest, which in record.ops.items()},
        epoch=record.epoch,
        registered=record.registered,
        versions=record.versions,
        spilled=record.spilled,
    )
    for name, cell in record.fields.items():
        if isinstance(cell, Items):
            if cell.first != 1:
                page.firsts[name] = cell.first
            if all(map(_is_json, cell)):
                page.fields[name] = [msgspec.Raw(item) for item in cell]
            else:
                page.bytes[name] = [_text(item) for item in cell]
            continue
        for entry, value in cell.items():
            if not isinstance(value, bytes):
                page.numbers.setdefault(name, {})[entry] = value
            elif _is_json(value):
                _part(page.fields, name)[entry] = msgspec.Raw(value)
            else:
                _part(page.bytes, name)[entry] = _text(value)
    return _to_json(page)


def read(data: bytes) -> Record:
    """The record that was written. Raises `Malformed`."""
    try:
        page = _from_json(data)
        fields: dict[str, Cell] = {}
        for name, cell in page.fields.items():
            if isinstance(cell, list):
                fields[name] = Items([bytes(item) for item in cell], page.firsts.get(name, 1))
            else:
                fields[name] = {entry: bytes(value) for entry, value in cell.items()}
        for name, coded in page.bytes.items():
            if isinstance(coded, list):
                items = [base64.b64decode(item) for item in coded]
                fields[name] = Items(items, page.firsts.get(name, 1))
            else:
                values = {entry: base64.b64decode(text) for entry, text in coded.items()}
                _entries(fields, name).update(values)
        for name, numbers in page.numbers.items():
            _entries(fields, name).update(numbers)
        return Record(
            key=(page.tenant, page.kind, page.session),
            revision=Revision.parse(page.revision),
            created=page.created,
            updated=page.issued,
            deadline=page.expires,
            epoch=page.epoch,
            registered=page.registered,
            ops={bytes.fromhex(digest): which for digest, which in page.ops.items()},
            versions=page.versions,
            fields=fields,
            spilled=page.spilled,
        )
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise Malformed from None


def _part(cells: dict[str, Any], name: str) -> dict[str, Any]:
    part: dict[str, Any] = cells.setdefault(name, {})
    return part


def _entries(fields: dict[str, Cell], name: str) -> Entries:
    cell = fields.setdefault(name, {})
    if not isinstance(cell, dict):
        raise Malformed
    return cell


def _is_json(data: bytes) -> bool:
    """Whether it can stand in a page as it is and be found there again, byte for byte."""
    try:
        return bytes(_any_json(data)) == data and (data.isascii() or bool(data.decode()))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
