"""What may name a state, a subject, a tenant or an operation, and what a caller may ask for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, TypeAlias, cast

from statehold.changes import BEYOND
from statehold.commits import MOST_SUBJECTS, About, Revision
from statehold.errors import Invalid
from statehold.fields.base import Field

Names: TypeAlias = Iterable["Field[Any] | str"]
"""Fields, as `Chat.history` or as "history"."""

Tail: TypeAlias = int | Mapping[Any, int]
"""How many of the newest items to read: of every log, or by field, as in `Names`."""

Keys: TypeAlias = Mapping[Any, Iterable[Any]]
"""Which entries of a field to read, by field, as in `Names`: their keys."""
After: TypeAlias = int | Mapping[Any, int]
"""After which position to read items: of every log, or by field, as in `Names`."""

Subjects: TypeAlias = str | Iterable[str]
"""Whom a state is about: one, or several, the foremost first; an empty list for nobody."""

ID_BYTES: Final = 512
"""Maximum size of an id, a subject or a tenant, in bytes."""

_DIGEST: Final = re.compile(r"~[0-9a-f]{64}\Z")
"""How an id ends that `hashed_id` has shortened."""

CURSOR_BYTES: Final = 4096
"""Maximum size of a cursor, in bytes."""


def checked(name: object, what: str, *, empty: bool = False, limit: int = ID_BYTES) -> str:
    """The name, if it can be one: text of 1 to `limit` bytes in UTF-8. Raises `Invalid`."""
    if not isinstance(name, str):
        raise Invalid(
            f"{what} must be text, not {type(name).__name__}", field=what, found=type(name)
        )
    name = str.__str__(name)  # of an enum's member its value
    size = len(_encoded(name, what))
    if size > limit or (size == 0 and not empty):
        cure = ""
        if what == "prefix":
            cure = ", as ids have at most"
        elif size > limit == ID_BYTES:
            cure = "; statehold.hashed_id shortens longer ones"
        raise Invalid(
            f"{what} of {size} bytes; it must have {0 if empty else 1} to {limit}{cure}",
            field=what,
            expected=limit,
            found=size,
        )
    return name


def checked_about(subject: object) -> About:
    """Whom a state is to be about, as a commit says it. Raises `Invalid`.

    Who is named twice is so once, and a list of one is that one.
    """
    if isinstance(subject, str):
        return checked(subject, "subject")
    kind = type(subject)
    if not issubclass(kind, Iterable) or issubclass(kind, bytes | Mapping):
        raise Invalid(
            f"subject must be text or a list of texts, not {kind.__name__}",
            field="subject",
            found=kind,
        )
    given = cast("Iterable[object]", subject)
    named = tuple(dict.fromkeys(checked(one, "subject") for one in given))
    if len(named) > MOST_SUBJECTS:
        raise Invalid(
            f"a state is about {MOST_SUBJECTS} subjects at most, not {len(named)}: say those by which"
            " it is to be found",
            field="subject",
            expected=MOST_SUBJECTS,
            found=len(named),
        )
    return named[0] if len(named) == 1 else named


def hashed_id(text: str) -> str:
    """An id for a text of any length, the same wherever it is made; different for different texts.

    Up to 512 bytes of UTF-8 it is the text itself. Of a longer one it is the beginning, 447 bytes, which
    people and a listing by `prefix=` can go by as far as it reaches, then `~` and the SHA-256 of the whole text in hexadecimal. A text that ends
    like that already is hashed too, so that nobody can make up the id of another. Raises `Invalid` for
    what is not Unicode text.
    """
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise Invalid(f"an id is made of text, not {type(text).__name__}", field="id")
    whole = _encoded(text, "id")
    if len(whole) <= ID_BYTES and _DIGEST.search(text) is None:
        return text
    digest = sha256(whole).hexdigest()
    start = whole[: ID_BYTES - len(digest) - 1].decode(errors="ignore")
    return f"{start}~{digest}"


def _encoded(name: str, what: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} has characters that are not Unicode text", field=what) from None


def checked_names(fields: Names) -> list[str]:
    """The fields' names. Raises `Invalid` for anything that is no field and no name."""
    checked_listed(fields, "fields", "fields")
    return [field.name if isinstance(field, Field) else checked(field, "field") for field in fields]


