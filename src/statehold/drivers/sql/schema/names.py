"""What tables, columns and indexes are called.

A name depends on nothing but what it names, so that it never changes. Parts are joined by `__`,
which no plain part contains: `chat__history` is a table of the kind `chat`, whatever other kinds
there are.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST: Final = 56
"""Maximum characters; PostgreSQL takes 63, and a suffix must still fit."""

_PLAIN = re.compile(r"[a-z](?:_?[a-z0-9])*")
_VERSION = re.compile(r"(.+)@(\d+)")


def identifier(*words: str, reserved: frozenset[str] = frozenset()) -> str:
    """One identifier for these words, the same each time and different from all others.

    `reserved` are names that the last word must not take.
    """
    name = "__".join([*map(_part, words[:-1]), _part(words[-1], reserved)])
    if len(name) <= LONGEST:
        return name
    digest = _digest("\0".join(words))
    return f"{name[: LONGEST - 10].rstrip('_')}_{digest}_"


def _part(word: str, reserved: frozenset[str] = frozenset()) -> str:
    """A word as part of an identifier: itself if it is plain, else what is plain of it and more."""
    version = _VERSION.fullmatch(word)
    if version is not None and version[1] not in reserved and _PLAIN.fullmatch(version[1]):
        return f"{version[1]}__{version[2]}"
    if word in reserved:
        return f"{word}_"
    if _PLAIN.fullmatch(word):
        return word
    plain = re.sub(r"[^a-z0-9]+", "_", word.casefold()).strip("_")
    return f"{plain or 'x'}_{_digest(word)}_"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
