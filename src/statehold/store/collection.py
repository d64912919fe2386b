"""`AsyncCollection`: the states of one class in one store. The one core of the sync and the async API."""

from __future__ import annotations

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from typing import Any, Final, Literal, TypeVar, cast, overload

import msgspec

from statehold.clock import pause
from statehold.commits import ABSENT, EVERYTHING, Commit, Revision, Want
from statehold.driver import Conflicted, Feature, FencedOff, Page, Scan, Written
from statehold.engine import new_op
from statehold.errors import (
    Conflict,
    Invalid,
    StateholdError,
    TooLarge,
    Unavailable,
)
from statehold.fields.base import Edit
from statehold.schema import Lifetime, Where
from statehold.state import S, snapshot
from statehold.store.asking import ALL_READ
from statehold.store.base import CollectionBase
from statehold.store.lease import AsyncLease
from statehold.store.names import (
    CURSOR_BYTES,
    ID_BYTES,
    After,
    Keys,
    Names,
    Subjects,
    Tail,
    checked,
    checked_about,
    checked_count,
    checked_epoch,
    checked_item,
    checked_listed,
)
from statehold.store.outcomes import Committed, error_of, repeated_error
from statehold.store.session import AsyncSession
from statehold.store.together import Step

R = TypeVar("R")

NEVER: Final = Revision(1, 0)
"""A revision that no state ever has: commits count from 1."""

ATTEMPTS: Final = 16
"""How often `transact` tries unless told otherwise."""
FIRST_PAUSE: Final = 0.001
LONGEST_PAUSE: Final = 0.25
"""Seconds that `transact` waits before it tries again, at most: at first, and in the end."""


