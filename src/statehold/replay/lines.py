"""The lines of a file of commits: reading them, and the op id of each."""

from __future__ import annotations

import gzip
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, Final, cast

import msgspec

from statehold.client.base import expectation
from statehold.commits import Key, Revision
from statehold.errors import Invalid, StateholdError, TooLarge

LINE_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of a line, in bytes."""


class Line(msgspec.Struct, frozen=True):
    """One commit of the file."""

    number: int
    key: Key
    op: str
    raw: bytes
    changes: dict[str, Any]
    subject: str | list[str] | None
    epoch: int
    expect: Revision | None
    delete: bool


class Bad(msgspec.Struct, frozen=True):
    """A line that cannot be a commit, and why."""

    number: int
    raw: bytes
    error: StateholdError


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line as it stands in the file."""

    kind: str
    id: str
    changes: dict[str, Any] | None = None
    op: str | None = None
    tenant: str | None = None
    subject: str | list[str] | None = None
    epoch: int = 0
    expect: str | None = None
    delete: bool = False
    time: Any = None  # for the reader; a state's age counts from when it is applied


class _Named(msgspec.Struct, frozen=True):
    """The part of a line that says what it is about."""

    kind: str
    id: str
    tenant: str | None = None
    delete: bool = False


_decode = msgspec.json.Decoder(_Written).decode
_decode_name = msgspec.json.Decoder(_Named).decode


class Source:
    """A file of commits, plain, gzipped (".gz") or "-", which is copied since it is read twice.

    Raises `Invalid` where it cannot be read.
    """

    def __init__(self, path: str, *, tenant: str = "") -> None:
        self.name = "standard input" if path == "-" else path
        self.tenant = tenant
        self._copy: IO[bytes] | None = None
        if path == "-":
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
            shutil.copyfileobj(sys.stdin.buffer, self._copy)
        else:
            self._path = Path(path)
            self._open().close()

    def close(self) -> None:
        """The copy of standard input is gone."""
        if self._copy is not None:
            self._copy.close()

    def raw(self) -> Iterator[tuple[int, bytes]]:
        """The number, from 1, and the text of each line that is not empty."""
        file = self._open()
        number = 0
        try:
            while text := file.readline(LINE_BYTES):
                number += 1
                if len(text) == LINE_BYTES and not text.endswith(b"\n"):
                    while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                        pass
                elif stripped := text.strip():
                    text = stripped
                else:
                    continue
                yield number, text
        except (EOFError, OSError, zlib.error) as error:
            raise Invalid(f"{self.name}: line {number + 1}: {error}", field="file") from error
        finally:
            if file is not self._copy:
                file.close()

    def named(self) -> Iterator[tuple[Key, bool]]:
        """The key of each line and whether it deletes it; what has none is left out."""
        for _, text in self.raw():
            try:
                name = _decode_name(text)
            except ValueError:
                continue
            yield self._key(name), name.delete

    def lines(self) -> Iterator[Line | Bad]:
        """Every line in order, with its op id."""
        seen: Counter[bytes] = Counter()
        for number, text in self.raw():
            try:
                yield self._line(number, text, seen)
            except StateholdError as error:
                yield Bad(number, text if len(text) < LINE_BYTES else text[:1000], error)

    def ops_of(self, keys: Collection[Key]) -> dict[Key, list[tuple[int, str, int]]]:
        """Number, op id and epoch of the lines of these keys."""
        found: dict[Key, list[tuple[int, str, int]]] = {key: [] for key in keys}
        for line in self.lines():
            if isinstance(line, Line) and line.key in found and not line.delete:
                found[line.key].append((line.number, line.op, line.epoch))
        return found

    def _key(self, name: _Named | _Written) -> Key:
        return (self.tenant if name.tenant is None else name.tenant, name.kind, name.id)

    def _line(self, number: int, text: bytes, seen: Counter[bytes]) -> Line:
        if len(text) >= LINE_BYTES:
            raise TooLarge(f"a line of more than {LINE_BYTES} bytes", expected=LINE_BYTES)
        try:
            given = _decode(text)
        except ValueError as error:
            raise Invalid(f"not a commit: {error}") from None
        if (given.changes is None) != given.delete:
            raise Invalid("a commit has either changes or delete", field="changes")
        op = given.op
        if op is None:
            digest = blake2b(text, digest_size=15).digest()
            op = f"line-{digest.hex()}-{seen[digest]}"
            seen[digest] += 1
        return Line(
            number,
            self._key(given),
            op,
            text,
            given.changes or {},
            given.subject,
            given.epoch,
            expectation(given.expect),
            given.delete,
        )

    def _open(self) -> IO[bytes]:
        if self._copy is not None:
            self._copy.seek(0)
            return self._copy
        try:
            if self._path.suffix == ".gz":
                return cast("IO[bytes]", gzip.open(self._path))
            return self._path.open("rb")
        except OSError as error:
            raise Invalid(f"{self.name}: {error.strerror or error}", field="file") from error