def checked_tails(tail: Tail | None) -> int | dict[str, int] | None:
    """`tail` with the fields' names for fields. Raises `Invalid`."""
    if isinstance(tail, Mapping):
        sizes = [checked_count(size, "tail") for size in tail.values()]
        return dict(zip(checked_names(tail), sizes, strict=True))
    return None if tail is None else checked_count(tail, "tail")


def checked_keys(entries: object) -> dict[str, Iterable[Any]]:
    """`entries` with the fields' names for fields. Raises `Invalid`."""
    if not isinstance(entries, Mapping):
        raise Invalid(
            "entries must be an object of fields and lists of their keys",
            field="entries",
            found=type(entries),
        )
    given = cast("Keys", entries)
    return dict(zip(checked_names(given), given.values(), strict=True))


def checked_after(after: After, lists: Iterable[str]) -> dict[str, int]:
    """The positions by field, those of all lists for a number alone. Raises `Invalid`."""
    if isinstance(after, Mapping):
        names: list[str] = checked_names(after)
        places: list[object] = list(after.values())
    else:
        names = list(lists)
        places = [after] * len(names)
    found: dict[str, int] = {}
    for name, place in zip(names, places, strict=True):
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place <= BEYOND:
            raise Invalid(f"after must be at least 0, not {place!r}", field="after", found=place)
        found[name] = place
    return found


def checked_count(number: object, what: str) -> int:
    """Raises `Invalid` unless it is a whole number from 1 to 2^53."""
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise Invalid(f"{what} must be at least 1, not {number!r:.40}", field=what, found=number)
    if number > BEYOND:
        text = f"{what} must be at most 2^53, not of {number.bit_length()} bits"
        raise Invalid(text, field=what, expected=BEYOND, found=number)
    return number


def checked_time(time: object, what: str) -> float:
    """The time in epoch seconds. Raises `Invalid` unless it can be a time."""
    if isinstance(time, bool) or not isinstance(time, int | float) or not abs(time) < 1e12:
        raise Invalid(f"{what} must be epoch seconds, not {time!r:.40}", field=what, found=time)
    return float(time)


def checked_epoch(epoch: object) -> None:
    """Raises `Invalid` unless it is a whole number of 63 bits."""
    if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 <= epoch < 2**63:
        raise Invalid(f"epoch must be in 0…2^63-1, not {epoch!r}", field="epoch", found=epoch)


def checked_revision(expect: object) -> None:
    """Raises `Invalid` unless it is a revision."""
    if not isinstance(expect, Revision):
        cure = "; Revision.parse makes one of its text" if isinstance(expect, str) else ""
        raise Invalid(
            f"expect must be a Revision, ABSENT or PRESENT, not {type(expect).__name__}{cure}",
            field="expect",
            found=type(expect),
        )


def checked_listed(given: object, what: str, of: str) -> None:
    """Raises `Invalid` unless it can be gone through and is no text."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise Invalid(
            f"{what} must be a list of {of}, not {type(given).__name__}",
            field=what,
            found=type(given),
        )


def checked_item(item: object) -> tuple[Any, Any, Any]:
    """Id, edits and op id (or None) of one commit of many. Raises `Invalid` for another shape."""
    kind = type(item)
    if isinstance(item, tuple | list):
        given = list(cast("Sequence[Any]", item))
        if len(given) == 2:
            given.append(None)
        if len(given) == 3:
            return given[0], given[1], given[2]
    raise Invalid(
        f"each must be (id, edits) or (id, edits, op), not {kind.__name__}", field="edits"
    )
