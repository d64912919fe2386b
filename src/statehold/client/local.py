"""States through the library, in a store opened here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from statehold.client.base import Access, Applied
from statehold.commits import Key, Revision
from statehold.errors import Invalid
from statehold.fields import Log
from statehold.state import State
from statehold.store import AsyncCollection, AsyncStore
from statehold.store.names import Subjects


class Local(Access):
    """The states of these kinds in a store, which it closes at the end."""

    def __init__(self, store: AsyncStore, kinds: Mapping[str, type[State]]) -> None:
        self.store = store
        self.kinds = kinds

    async def get(
        self,
        key: Key,
        *,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
        entries: Any = None,
        after: int | None = None,
        limit: int | None = None,
    ) -> dict[str, Any] | None:
        """See `Access.get`."""
        collection = self._collection(key[0], key[1])
        keys = collection.schema.keys_from_json(entries)
        state = await collection.get(
            key[2], fields=fields, tail=tail, entries=keys, after=after, limit=limit
        )
        if not state.meta.exists:
            return None
        return shown(key[1], state, fields, positions=after is not None or limit is not None)

    async def commit(
        self,
        key: Key,
        changes: Mapping[str, Any],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: float | None = None,
    ) -> Applied:
        """See `Access.commit`."""
        collection = self._collection(key[0], key[1])
        edits = collection.schema.edits_from_json(changes)
        done = await collection.commit(
            key[2], edits, op=op, expect=expect, epoch=epoch, subject=subject, ttl=ttl
        )
        return Applied(done.revision, done.repeated)

    async def delete(
        self,
        key: Key,
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
    ) -> bool:
        """See `Access.delete`."""
        collection = self._collection(key[0], key[1])
        return await collection.delete(key[2], op=op, expect=expect, epoch=epoch)

    async def scan(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 500,
    ) -> tuple[list[str], str | None]:
        """See `Access.scan`."""
        collection = self._collection(tenant, kind)
        return await collection.scan_page(
            cursor=cursor, limit=limit, subject=subject, prefix=prefix, newest=newest
        )

    async def page(
        self,
        tenant: str,
        kind: str,
        *,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        cursor: str | None = None,
        limit: int = 100,
        fields: Sequence[str] | None = None,
        tail: int | None = None,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """See `Access.page`."""
        states, following = await self._collection(tenant, kind).get_page(
            cursor=cursor,
            limit=limit,
            subject=subject,
            prefix=prefix,
            newest=newest,
            fields=fields,
            tail=tail,
        )
        return [shown(kind, state, fields) for state in states], following

    async def check(self) -> None:
        """See `Access.check`."""
        await self.store.check()

    async def ops(self, kind: str) -> int | None:
        """See `Access.ops`."""
        found = self.kinds.get(kind)
        return None if found is None else found.__schema__.ops

    async def close(self) -> None:
        """See `Access.close`."""
        await self.store.close()

    def _collection(self, tenant: str, kind: str) -> AsyncCollection[State]:
        found = self.kinds.get(kind)
        if found is None:
            known = ", ".join(sorted(self.kinds)) or "none"
            raise Invalid(f"no kind {kind!r:.80}; there are: {known}", field="kind", found=kind)
        return self.store.collection(found, tenant=tenant)


def shown(
    kind: str, state: State, fields: Sequence[str] | None, *, positions: bool = False
) -> dict[str, Any]:
    """A state that exists as the server shows it; with `positions`, those of each log's items too."""
    values = state.to_json()  # first: it meets what is corrupted
    meta = state.meta
    found: dict[str, Any] = {
        "id": meta.id,
        "kind": kind,
        "revision": str(meta.revision),
        "created": meta.created,
        "updated": meta.updated,
        "expires": meta.expires,
        "age": meta.age,
        "subject": meta.subject,
        "subjects": list(meta.subjects),
        "epoch": meta.epoch,
        "fields": values,
        "missing": [name for name in meta.missing if fields is None or name in fields],
        "corrupted": [
            {"field": found.field, "entry": found.entry, "reason": found.reason}
            for found in meta.corrupted
        ],
        "newer": list(meta.newer),
    }
    if positions:
        logs = type(state).__schema__.fields.items()
        found["positions"] = {
            name: getattr(state, name).positions
            for name, field in logs
            if isinstance(field, Log) and name in values
        }
    return found
