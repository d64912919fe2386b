"""From the text of a token to a record that may be believed."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from statehold.driver import Layout
from statehold.drivers.token import format as wire
from statehold.drivers.token.record import Record
from statehold.drivers.token.ring import KeyRing
from statehold.errors import Newer, Tampered

_log = logging.getLogger("statehold.token")


class Opener:
    """Opens tokens with a ring, and knows the versions of the classes that there are."""

    def __init__(self, ring: KeyRing, *, max_chars: int, max_bytes: int, leeway: float) -> None:
        self.ring = ring
        self._max_chars = max_chars
        self._max_bytes = max_bytes
        self._leeway = leeway
        self._versions: dict[str, dict[str, int]] = {}
        self.opened = self.refused = 0

    def learn(self, layout: Layout) -> None:
        """From now on tokens of this kind are held against the layout."""
        self._versions[layout.kind] = _versions(field.name for field in layout.fields)

    def raised(self, kind: str) -> dict[str, int] | None:
        """The versions of a kind's fields that are not 1; None for a kind that is not known."""
        ours = self._versions.get(kind)
        return None if ours is None else {name: n for name, n in ours.items() if n > 1}

    def open(self, token: str, tenant: str, kind: str, id: str | None, now: float) -> Record:
        """The record of a genuine token; of any session if `id` is None.

        Raises `Tampered`, or `Newer` if a newer version of the class wrote it.
        """
        try:
            try:
                record = self._opened(token, tenant, kind, id)
            except Tampered as error:
                if error.found != "key" or not self.ring.missed(now):
                    raise
                record = None
            if record is None:  # another replica may have a newer key than was known here
                record = self._opened(token, tenant, kind, id)
            if record.updated > now + self._leeway:
                wire.refuse("time", "dated in the future")
        except Tampered as error:
            self.refused += 1
            # Who sent it is for the access log to say; the token is for no log at all.
            _log.info("a token for %s was refused: %s", kind, error.found)
            error.key = (tenant, kind, id or "")
            raise
        self.opened += 1
        self._check_versions(record)
        return record

    def _opened(self, token: str, tenant: str, kind: str, id: str | None) -> Record:
        return wire.opened(
            token,
            self.ring,
            tenant=tenant,
            kind=kind,
            session=id,
            max_chars=self._max_chars,
            max_bytes=self._max_bytes,
        )

    def _check_versions(self, record: Record) -> None:
        if not record.versions:
            return
        ours = self._versions.get(record.key[1], {})
        for name, version in record.versions.items():
            known = ours.get(name, version)
            if version > known:
                raise Newer(
                    f"{name}: the token holds version {version}, this class reads up to {known}",
                    key=record.key,
                    field=name,
                    expected=known,
                    found=version,
                )


def _versions(stored: Iterable[str]) -> dict[str, int]:
    """Base name → version, of the fields that there are."""
    parts = [name.partition("@") for name in stored]
    return {base: int(version) if at else 1 for base, at, version in parts}
