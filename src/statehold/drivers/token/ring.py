"""The key ring: one key to seal, any number to open, read again while the service runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias, cast

from statehold.drivers.token import keyfile
from statehold.drivers.token.keys import Key
from statehold.errors import ConfigError

Source: TypeAlias = "str | Key | Iterable[str | Key] | Callable[[], str | Iterable[str | Key]]"
"""Where keys come from: "env:NAME", "file:PATH", keys in writing, or a callable that gives those."""

REFRESH: Final = 60.0
"""Seconds after which a file or a callable is asked again."""

_SOONEST: Final = 1.0
"""Seconds between two times that the source is asked for a key that is not known."""

_log = logging.getLogger("statehold.token")


class KeyRing:
    """The keys of a source: the first one seals, all of them open.

    A file and a callable are asked again when they were asked `refresh` seconds ago, so that a
    rotation reaches a running service, and also for a key that is not known, once a second at most.
    If that fails, however it does, the keys that there are stay and a warning is logged. Raises
    `ConfigError` if the first time fails.
    """

    def __init__(self, source: Source, *, refresh: float = REFRESH) -> None:
        self._load, self._again = _loader(source)
        self._refresh = refresh
        self._read_at: float | None = None
        try:
            self._read()
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(
                f"keys: could not be read: {type(error).__name__}", field="keys"
            ) from error

    def _read(self) -> None:
        keys = self._load()
        if not keys:
            raise ConfigError("keys: none given", field="keys")
        by_id: dict[bytes, Key] = {}
        for key in keys:
            if by_id.setdefault(key.id, key) != key:
                raise ConfigError(f"keys: two have the id {key.id.hex()}", field="keys")
        self._sealing, self._by_id = keys[0], by_id

    def refresh(self, now: float) -> None:
        """Ask the source again if it is time, as it is the first time; `now` in seconds."""
        self._read_after(self._refresh, now)

    def missed(self, now: float) -> bool:
        """A key is not known: whether the source was asked again, so that it may be now."""
        return self._read_after(_SOONEST, now)

    def _read_after(self, seconds: float, now: float) -> bool:
        read_at = self._read_at
        if not self._again or (read_at is not None and 0 <= now - read_at < seconds):
            return False
        self._read_at = now
        try:
            self._read()
        except Exception as error:  # noqa: BLE001  the service goes on with the keys that it has
            _log.warning("the keys could not be read again: %s", type(error).__name__)
        return True

    @property
    def sealing(self) -> Key:
        """The key that seals."""
        return self._sealing

    def find(self, id: bytes) -> Key | None:
        """The key of this id."""
        return self._by_id.get(id)

    def __len__(self) -> int:
        return len(self._by_id)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(id.hex() for id in self._by_id)})"


def _loader(source: Source) -> tuple[Callable[[], list[Key]], bool]:
    """How to get the keys, and whether asking again may give others."""
    if isinstance(source, str):
        scheme, _, rest = source.partition(":")
        if scheme == "env":
            return lambda: _from_environment(rest), False
        if scheme == "file":
            return lambda: [line.key for line in keyfile.read(rest)], True
    if callable(source):
        return lambda: _parsed(source()), True
    keys = _parsed(source)
    return lambda: keys, False


def _from_environment(name: str) -> list[Key]:
    text = os.environ.get(name, "")
    if not text.strip():
        raise ConfigError(f"keys: the environment has no {name}", field="keys")
    return _parsed(text)


def _parsed(given: object) -> list[Key]:
    if isinstance(given, Key):
        return [given]
    if isinstance(given, str):
        return [Key.parse(text) for text in given.replace(",", " ").split()]
    if isinstance(given, Iterable):
        keys = list(cast("Iterable[object]", given))
        return [key if isinstance(key, Key) else Key.parse(_text(key)) for key in keys]
    raise ConfigError("keys: say env:NAME, file:PATH, keys or a callable", field="keys")


def _text(key: object) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"keys: a key is text, not {type(key).__name__}", field="keys")
    return key
