"""`TokenDriver`: states live in the tokens that clients carry; nothing is kept here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from statehold.changes import Cell, Items, Refusal, fold
from statehold.clock import AMBIENT
from statehold.commits import Commit, Key, Revision, Want, deadline
from statehold.draining import Calls, counted
from statehold.driver import (
    Cells,
    Conflicted,
    Driver,
    Feature,
    Layout,
    Outcome,
    Page,
    Refused,
    Scan,
    Written,
)
from statehold.drivers.token.budget import Rules, check
from statehold.drivers.token.format import Form
from statehold.drivers.token.jar import Held, Jar, current
from statehold.drivers.token.opening import Opener
from statehold.drivers.token.past import Remembered
from statehold.drivers.token.record import Record
from statehold.drivers.token.registry import Registry, Seen
from statehold.drivers.token.registry import check as vouched
from statehold.drivers.token.ring import KeyRing
from statehold.drivers.token.sealing import Sealer
from statehold.drivers.token.spill import Spill
from statehold.errors import Closed, ConfigError, Invalid, Unsupported
from statehold.folding import Head, admit, advance, cut, is_over, looking, refused, revision_of

BUDGET: Final = 3500
"""Maximum characters of a token: with its name and attributes a cookie of 4,096 bytes."""

OPS: Final = 16
MAX_BYTES: Final = 1 << 20
LEEWAY: Final = 60.0
_LEAST_ACCEPTED: Final = 1 << 16


class TokenDriver(Driver):
    """Opens what the current `Jar` brings, folds commits into it, seals it again.

    * `form`: "sealed" (encrypted) or "signed" (readable by the client); both are opened;
    * `budget`: the maximum of characters of a token, and what happens past it: the logs named by `trim` lose
      their oldest turns, then fields move to the driver `spill` (those of `spill_fields`, else the
      largest first), else the commit is refused with the sizes by field;
    * `registry`: a driver in which the newest revision of each session and what was revoked are
      kept;
    * `ops`: how many op ids a token remembers at most;
    * `max_bytes`: the maximum of bytes that a token is decompressed to;
    * `leeway`: by how many seconds a token may be dated in the future;
    * `jar`: used where none is open;
    * `owned`: which of `spill` and `registry` are closed with this driver.
    """

    features = frozenset({Feature.EXPECT, Feature.EPOCH, Feature.RETURNING, Feature.WHERE})

    def __init__(
        self,
        keys: KeyRing,
        *,
        form: Form = "sealed",
        budget: int = BUDGET,
        trim: Sequence[str] = (),
        spill: Driver | None = None,
        spill_fields: Sequence[str] = (),
        registry: Driver | None = None,
        ops: int = OPS,
        max_bytes: int = MAX_BYTES,
        leeway: float = LEEWAY,
        jar: Jar | None = None,
        owned: Sequence[Driver] = (),
    ) -> None:
        if budget > max_bytes:
            raise ConfigError("token: budget is over max_bytes", field="budget", found=budget)
        if spill_fields and spill is None:
            raise ConfigError("token: spill_fields without spill", field="spill_fields")
        self.opener = Opener(
            keys, max_chars=max(budget, _LEAST_ACCEPTED), max_bytes=max_bytes, leeway=leeway
        )
        self._registry = None if registry is None else Registry(registry)
        self._rules = rules = Rules(budget, tuple(trim), tuple(spill_fields))
        self._sealer = Sealer(keys, form, rules, Spill(spill) if spill else None, max_bytes)
        self._within = [each for each in (registry, spill) if each is not None]
        self.suspends = any(each.suspends for each in self._within)
        self.ambiguous = registry is not None and registry.ambiguous
        self._ops = ops
        self._jar = jar
        self._owned = owned
        self._layouts: dict[str, Layout] = {}
        self._closed = False
        self._calls = Calls()

    async def open(self, layout: Layout) -> None:
        if self._closed:
            raise Closed("the store is closed")
        check(self._rules, layout)
        self._layouts[layout.kind] = layout
        self.opener.learn(layout)

    # ------------------------------------------------------------------------------------- reading

    @counted
    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        jar = self._current()
        if self.suspends:
            async with jar.turns:
                return await self._read(jar, keys, want, now)
        with jar.lock:
            return await self._read(jar, keys, want, now)

    async def _read(
        self, jar: Jar, keys: Sequence[Key], want: Want, now: float
    ) -> list[Cells | None]:
        found: list[Cells | None] = []
        for held in await self._held(jar, keys, now):
            record = _live(held, now)
            if record is not None and want.renew is not None:
                record = await self._renew(jar, held, record, want.renew, now)
            found.append(None if record is None else await self._cells(record, want, now))
        return found

    async def _cells(self, record: Record, want: Want, now: float) -> Cells:
        same = record.revision in want.unless
        fields = {} if same else record.fields
        corrupted: tuple[str, ...] = ()
        if record.spilled and not same:
            spilled = [n for n in record.spilled if want.fields is None or n in want.fields]
            loaded = await self._sealer.load(record, spilled, now)
            fields = fields | loaded
            corrupted = tuple(name for name in spilled if name not in loaded)
        return Cells(
            record.revision,
            cut(fields, want),
            record.created,
            record.updated,
            record.deadline,
            epoch=record.epoch,
            corrupted=corrupted,
            unchanged=same,
        )

    async def _renew(
        self,
        jar: Jar,
        held: Held,
        record: Record,
        renew: tuple[float | None, float | None],
        now: float,
    ) -> Record:
        until = deadline(record.created, now, *renew)
        if until == record.deadline:
            return record
        new = replace(record, deadline=until)
        seen = held.seen
        if self._registry is not None and seen is not None:
            moved = await self._registry.move(record.key, seen, record.revision, until, now)
            if not isinstance(moved, Seen):
                return record  # someone has gone on from here; the next commit will say so
            seen = moved
        jar.put(record.key, Held(new, await self._sealer.renew(new, now), seen))
        jar.changed = True
        return new

    # ------------------------------------------------------------------------------ what is in a jar

    def _current(self) -> Jar:
        if self._closed:
            raise Closed("the store is closed")
        jar = current() or self._jar
        if jar is None:
            raise Invalid("no jar is open: `with Jar(token) as jar:` around it", field="jar")
        return jar

    async def _held(self, jar: Jar, keys: Sequence[Key], now: float) -> list[Held]:
        """What the jar has for each key, genuine and vouched for."""
        self.opener.ring.refresh(now)
        new: dict[Key, Held] = {}
        for key in keys:
            held = jar.find(key)
            if held is None:
                new[key] = self._arrived(jar, key, now)
            elif held.record is not None and _live(held, now) is None:
                new[key] = Held(None, None, None)
            elif held.doubt is not None:
                new[key] = held
        if new and self._registry is not None:
            await self._vouch(self._registry, new, now)
        for key, held in new.items():
            jar.put(key, held)
        return [jar.find(key) or new[key] for key in keys]

    async def _vouch(self, registry: Registry, new: Mapping[Key, Held], now: float) -> None:
        found = await registry.look(list(new), now)
        for (key, held), each in zip(new.items(), found, strict=True):
            if held.doubt is not None:
                if each[0].entry.revision == str(held.doubt[0].revision):
                    held.record, held.token = held.doubt
                held.doubt = None
            record = held.record
            if record is not None:
                vouched(each, key, record.revision, record.updated, registered=record.registered)
            held.seen = each[0]

    def _arrived(self, jar: Jar, key: Key, now: float) -> Held:
        token = jar.arrived(key)
        if token is None:
            return Held(None, None, None)
        record = self.opener.open(token, *key, now)
        if is_over(record, now):
            jar.expired.add(key)
            return Held(None, None, None)
        return Held(record, token, None)

    def session_of(self, token: str, tenant: str, kind: str, now: float) -> str | None:
        """The id of the session that a genuine token belongs to; None if its time is over.

        Raises `Tampered` for any other.
        """
        self.opener.ring.refresh(now)
        record = self.opener.open(token, tenant, kind, None, now)
        return None if is_over(record, now) else record.key[2]

    # ----------------------------------------------------------------------------------- committing

    @counted
    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        jar = self._current()
        if self.suspends:
            async with jar.turns:
                return [await self._commit(jar, commit, now) for commit in commits]
        with jar.lock:
            return [await self._commit(jar, commit, now) for commit in commits]

    async def _commit(self, jar: Jar, commit: Commit, now: float) -> Outcome:
        if commit.claim is not None:
            raise Unsupported(
                "TokenDriver does not support claim: nothing is kept beside a token",
                expected=Feature.CLAIM,
            )
        held = (await self._held(jar, (commit.key,), now))[0]
        old = _live(held, now)
        head = None if old is None else old.head
        past = Remembered(old, commit, self._ops)
        look = None
        if commit.where:
            look = looking({} if old is None else await self._looked_at(commit, old, now))
        barred = admit(commit, head, past, now, look)
        if isinstance(barred, Written) and old is not None:
            return await self._written(commit, old, barred, now)
        if barred is not None:
            return barred
        if commit.erase:
            return await self._erase(jar, held, old, now)
        try:
            new = await self._folded(commit, advance(commit, head, now), past, now)
        except Refusal as why:
            return refused(why)
        return await self._carried(jar, held, commit, new, now)

    async def _looked_at(self, commit: Commit, old: Record, now: float) -> Mapping[str, Cell]:
        """The cells that its conditions are about."""
        names = {condition.field for condition in commit.where}.intersection(old.spilled)
        return old.fields | await self._sealer.load(old, names, now) if names else old.fields

    async def _carried(
        self, jar: Jar, held: Held, commit: Commit, new: Record, now: float
    ) -> Outcome:
        fitted = await self._sealer.fit(new, self._layouts.get(new.key[1]), now)
        if isinstance(fitted, Refused):
            return fitted
        new, token = fitted
        seen = None
        if self._registry is not None:
            moved = await self._move(self._registry, jar, held, new, token, now)
            if isinstance(moved, Revision):
                return Conflicted(moved)
            seen = moved
        jar.put(new.key, Held(new, token, seen))
        jar.changed = True
        done = Written(new.revision, None, False, new.updated, new.deadline)
        return await self._written(commit, new, done, now)

    async def _written(
        self, commit: Commit, record: Record, outcome: Written, now: float
    ) -> Written:
        """With the cells as they stand, where they are wanted."""
        if commit.returning is None:
            return outcome
        return replace(outcome, returned=await self._cells(record, commit.returning, now))

    async def _folded(self, commit: Commit, head: Head, past: Remembered, now: float) -> Record:
        old = past.record
        fields, spilled, versions = {}, {}, {}
        if old is not None:
            fields, spilled, versions = old.fields, old.spilled, old.versions
        if old is not None and spilled:
            touched = {change.field for change in commit.changes}
            fields = fields | await self._sealer.load(old, touched.intersection(spilled), now)
            spilled = {name: handle for name, handle in spilled.items() if name not in touched}
        raised = self.opener.raised(commit.key[1])
        return Record(
            key=commit.key,
            revision=head.revision,
            created=head.created,
            # The date of the token: one dated in the future is not accepted.
            updated=now if commit.at is None else head.updated,
            deadline=head.deadline,
            epoch=head.epoch,
            registered=self._registry is not None,
            ops=past.after(head.revision.number, now),
            versions=versions if raised is None else raised,
            fields={n: cell for n, cell in fold(fields, commit.changes).items() if _says(cell)},
            spilled=spilled,
        )

    async def _erase(self, jar: Jar, held: Held, old: Record | None, now: float) -> Outcome:
        if old is None:
            return Written(revision_of(None))
        key = old.key
        if self._registry is not None:
            await self._registry.revoke(*key, now, old.deadline, now)
            jar.put(key, Held(None, None, (await self._registry.look([key], now))[0][0]))
        else:
            jar.put(key, Held(None, None, held.seen))
        await self._sealer.erase(old, now)
        jar.changed = True
        return Written(old.revision)

    async def _move(
        self, registry: Registry, jar: Jar, held: Held, new: Record, token: str, now: float
    ) -> Seen | Revision:
        assert held.seen is not None  # noqa: S101  `_held` has looked
        try:
            moved = await registry.move(new.key, held.seen, new.revision, new.deadline, now)
        except BaseException:
            held.doubt = (new, token)
            raise
        if isinstance(moved, Revision):
            jar.forget(new.key)
        return moved

    # ----------------------------------------------------------------------------------- the others

    async def revoke(
        self,
        tenant: str,
        kind: str,
        id: str | None,
        *,
        before: float,
        life: float | None,
        now: float,
    ) -> None:
        """The tokens of a session are revoked; without an id all of the kind issued up to `before`.

        `life` is the longest time that a token may live. Raises `Unsupported` without a registry.
        """
        if self._closed:
            raise Closed("the store is closed")
        if self._registry is None:
            raise Unsupported("tokens can be revoked only with a registry", expected="registry")
        until = None if life is None else max(before, now) + life
        await self._registry.revoke(tenant, kind, id or "", before, until, now)

    async def scan(self, asked: Scan, now: float) -> Page:  # noqa: ARG002
        self._current()
        raise Unsupported("TokenDriver does not support scan: clients have the states")

    @counted
    async def check(self, now: float) -> None:
        if self._closed:
            raise Closed("the store is closed")
        self.opener.ring.refresh(now)
        for within in self._within:
            await within.check(now)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it does not cancel anything
        """See `Driver.drain`."""
        if not self.suspends:
            return True  # and there may be no event loop
        began = AMBIENT.monotonic()
        if not await self._calls.drain(timeout):
            return False
        drained = True
        for owned in self._owned:
            left = max(0.0, timeout - (AMBIENT.monotonic() - began))
            drained = await owned.drain(left) and drained
        return drained

    async def close(self) -> None:
        self._closed = True
        for owned in self._owned:
            await owned.close()

    def stats(self) -> Mapping[str, int | float]:
        return {
            "keys": len(self.opener.ring),
            "opened_total": self.opener.opened,
            "sealed_total": self._sealer.sealed,
            "refused_total": self.opener.refused,
            "trimmed_items_total": self._sealer.trimmed,
            "spilled_fields_total": self._sealer.spilled,
        }


def _live(held: Held, now: float) -> Record | None:
    record = held.record
    return None if record is None or is_over(record, now) else record


def _says(cell: Cell) -> bool:
    """Whether it is any different from no cell: an empty list may have positions that go on."""
    return bool(cell) or (isinstance(cell, Items) and cell.first > 1)
