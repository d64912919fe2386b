"""A file of keys, as `statehold keys` writes and the ring reads it.

One key a line, the first one seals and all of them open; after the key, the date on which it was
made. `#` begins a comment. Only its owner may read it.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from statehold.drivers.token.keys import Key
from statehold.errors import ConfigError, Invalid

_MOST_BYTES: Final = 1 << 20
_HEADER: Final = "# statehold keys: the first seals, all open. Keep this file secret.\n"


class Line(msgspec.Struct, frozen=True):
    """A key of the file, and the date (ISO 8601) on which it was made, if it says so."""

    key: Key
    made: str = ""


def read(path: str | Path) -> list[Line]:
    """The keys of the file, the sealing one first.

    Raises `ConfigError` if there is no such file or no key in it, or if anyone but its owner (this
    user or root) may read or write it.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123  checked by its descriptor, so not swapped
            _check(path, os.fstat(file.fileno()))
            text = file.read(_MOST_BYTES).decode()
    except OSError as error:
        raise ConfigError(f"keys: {path}: {error.strerror}", field="keys") from None
    except UnicodeDecodeError:
        raise ConfigError(f"keys: {path}: not a file of keys", field="keys") from None
    lines: list[Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        secret, _, made = line.partition("#")[0].strip().partition(" ")
        if secret:
            try:
                lines.append(Line(Key.parse(secret), made.strip()))
            except ConfigError:
                raise ConfigError(f"keys: {path}:{number}: not a key", field="keys") from None
    if not lines:
        raise ConfigError(f"keys: {path}: there is no key in it", field="keys")
    return lines


def _check(path: str | Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"keys: {path}: not a regular file", field="keys")
    if os.name != "posix":
        return
    if found.st_mode & 0o077:
        raise ConfigError(
            f"keys: {path}: others may read or write it ({stat.S_IMODE(found.st_mode):04o}); "
            f"chmod 600 {path}",
            field="keys",
            expected="0600",
            found=f"{stat.S_IMODE(found.st_mode):04o}",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(f"keys: {path}: belongs to another user", field="keys")


def write(path: str | Path, lines: list[Line], *, new: bool = False) -> None:
    """The file holds these keys, whole or not at all, for its owner only.

    Of a symbolic link it is the file that it leads to. Raises `Invalid` if it is to be new and there is one.
    """
    text = _HEADER + "".join(f"{line.key.text()} {line.made}".rstrip() + "\n" for line in lines)
    path = path if new else os.path.realpath(path)
    folder = Path(path).parent
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".keys-")  # mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            if new:
                os.link(temporary, path)
            else:
                os.replace(temporary, path)  # noqa: PTH105  as `link` above
        finally:
            Path(temporary).unlink(missing_ok=True)
    except FileExistsError:
        raise Invalid(f"{path}: there is a file already", field="path") from None
    except OSError as error:
        raise ConfigError(f"keys: {path}: {error.strerror}", field="keys") from None


def rotated(
    lines: list[Line], made: str, *, prepare: bool = False, keep: int | None = None
) -> list[Line]:
    """The keys with a new one to seal; with `prepare` it only opens until the next rotation.

    A key that was prepared before is the one that seals now. All old ones stay, or with `keep` the
    newest so many.
    """
    sealing, rest = lines[0], lines[1:]
    ready = [line for line in rest if line.made.startswith("next ")]
    old = [line for line in rest if not line.made.startswith("next ")]
    if prepare:
        if ready:
            raise Invalid("a key is prepared already; rotate to let it seal", field="prepare")
        return [sealing, Line(Key.new(), f"next {made}"), *old]
    first = Line(ready[0].key, ready[0].made.removeprefix("next ")) if ready else None
    lines = [first or Line(Key.new(), made), sealing, *old]
    return lines if keep is None else lines[: keep + 1]