class AsyncCollection(CollectionBase[S]):
    """The states of one class in one store.

    Every method raises `Unavailable` when the store cannot answer, `Invalid` for an id that is
    empty, over 512 bytes or no text, and `Closed` after the store was closed.
    """

    # ------------------------------------------------------------------------------------- reading

    async def get(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        after: After | None = None,
        limit: int | None = None,
        on_failure: Literal["raise", "default"] = "raise",
    ) -> S:
        """The state as it is now; the defaults, with `meta.exists` False, if it is not found.

        With `fields` only those are read (reading another raises `Invalid`), with `tail` only the
        newest items of logs, with `after` only those after a position, `limit` of them at most; with
        `entries` only these keys of a map, set or tally, as in `entries={"values": ["a", "b"]}` (what is
        then done with the field shows these; looking for another key raises `Invalid`, since it may be
        there). With `on_failure="default"` a store that cannot answer gives the
        defaults too, and `meta.source` says "default", `meta.degraded` True.
        """
        if id.__class__ is not str or not id.isascii() or not 0 < len(id) <= ID_BYTES:
            id = checked(id, "id")
        key = (self.tenant, self._kind, id)
        if fields is None and tail is None and entries is None and after is None and limit is None:
            want, unread = self._all, ALL_READ
        else:
            want, unread = self._asking.want(fields, tail, entries, after=after, limit=limit)
        try:
            left = self._left - 1
            if left < 0:
                await self._ready()
            else:
                self._left = left
            cells = (await self._driver.read((key,), want, self._now()))[0]
        except Unavailable as error:
            if on_failure == "default":
                return snapshot(self.cls, key, None, self.home, source="default")
            error.key = key
            raise
        return snapshot(self.cls, key, cells, self.home, unread, "store", want)

    async def get_many(
        self,
        ids: Iterable[str],
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        after: After | None = None,
        limit: int | None = None,
    ) -> dict[str, S]:
        """The states of the ids, in their order, absent ones with `meta.exists` False; see `get`.

        Each state is read as of one instant, several are not: of what `apply_together` made, one may show
        it and another not yet.
        """
        checked_listed(ids, "ids", "ids")
        keys = [self._asking.key(id) for id in ids]
        want, unread = self._asking.want(fields, tail, entries, after=after, limit=limit)
        await self._ready()
        found = await self._driver.read(keys, want, self._now())
        return {
            key[2]: snapshot(self.cls, key, cells, self.home, unread, "store", want)
            for key, cells in zip(keys, found, strict=True)
        }

    # ------------------------------------------------------------------------------------- changing

    @overload
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        since: float | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: Subjects | None = ...,
        ttl: Lifetime | None = ...,
        returning: None = ...,
        tail: Tail | None = ...,
        entries: Keys | None = ...,
        where: Where = ...,
    ) -> Revision: ...
    @overload
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        since: float | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: Subjects | None = ...,
        ttl: Lifetime | None = ...,
        returning: Names,
        tail: Tail | None = ...,
        entries: Keys | None = ...,
        where: Where = ...,
    ) -> S: ...
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = None,
        since: float | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
        returning: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        where: Where = None,
    ) -> Revision | S:
        """The edits stand, all together, without anything having been read first.

        Returns the revision, or with `returning` a snapshot of those fields as they stand after it
        (`tail` bounds their lists, `entries` says which of their entries).

        `op` is an idempotency key: what is sent again with it is applied once, and answers with its
        first revision. A state remembers the newest ones (`ops` of its class, 128 by default). Who
        repeats a call that another process made says with `since` when that was (epoch seconds), so
        that what the state has forgotten is told from what it has never seen.

        `where` are conditions on parts of the state, such as `Chat.steps.ends_with(step)`: unlike
        `expect` they leave alone who changes the rest. All must hold.

        `subject` is whom the state is about from now on: one, or a list of up to 8, each of whom finds
        it (`find`); `()` for nobody. Without it that stays as it is.

        `ttl` is how long the state lives from now on unless renewed: the class's by default, and at
        most. It is not remembered: the next write, `touch` or renewing read counts anew.

        Raises: `Invalid` for a longer `ttl`, `Conflict` if the state is not at `expect` (a revision,
        `ABSENT` or `PRESENT`) or a condition does not hold (`error.field` says of which field),
        `Fenced` if it has seen a newer `epoch` (a fencing token), `TooLarge` if a bound would
        break, `Reused` if `op` stands for other edits, `InDoubt` if it is a repetition and the state
        cannot tell whether the first one was applied. Nothing is written then.
        """
        if op is not None or since is not None or where is not None:
            done = await self.commit(
                id,
                edits,
                op=op,
                since=since,
                expect=expect,
                epoch=epoch,
                subject=subject,
                ttl=ttl,
                returning=returning,
                tail=tail,
                entries=entries,
                where=where,
            )
            return done.revision if done.state is None else done.state
        if id.__class__ is not str or not id.isascii() or not 0 < len(id) <= ID_BYTES:
            id = checked(id, "id")
        key = (self.tenant, self._kind, id)
        left = self._left - 1
        if left < 0:
            await self._ready()  # first, since it tells the store's time
        else:
            self._left = left
        now = self._now()
        schema = self.schema
        want = None
        unread = ALL_READ
        if returning is not None:
            want, unread = self._asking.want(returning, tail, entries, renew=False)
            self._asking.needs(Feature.RETURNING)
        commit = Commit(
            key,
            schema.changes(edits, self.home),
            schema.ttl if ttl is None else schema.lifetime(ttl),
            new_op() if self._ambiguous else "",
            expect,
            epoch,
            schema.max_age,
            None,
            schema.ops,
            want,
        )
        if expect is not None or epoch or subject is not None:
            commit = self._asking.conditioned(commit, subject)
        try:
            outcome = (await self._driver.commit((commit,), now))[0]
        except Unavailable as error:
            error.key = key
            raise
        if not isinstance(outcome, Written):
            raise error_of(schema, key, outcome)
        if returning is None:
            return outcome.revision
        shown = outcome.returned
        return snapshot(self.cls, key, shown, self.home, unread, "store", want or EVERYTHING)

    async def commit(
        self,
        id: str,
        edits: Iterable[Edit],
        *,
        op: str | None = None,
        since: float | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
        returning: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        where: Where = None,
    ) -> Committed[S]:
        """Like `apply`, with all that there is to say: also whether the op id was a repeat."""
        want, unread = None, ALL_READ
        if returning is not None:
            want, unread = self._asking.want(returning, tail, entries, renew=False)
            self._asking.needs(Feature.RETURNING)
        await self._ready()
        commit = self._asking.commit(
            id,
            edits,
            op=op,
            since=since,
            expect=expect,
            epoch=epoch,
            subject=subject,
            ttl=ttl,
            returning=want,
            where=where,
        )
        written = self._written(
            commit.key, (await self._send([commit], repeatable=op is not None))[0]
        )
        state = None
        if want is not None:
            state = snapshot(
                self.cls, commit.key, written.returned, self.home, unread, "store", want
            )
        return Committed(written.revision, written.repeated, state)

    async def apply_many(
        self,
        edits: Iterable[tuple[str, Sequence[Edit]] | tuple[str, Sequence[Edit], str]],
        *,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
    ) -> list[Revision | StateholdError]:
        """What became of each `(id, edits)` or `(id, edits, op)`, in order: revision or error.

        Each is a commit of its own; one that fails leaves the others alone. With an idempotency key
        (`op`) what was left in doubt can be sent again. `epoch`, `subject` and `ttl` are those of all of
        them; see `apply`. Where the store fails for all of them, that error is raised.
        """
        checked_listed(edits, "edits", "(id, edits)")
        checked_epoch(epoch)
        if ttl is not None:
            self.schema.lifetime(ttl)
        if subject is not None:
            self._asking.needs(Feature.SUBJECT)
            checked_about(subject)
        await self._ready()
        commits: list[Commit] = []
        errors: dict[int, StateholdError] = {}
        total = 0
        repeatable = False
        for one in edits:
            try:
                id, its, op = checked_item(one)
                repeatable = repeatable or op is not None
                commit = self._asking.commit(id, its, op=op, epoch=epoch, subject=subject, ttl=ttl)
                commits.append(commit)
            except (Invalid, TooLarge) as error:
                errors[total] = error
            total += 1
        outcomes = zip(commits, await self._send(commits, repeatable=repeatable), strict=True)

        def result(at: int) -> Revision | StateholdError:
            if at in errors:
                return errors[at]
            commit, outcome = next(outcomes)
            if isinstance(outcome, Written):
                return outcome.revision
            return error_of(self.schema, commit.key, outcome)

        return [result(at) for at in range(total)]

    def step(
        self,
        id: str,
        *edits: Edit,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
        where: Where = None,
        delete: bool = False,
    ) -> Step:
        """These edits (or, with `delete`, the end) of a state, as a step of `store.apply_together`.

        The rest is as in `apply`. Nothing is done yet.
        """
        return Step(
            self, id, edits, expect, epoch, subject, ttl, self.schema.conditions(where), delete
        )

    async def touch(self, id: str, *, ttl: Lifetime | None = None) -> bool:
        """The state expires as if it had just been written. False if it is not found.

        Its revision stays; a renewal is no commit. `ttl` is how long it lives from now on, as in
        `apply`: longer or shorter than it would have.

        Raises: `ReadOnly` or `Full` where nothing can be written.
        """
        key = self._asking.key(id)
        schema = self.schema
        lifetime = schema.ttl if ttl is None else schema.lifetime(ttl)
        await self._ready()
        want = Want((), None, (lifetime, schema.max_age), insists=True)
        return (await self._driver.read((key,), want, self._now()))[0] is not None

    async def delete(
        self,
        id: str,
        *,
        op: str | None = None,
        since: float | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        where: Where = None,
    ) -> bool:
        """The state is gone, with all that belongs to it. False if it was not found.

        With an idempotency key (`op`; see `apply`) a repetition answers as the first one did, and
        leaves alone what was made since. It is remembered for a minute.

        Raises: `Conflict` if it is not at `expect` or not as `where` says (see `apply`), `Fenced` if it has seen a newer `epoch`,
        `Reused` if `op` stands for something else, `InDoubt` as `apply` does.
        """
        if op is not None:
            self._asking.needs(Feature.ERASE_ONCE)
        await self._ready()
        commit = self._asking.commit(
            id, (), op=op, since=since, expect=expect, epoch=epoch, erase=True, where=where
        )
        sent = await self._send([commit], repeatable=op is not None)
        return self._written(commit.key, sent[0]).revision != ABSENT

    def session(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        exclusive: bool = False,
        expect: Revision | None = None,
        op: str | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
        on_failure: Literal["raise", "default"] = "raise",
        where: Where = None,
    ) -> AsyncSession[S]:
        """`async with` it: one read, then one atomic commit of what was done; nothing if it raises.

        Without `exclusive` what merges merges. With it, `Conflict` is raised at the end, and
        nothing written, if anyone else has changed the state meanwhile; with `expect`, if the state
        is not at that revision, and with `where`, if one of these conditions does not hold then. `meta.committed` says afterwards at which revision it stands.

        With `on_failure="default"` a store that cannot answer gives the defaults to read, and what
        was done is lost without an error if it cannot answer at the end; `meta.committed` is None
        then.
        """
        write: dict[str, Any] = {"op": op, "expect": expect, "epoch": epoch, "subject": subject}
        write |= {"ttl": ttl, "where": self.schema.conditions(where) or None}

        def read() -> Coroutine[Any, Any, S]:
            return self.get(id, fields=fields, tail=tail, entries=entries, on_failure=on_failure)

        def commit(state: S) -> Coroutine[Any, Any, tuple[Revision, bool]]:
            if exclusive and expect is None:
                write["expect"] = state._revision()
            return self._computed(id, state.pending, write)

        return AsyncSession(read, commit, lenient=on_failure == "default")

    @overload
    async def transact(
        self,
        id: str,
        fn: Callable[[S], Coroutine[Any, Any, R]],
        *,
        fields: Names | None = ...,
        tail: Tail | None = ...,
        entries: Keys | None = ...,
        attempts: int = ...,
        op: str | None = ...,
        epoch: int = ...,
        subject: Subjects | None = ...,
        ttl: Lifetime | None = ...,
    ) -> R: ...
    @overload
    async def transact(
        self,
        id: str,
        fn: Callable[[S], R],
        *,
        fields: Names | None = ...,
        tail: Tail | None = ...,
        entries: Keys | None = ...,
        attempts: int = ...,
        op: str | None = ...,
        epoch: int = ...,
        subject: Subjects | None = ...,
        ttl: Lifetime | None = ...,
    ) -> R: ...
    async def transact(
        self,
        id: str,
        fn: Callable[[S], R | Awaitable[R]],
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        attempts: int = ATTEMPTS,
        op: str | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
    ) -> R:
        """What `fn` returned, its changes committed against exactly the state that it saw.

        On a conflict the state is read again and `fn` called again, up to `attempts` times with
        growing random pauses; then `Conflict` is raised. `fn` may be async (for a synchronous
        collection it is not), and should have no effects of its own.

        With an idempotency key (`op`) what was done under it before is not done again: `Repeated` is
        raised, since what `fn` returned then is not known. It is looked for first, in a round trip of
        its own.
        """
        if op is not None:
            await self._raise_if_done(id, op)
        for attempt in range(checked_count(attempts, "attempts")):
            try:
                async with self.session(
                    id,
                    fields=fields,
                    tail=tail,
                    entries=entries,
                    exclusive=True,
                    op=op,
                    epoch=epoch,
                    subject=subject,
                    ttl=ttl,
                ) as state:
                    found = fn(state)
                    result = (
                        await cast("Awaitable[R]", found) if isinstance(found, Awaitable) else found
                    )
                committed, repeated = state._done or (None, False)
                if repeated:  # by somebody who was quicker
                    raise repeated_error(committed, (self.tenant, self._kind, id))
                return result  # noqa: TRY300  whatever else is raised is not for this `except`
            except Conflict:
                if attempt == attempts - 1:
                    raise
                await self.store.clock.sleep(pause(attempt, FIRST_PAUSE, LONGEST_PAUSE))
        raise AssertionError("the last attempt returns or raises")

    def lease(
        self, id: str, *, ttl: Lifetime, wait: Lifetime = 0.0, renews: bool = True
    ) -> AsyncLease:
        """`async with` it: nobody else holds a lease of this state meanwhile. It need not exist.

        Its `epoch` goes into each write: `apply(…, epoch=lease.epoch)`, and so into `commit`, `session`,
        `transact`, `delete`, `step` and `apply_many`. Writes without it are `Fenced` from then on, also those of holders
        before, and of one who was stopped for longer than the `ttl` once another holds it. The store's
        clock says how long that is.

        `wait` is for how long it is waited for where another holds it, as a span or in seconds
        (`math.inf` for as long as it takes); then `Leased` is raised. It is renewed in the background, unless `renews` is
        False or time is moved by hand (`ManualClock`); `renew` does it at once. At the end it is given
        back, and `Fenced` raised if it was lost meanwhile.

        Raises `Unsupported` where the backend keeps nothing beside a state, and `Invalid`.
        """
        return AsyncLease(self, self._asking.key(id)[2], ttl, wait, renews=renews)

    # -------------------------------------------------------------------------------------- listing

    async def scan(self, *, prefix: str = "", page_size: int = 500) -> AsyncIterator[str]:
        """The ids of all states that begin with the prefix, in a stable order, read page by page.

        What lives throughout is listed exactly once; what comes or goes meanwhile may be. Ids that
        `hashed_id` has shortened keep 447 bytes of what they were made of, and a longer prefix finds none.
        """
        async for id in self._ids(self._asking.scan(None, prefix, newest=False), page_size):
            yield id

    async def find(
        self, subject: str, *, prefix: str = "", newest: bool = False, page_size: int = 500
    ) -> AsyncIterator[str]:
        """The ids of the states about a subject, without scanning the others.

        With `newest` the last updated first; what is written meanwhile may then be left out.
        """
        subject = checked(subject, "subject")
        async for id in self._ids(self._asking.scan(subject, prefix, newest=newest), page_size):
            yield id

    async def scan_page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 500,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
    ) -> tuple[list[str], str | None]:
        """Up to `limit` ids, and the cursor for the next page (it may be empty); None after the last.

        What is listed, and in which order, is as of `scan` or, with a subject, of `find`.
        """
        asked = self._asking.scan(subject, prefix, newest=newest)
        page = await self._page(asked, cursor, limit)
        return [key[2] for key in page.keys], page.cursor

    async def get_page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 100,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
        fields: Names | None = None,
        tail: Tail | None = None,
        entries: Keys | None = None,
        after: After | None = None,
    ) -> tuple[list[S], str | None]:
        """The states of a page of `scan_page`, in its order, and the cursor for the next page.

        They are read once the page is known: each whole, as it is then, and without those that have
        ended in between; or of each what `fields`, `tail`, `entries` and `after` say, as in `get`. `limit`
        is that of states, not of items. Being listed does not renew a state.
        """
        asked = self._asking.scan(subject, prefix, newest=newest)
        want, unread = self._asking.want(fields, tail, entries, after=after, renew=False)
        page = await self._page(asked, cursor, limit)
        if not page.keys:
            return [], page.cursor
        found = await self._driver.read(page.keys, want, self._now())
        states = [
            snapshot(self.cls, key, cells, self.home, unread, "store", want)
            for key, cells in zip(page.keys, found, strict=True)
            if cells is not None
        ]
        return states, page.cursor

    async def _page(self, asked: Scan, cursor: str | None, limit: int) -> Page:
        checked_count(limit, "limit")
        if cursor is not None:
            checked(cursor, "cursor", limit=CURSOR_BYTES)
        await self._ready()
        asked = msgspec.structs.replace(asked, cursor=cursor, limit=limit)
        return await self._driver.scan(asked, self._now())

    async def _ids(self, asked: Scan, page_size: int) -> AsyncIterator[str]:
        cursor: str | None = None
        while True:
            page = await self._page(asked, cursor, page_size)
            for key in page.keys:
                yield key[2]
            cursor = page.cursor
            if cursor is None:
                return

    # --------------------------------------------------------------------------------------- inside

    async def _computed(
        self, id: str, edits: tuple[Edit, ...], write: Mapping[str, Any]
    ) -> tuple[Revision, bool]:
        """Commit what follows from a state that was read. Returns the revision, and if it repeats."""
        if write["op"] is None:
            return cast("Revision", await self.apply(id, *edits, **write)), False
        await self._ready()
        commit = self._asking.commit(id, edits, **write, computed=True)
        outcome = (await self._send([commit], repeatable=True))[0]
        written = self._written(commit.key, outcome)
        return written.revision, written.repeated

    async def _raise_if_done(self, id: str, op: str) -> None:
        """Raise `Repeated` if the op id is remembered. Nothing is written."""
        await self._ready()
        commit = self._asking.commit(id, (), op=op, expect=NEVER, computed=True)
        outcome = (await self._send([commit]))[0]
        if isinstance(outcome, Written):
            raise repeated_error(outcome.revision, commit.key)
        if not isinstance(outcome, Conflicted | FencedOff):
            raise error_of(self.schema, commit.key, outcome)
