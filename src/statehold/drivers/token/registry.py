"""The registry: a small entry for each session, in any store, that says which token is the newest.

A token alone can be kept and sent again. With a registry, each commit moves the session's entry to
its revision, on condition that no one else has moved it since the token was opened; so of two
parallel updates one is a `Conflict`, and an older token is `Stale`. The same entry revokes a session;
the entry of a kind revokes what was issued up to a time. An entry lives as long as any token that it
is about, and a little longer.

A token issued with a registry says so. If then there is no entry, it is refused: what cannot be
confirmed is not taken on trust.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import msgspec

from statehold.changes import Put
from statehold.commits import ABSENT, Commit, Key, Revision, Want
from statehold.driver import Cells, Conflicted, Driver, Feature, FieldLayout, Layout, Written
from statehold.errors import ConfigError, Corrupted, Revoked, Stale

KIND: Final = "token_registry"
LEEWAY: Final = 120.0
"""Seconds that an entry outlives its tokens, and that clocks may differ."""

_FIELD: Final = "entry"
_LAYOUT: Final = Layout(
    KIND,
    (FieldLayout(_FIELD, "register", frozenset({"put", "drop"}), dict, 1, 256),),
    8,
)


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept: the newest revision, or when what was revoked (epoch seconds)."""

    revision: str = ""
    revoked: float | None = None
    """The session was revoked then; of a kind: everything issued up to then."""


class Seen(msgspec.Struct, frozen=True):
    """A session's entry as it was read, to be moved only if it is still the same."""

    at: Revision
    """The revision of the entry itself, `ABSENT` if there is none."""
    entry: Entry


_NONE: Final = Seen(ABSENT, Entry())
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Entry).decode


class Registry:
    """The entries in a store, through its driver."""

    def __init__(self, driver: Driver) -> None:
        if Feature.EXPECT not in driver.features:
            raise ConfigError(
                "registry: the backend must support conditions (expect)", field="registry"
            )
        self.driver = driver
        self._opened = False

    async def _ready(self) -> None:
        if not self._opened:
            await self.driver.open(_LAYOUT)
            self._opened = True

    async def look(self, keys: Sequence[Key], now: float) -> list[tuple[Seen, float | None]]:
        """For each state its entry, and up to when tokens of its kind are revoked."""
        await self._ready()
        sessions = [_key(*key) for key in keys]
        kinds = list(dict.fromkeys(_key(key[0], key[1], "") for key in keys))
        found = await self.driver.read([*sessions, *kinds], Want(), now)
        seen = [_NONE if cells is None else _seen(cells) for cells in found]
        before = {
            key: each.entry.revoked for key, each in zip(kinds, seen[len(keys) :], strict=True)
        }
        return [(seen[at], before[_key(key[0], key[1], "")]) for at, key in enumerate(keys)]

    async def move(
        self, key: Key, seen: Seen, revision: Revision, until: float | None, now: float
    ) -> Revision | Seen:
        """The entry as it is now, moved to the revision; else the revision that stands instead."""
        await self._ready()
        entry = Entry(str(revision))
        outcome = await self._put(_key(*key), entry, until, now, expect=seen.at)
        if isinstance(outcome, Conflicted) and outcome.revision == ABSENT and revision.number == 1:
            # The entry of a former life has expired since it was read: nothing stands against a new.
            outcome = await self._put(_key(*key), entry, until, now, expect=ABSENT)
        if isinstance(outcome, Written):
            return Seen(outcome.revision, entry)
        if isinstance(outcome, Conflicted):
            stands = (await self.look([key], now))[0][0].entry.revision
            return Revision.parse(stands) if stands else ABSENT
        raise Corrupted("registry: the store holds something else there", found=outcome)

    async def revoke(
        self, tenant: str, kind: str, id: str, time: float, until: float | None, now: float
    ) -> None:
        """Every token of the session so far is revoked; with id "" all of the kind up to `time`.

        The entry stays `until` then, or for ever.
        """
        key = _key(tenant, kind, id)
        if not id:
            before = (await self.look([(tenant, kind, "")], now))[0][1]
            time = time if before is None else max(time, before)
        await self._ready()
        outcome = await self._put(key, Entry(revoked=time), until, now)
        if not isinstance(outcome, Written):
            raise Corrupted("registry: the store holds something else there", found=outcome)

    async def _put(
        self,
        key: Key,
        entry: Entry,
        until: float | None,
        now: float,
        *,
        expect: Revision | None = None,
    ) -> object:
        ttl = None if until is None else max(0.0, until - now) + LEEWAY
        put = Put(_FIELD, "", _encode(entry))
        return (await self.driver.commit([Commit(key, (put,), ttl, expect=expect)], now))[0]


def check(
    found: tuple[Seen, float | None],
    key: Key,
    revision: Revision,
    issued: float,
    *,
    registered: bool,
) -> Seen:
    """The entry, if it vouches for a token of this revision. Raises `Stale` or `Revoked`."""
    seen, before = found
    if before is not None and issued <= before:
        raise Revoked("the token was issued before a time that was revoked", key=key)
    entry = seen.entry
    if entry.revoked is not None:
        raise Revoked("the token's session was revoked", key=key)
    if entry.revision:
        if entry.revision != str(revision):
            raise Stale("the token is older than the newest one of its session", key=key)
    elif registered:
        raise Stale("the registry's entry that vouched for the token is gone", key=key)
    return seen


def _seen(cells: Cells) -> Seen:
    cell = cells.fields.get(_FIELD)
    value = cell.get("") if isinstance(cell, dict) else None
    try:
        return Seen(cells.revision, _decode(value if isinstance(value, bytes) else b""))
    except msgspec.DecodeError:
        raise Corrupted("registry: an entry cannot be read", field=_FIELD) from None


def _key(tenant: str, kind: str, id: str) -> Key:
    """Where the entry is: of bounded length, and it does not show the session's id."""
    name = f"{len(kind)}:{kind}{id}".encode()
    return (tenant, KIND, blake2b(name, digest_size=20).hexdigest())
