"""The faces: `AsyncStore`/`AsyncCollection`, and `Store`/`Collection` for synchronous callers.

There is one core, the asynchronous one. The synchronous face runs it: in place where the driver
never suspends, else through a portal thread.
"""

from __future__ import annotations

import random
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeAlias, TypeVar, overload

from holdfast.changes import ABSENT, EVERYTHING, PRESENT, Commit, Key, Revision, Want
from holdfast.clock import Clock, SystemClock
from holdfast.driver import (
    Conflicted,
    Driver,
    Feature,
    FencedOff,
    Layout,
    Outcome,
    Refused,
    Written,
)
from holdfast.engine import BlockingClock, Portal, new_op, run_now
from holdfast.errors import (
    Closed,
    Conflict,
    Fenced,
    HoldfastError,
    Invalid,
    TooLarge,
    Unavailable,
    Unsupported,
)
from holdfast.fields.base import Edit, Field
from holdfast.places import open_driver
from holdfast.state import OP_BYTES, Home, Meta, S, Schema, refused, snapshot

R = TypeVar("R")

Names: TypeAlias = Iterable["Field[Any] | str"]
"""Fields, as `Chat.history` or as "history"."""

Tail: TypeAlias = int | Mapping[str, int]
"""How many of the newest items to read: of every log, or by field."""

ID_BYTES = 512
"""Most bytes of an id, a subject or a tenant."""

ATTEMPTS = 16
"""How often `transact` tries unless told otherwise."""


class AsyncStore:
    """A place, opened. Its collections hold the states of one class each.

    `async with AsyncStore.open("sqlite:///state.db") as store: …` closes it at the end.
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self.driver: Driver = driver
        self.clock: Clock = clock or SystemClock()
        self._collections: dict[tuple[type, str], Any] = {}
        self._kinds: dict[str, Layout] = {}
        self._opened: set[str] = set()
        self._closed = False

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **settings: object) -> AsyncStore:
        """The store at this URL: `memory://`, `sqlite:///state.db?synchronous=FULL` …

        Concurrent commits are gathered where the place profits from it. Raises `ConfigError`, or
        `Unavailable` or `NotAStore` where opening already shows it.
        """
        driver = open_driver(url, **settings)
        if driver.gather != "no":
            from holdfast.middleware.coalesce import Coalesce  # noqa: PLC0415  brings asyncio

            driver = Coalesce(driver, in_thread=driver.gather == "thread")
        return cls(driver, clock=clock)

    def collection(self, cls: type[S], *, tenant: str = "") -> AsyncCollection[S]:
        """The states of a class, in a tenant's namespace; tenants never see each other's."""
        found = self._collections.get((cls, tenant))
        if found is None:
            layout = cls.__schema__.layout()
            known = self._kinds.setdefault(layout.kind, layout)
            if known != layout:
                raise Invalid(
                    f"kind {layout.kind!r} is another class already", field="kind", found=cls
                )
            found = self._collections[cls, tenant] = AsyncCollection(self, cls, checked(tenant, "tenant", empty=True))
        return found  # type: ignore[no-any-return]

    async def check(self) -> None:
        """Raise `Unavailable` unless the store can answer now."""
        await self._ready()
        await self.driver.check(self.clock.now())

    async def _ready(self, layout: Layout | None = None) -> None:
        if self._closed:
            raise Closed("the store is closed")
        if layout is not None and layout.kind not in self._opened:
            await self.driver.open(layout)
            self._opened.add(layout.kind)

    async def close(self) -> None:
        """Everything is released. Closing twice is fine; using it afterwards is `Closed`."""
        if not self._closed:
            self._closed = True
            await self.driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class AsyncCollection(Generic[S]):
    """The states of one class in one store.

    Every method raises `Unavailable` when the store cannot answer, `Invalid` for an id that is
    empty, over 512 bytes or no text, and `Closed` after the store was closed.
    """

    def __init__(self, store: AsyncStore, cls: type[S], tenant: str) -> None:
        self.store = store
        self.cls = cls
        self.tenant = tenant
        self.schema: Schema = cls.__schema__
        self.home = Home(store.clock)
        self._driver = store.driver
        self._now = store.clock.now
        self._prefix = (tenant, self.schema.kind)
        renew = self.schema.renew
        self._all = EVERYTHING if renew is None else Want(renew=renew)
        self._open = False

    # ------------------------------------------------------------------------------------- reading

    async def get(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        on_failure: Literal["raise", "default"] = "raise",
    ) -> S:
        """The state as it is now; the defaults, with `meta.exists` False, if there is none.

        With `fields` only those are read (reading another raises `Invalid`), with `tail` only the
        newest items of logs. With `on_failure="default"` a store that cannot answer gives the
        defaults too, and `meta.source` says "default", `meta.degraded` True.
        """
        key = (*self._prefix, id if _plain(id) else checked(id, "id"))
        if fields is None and tail is None:
            want, unread = self._all, _ALL_READ
        else:
            want, unread = self._want(fields, tail)
        try:
            if not self._open or self.store._closed:
                await self._ready()
            cells = (await self._driver.read((key,), want, self._now()))[0]
        except Unavailable as error:
            if on_failure == "default":
                return snapshot(self.cls, key, None, self.home, source="default")
            error.key = key
            raise
        return snapshot(self.cls, key, cells, self.home, unread=unread)

    async def get_many(
        self, ids: Iterable[str], *, fields: Names | None = None, tail: Tail | None = None
    ) -> dict[str, S]:
        """The states of the ids, in their order, absent ones with `meta.exists` False."""
        keys = [self._key(id) for id in ids]
        want, unread = self._want(fields, tail)
        await self._ready()
        found = await self._driver.read(keys, want, self._now())
        return {
            key[2]: snapshot(self.cls, key, cells, self.home, unread=unread)
            for key, cells in zip(keys, found, strict=True)
        }

    # ------------------------------------------------------------------------------------- changing

    @overload
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: str | None = ...,
        returning: None = ...,
        tail: Tail | None = ...,
    ) -> Revision: ...
    @overload
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: str | None = ...,
        returning: Names,
        tail: Tail | None = ...,
    ) -> S: ...
    async def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: str | None = None,
        returning: Names | None = None,
        tail: Tail | None = None,
    ) -> Revision | S:
        """The edits stand, all together, without anything having been read first.

        Returns the revision, or with `returning` a snapshot of those fields as they stand after it
        (`tail` bounds their lists). The same `op` is applied once, however often it is sent, and
        answers with its first revision.

        Raises: `Conflict` if the state is not at `expect` (a revision, `ABSENT` or `PRESENT`),
        `Fenced` if it has seen a newer `epoch`, `TooLarge` if a bound would break. Nothing is
        written then.
        """
        key = (*self._prefix, id if _plain(id) else checked(id, "id"))
        now = self._now()
        schema = self.schema
        want = None
        unread = _ALL_READ
        if returning is not None:
            want, unread = self._want(returning, tail, renew=False)
            self._needs(Feature.RETURNING)
        commit = Commit(
            key,
            schema.changes(edits, now),
            schema.ttl,
            self._op(op),
            expect,
            epoch,
            schema.max_age,
            subject,
            schema.ops,
            want,
        )
        if expect is not None or epoch or subject is not None:
            self._check_conditions(commit)
        if not self._open or self.store._closed:
            await self._ready()
        outcome = (await self._driver.commit((commit,), now))[0]
        if outcome.__class__ is not Written:
            raise self._error(key, outcome)
        if returning is None:
            return outcome.revision  # type: ignore[union-attr]
        return snapshot(self.cls, key, outcome.returned, self.home, unread=unread)  # type: ignore[union-attr]

    async def commit(
        self,
        id: str,
        edits: Iterable[Edit],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> Written:
        """Like `apply`, with all that the driver answers: also whether the op id was a repeat."""
        commit = self._commit(id, edits, op=op, expect=expect, epoch=epoch, subject=subject)
        return self._written(commit.key, (await self._send([commit]))[0])

    async def apply_many(
        self, edits: Iterable[tuple[str, Sequence[Edit]]]
    ) -> list[Revision | HoldfastError]:
        """What became of each `(id, edits)`, in order: its revision, or its error.

        Each is a commit of its own; one that fails leaves the others alone.
        """
        given = list(edits)
        commits: list[Commit] = []
        results: list[Revision | HoldfastError | None] = []
        for id, its in given:
            try:
                commits.append(self._commit(id, its))
                results.append(None)
            except (Invalid, TooLarge) as error:
                results.append(error)
        outcomes = iter(await self._send(commits))
        keys = iter(commits)
        for at, result in enumerate(results):
            if result is None:
                outcome, key = next(outcomes), next(keys).key
                results[at] = (
                    outcome.revision if isinstance(outcome, Written) else self._error(key, outcome)
                )
        return results  # type: ignore[return-value]

    async def touch(self, id: str) -> bool:
        """The state expires as if it had just been written. False if there is none."""
        commit = self._commit(id, (), expect=PRESENT)
        outcome = (await self._send([commit]))[0]
        if isinstance(outcome, Conflicted):
            return False
        self._written(commit.key, outcome)
        return True

    async def delete(self, id: str, *, expect: Revision | None = None, epoch: int = 0) -> bool:
        """The state is gone, with all that belongs to it. False if there was none.

        Raises: `Conflict` if it is not at `expect`, `Fenced` if it has seen a newer `epoch`.
        """
        commit = self._commit(id, (), expect=expect, epoch=epoch, erase=True)
        return self._written(commit.key, (await self._send([commit]))[0]).revision != ABSENT

    def session(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        exclusive: bool = False,
        expect: Revision | None = None,
        op: str | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> AsyncSession[S]:
        """`async with` it: one read, then one atomic commit of what was done; nothing if it raises.

        Without `exclusive` what merges merges. With it, `Conflict` is raised at the end, and
        nothing written, if anyone else has changed the state meanwhile; with `expect`, if the state
        is not at that revision.
        """
        read = (fields, tail)
        write = {"op": op, "expect": expect, "epoch": epoch, "subject": subject}
        return AsyncSession(self, id, read, write, exclusive)

    async def transact(
        self,
        id: str,
        fn: Callable[[S], R | Awaitable[R]],
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        attempts: int = ATTEMPTS,
        op: str | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> R:
        """What `fn` returned, its changes committed against exactly the state that it saw.

        On a conflict the state is read again and `fn` called again, up to `attempts` times with
        growing random pauses; then `Conflict` is raised. `fn` may be async (for a synchronous
        collection it is not), and should have no effects of its own.
        """
        for attempt in range(attempts):
            try:
                async with self.session(
                    id, fields=fields, tail=tail, exclusive=True, op=op, epoch=epoch, subject=subject
                ) as state:
                    result = fn(state)
                    if isinstance(result, Awaitable):
                        result = await result
                return result  # type: ignore[return-value]
            except Conflict:
                if attempt == attempts - 1:
                    raise
                await self.store.clock.sleep(random.uniform(0, min(0.25, 0.001 * 2**attempt)))
        raise Invalid("attempts must be at least 1", field="attempts", found=attempts)

    # -------------------------------------------------------------------------------------- listing

    async def scan(self, *, page_size: int = 500) -> AsyncIterator[str]:
        """The ids of all states, in a stable order, read page by page.

        What lives throughout is listed exactly once; what comes or goes meanwhile may be.
        """
        async for id in self._ids(None, page_size):
            yield id

    async def find(self, subject: str, *, page_size: int = 500) -> AsyncIterator[str]:
        """The ids of the states about a subject, without scanning the others."""
        async for id in self._ids(checked(subject, "subject"), page_size):
            yield id

    async def scan_page(
        self, *, cursor: str | None = None, limit: int = 500, subject: str | None = None
    ) -> tuple[list[str], str | None]:
        """Up to `limit` ids, and the cursor for the next page; None after the last."""
        self._needs(Feature.SCAN if subject is None else Feature.SUBJECT)
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise Invalid(f"limit must be at least 1, not {limit!r}", field="limit", found=limit)
        await self._ready()
        page = await self._driver.scan(
            *self._prefix, subject=subject, cursor=cursor, limit=limit, now=self._now()
        )
        return [key[2] for key in page.keys], page.cursor

    async def _ids(self, subject: str | None, page_size: int) -> AsyncIterator[str]:
        cursor: str | None = None
        while True:
            ids, cursor = await self.scan_page(cursor=cursor, limit=page_size, subject=subject)
            for id in ids:
                yield id
            if cursor is None:
                return

    # --------------------------------------------------------------------------------------- inside

    async def _ready(self) -> None:
        await self.store._ready(self.schema.layout() if not self._open else None)
        self._open = True

    def _key(self, id: str) -> Key:
        return (*self._prefix, id if _plain(id) else checked(id, "id"))

    def _op(self, op: str | None) -> str:
        if op is None:
            return new_op() if self._driver.ambiguous else ""
        return checked(op, "op", limit=OP_BYTES)

    def _want(
        self, fields: Names | None, tail: Tail | None, *, renew: bool = True
    ) -> tuple[Want, frozenset[str]]:
        schema = self.schema
        tails: int | dict[str, int] | None = None
        if isinstance(tail, Mapping):
            tails = {
                name: _tail(size) for field, size in tail.items() for name in schema.stored_names([field])
            }
        elif tail is not None:
            tails = _tail(tail)
        renewal = schema.renew if renew else None
        if fields is None:
            return Want(None, tails, renewal), _ALL_READ
        names = [field if isinstance(field, str) else field.name for field in fields]
        stored = schema.stored_names(names)
        unread = frozenset(f.stored for n, f in schema.fields.items() if n not in names)
        return Want(stored, tails, renewal), unread

    def _commit(
        self,
        id: str,
        edits: Iterable[Edit],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: str | None = None,
        erase: bool = False,
    ) -> Commit:
        schema = self.schema
        commit = Commit(
            self._key(id),
            schema.changes(edits, self._now()),
            schema.ttl,
            op=self._op(op),
            expect=expect,
            epoch=epoch,
            max_age=schema.max_age,
            subject=subject,
            ops=schema.ops,
            erase=erase,
        )
        self._check_conditions(commit)
        return commit

    def _check_conditions(self, commit: Commit) -> None:
        if commit.expect is not None:
            self._needs(Feature.EXPECT)
            if not isinstance(commit.expect, Revision):
                raise Invalid("expect must be a Revision", field="expect", found=commit.expect)
        if commit.epoch != 0:
            self._needs(Feature.EPOCH)
            epoch = commit.epoch
            if isinstance(epoch, bool) or not isinstance(epoch, int) or not 0 < epoch < 2**63:
                raise Invalid(f"epoch must be in 0…2^63-1, not {epoch!r}", field="epoch", found=epoch)
        if commit.subject is not None:
            self._needs(Feature.SUBJECT)
            checked(commit.subject, "subject")

    def _needs(self, feature: Feature) -> None:
        if feature not in self._driver.features:
            raise Unsupported(
                f"{type(self._driver).__name__} does not support {feature}", expected=feature
            )

    async def _send(self, commits: Sequence[Commit]) -> list[Outcome]:
        await self._ready()
        return await self._driver.commit(commits, self._now())

    def _written(self, key: Key, outcome: Outcome) -> Written:
        if isinstance(outcome, Written):
            return outcome
        raise self._error(key, outcome)

    def _error(self, key: Key, outcome: Outcome) -> HoldfastError:
        match outcome:
            case Conflicted(revision):
                stands = "there is none" if revision == ABSENT else f"it is at {revision}"
                return Conflict(f"{key[1]} {key[2]!r:.80}: {stands}", key=key, found=revision)
            case FencedOff(epoch):
                return Fenced(
                    f"{key[1]} {key[2]!r:.80}: epoch {epoch} has written it", key=key, found=epoch
                )
            case Refused():
                return refused(self.schema, key, outcome)
            case _:
                raise AssertionError(outcome)


class AsyncSession(Generic[S]):
    """One read and one commit around a block."""

    __slots__ = ("_collection", "_exclusive", "_id", "_read", "_write", "state")

    state: S

    def __init__(
        self,
        collection: AsyncCollection[S],
        id: str,
        read: tuple[Names | None, Tail | None],
        write: dict[str, Any],
        exclusive: bool,
    ) -> None:
        self._collection = collection
        self._id = id
        self._read = read
        self._write = write
        self._exclusive = exclusive

    async def __aenter__(self) -> S:
        fields, tail = self._read
        self.state = await self._collection.get(self._id, fields=fields, tail=tail)
        if self._exclusive and self._write["expect"] is None:
            self._write["expect"] = self.state._revision()
        return self.state

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pending = self.state.pending
        if kind is None and pending:
            await self._collection.apply(self._id, *pending, **self._write)


# ------------------------------------------------------------------------------ for synchronous callers


class Store:
    """A place, opened for synchronous callers; the same names as `AsyncStore`.

    Safe for several threads. `with Store.open("sqlite:///state.db") as store: …`
    """

    def __init__(self, driver: Driver, *, clock: Clock | None = None) -> None:
        self._portal = Portal() if driver.suspends else None
        if clock is None and self._portal is None:
            clock = BlockingClock()
        self._async = AsyncStore(driver, clock=clock)

    @classmethod
    def open(cls, url: str, *, clock: Clock | None = None, **settings: object) -> Store:
        """Like `AsyncStore.open`; commits go one by one."""
        return cls(open_driver(url, **settings), clock=clock)

    @property
    def driver(self) -> Driver:
        """The driver that answers."""
        return self._async.driver

    @property
    def clock(self) -> Clock:
        """The clock by which it tells time."""
        return self._async.clock

    def collection(self, cls: type[S], *, tenant: str = "") -> Collection[S]:
        """See `AsyncStore.collection`."""
        return Collection(self._async.collection(cls, tenant=tenant), self._run())

    def check(self) -> None:
        """See `AsyncStore.check`."""
        self._run()(self._async.check())

    def close(self) -> None:
        """See `AsyncStore.close`."""
        self._run()(self._async.close())
        if self._portal is not None:
            self._portal.close()

    def _run(self) -> Callable[[Coroutine[Any, Any, R]], R]:
        return run_now if self._portal is None else self._portal.run

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Collection(Generic[S]):
    """The states of one class, for synchronous callers; see `AsyncCollection` for each method."""

    def __init__(self, core: AsyncCollection[S], run: Callable[..., Any]) -> None:
        self._core = core
        self._run = run

    @property
    def schema(self) -> Schema:
        """What the class declares."""
        return self._core.schema

    def get(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        on_failure: Literal["raise", "default"] = "raise",
    ) -> S:
        """See `AsyncCollection.get`."""
        return self._run(self._core.get(id, fields=fields, tail=tail, on_failure=on_failure))  # type: ignore[no-any-return]

    def get_many(
        self, ids: Iterable[str], *, fields: Names | None = None, tail: Tail | None = None
    ) -> dict[str, S]:
        """See `AsyncCollection.get_many`."""
        return self._run(self._core.get_many(ids, fields=fields, tail=tail))  # type: ignore[no-any-return]

    @overload
    def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: str | None = ...,
        returning: None = ...,
        tail: Tail | None = ...,
    ) -> Revision: ...
    @overload
    def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = ...,
        expect: Revision | None = ...,
        epoch: int = ...,
        subject: str | None = ...,
        returning: Names,
        tail: Tail | None = ...,
    ) -> S: ...
    def apply(
        self,
        id: str,
        *edits: Edit,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: str | None = None,
        returning: Names | None = None,
        tail: Tail | None = None,
    ) -> Revision | S:
        """See `AsyncCollection.apply`."""
        return self._run(  # type: ignore[no-any-return]
            self._core.apply(  # type: ignore[call-overload,misc]
                id,
                *edits,
                op=op,
                expect=expect,
                epoch=epoch,
                subject=subject,
                returning=returning,
                tail=tail,
            )
        )

    def commit(
        self,
        id: str,
        edits: Iterable[Edit],
        *,
        op: str | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> Written:
        """See `AsyncCollection.commit`."""
        return self._run(  # type: ignore[no-any-return]
            self._core.commit(id, edits, op=op, expect=expect, epoch=epoch, subject=subject)
        )

    def apply_many(
        self, edits: Iterable[tuple[str, Sequence[Edit]]]
    ) -> list[Revision | HoldfastError]:
        """See `AsyncCollection.apply_many`."""
        return self._run(self._core.apply_many(edits))  # type: ignore[no-any-return]

    def touch(self, id: str) -> bool:
        """See `AsyncCollection.touch`."""
        return self._run(self._core.touch(id))  # type: ignore[no-any-return]

    def delete(self, id: str, *, expect: Revision | None = None, epoch: int = 0) -> bool:
        """See `AsyncCollection.delete`."""
        return self._run(self._core.delete(id, expect=expect, epoch=epoch))  # type: ignore[no-any-return]

    def session(
        self,
        id: str,
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        exclusive: bool = False,
        expect: Revision | None = None,
        op: str | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> Session[S]:
        """See `AsyncCollection.session`."""
        core = self._core.session(
            id,
            fields=fields,
            tail=tail,
            exclusive=exclusive,
            expect=expect,
            op=op,
            epoch=epoch,
            subject=subject,
        )
        return Session(core, self._run)

    def transact(
        self,
        id: str,
        fn: Callable[[S], R],
        *,
        fields: Names | None = None,
        tail: Tail | None = None,
        attempts: int = ATTEMPTS,
        op: str | None = None,
        epoch: int = 0,
        subject: str | None = None,
    ) -> R:
        """See `AsyncCollection.transact`."""
        return self._run(  # type: ignore[no-any-return]
            self._core.transact(
                id,
                fn,
                fields=fields,
                tail=tail,
                attempts=attempts,
                op=op,
                epoch=epoch,
                subject=subject,
            )
        )

    def scan(self, *, page_size: int = 500) -> Iterator[str]:
        """See `AsyncCollection.scan`."""
        return self._each(self._core.scan(page_size=page_size))

    def find(self, subject: str, *, page_size: int = 500) -> Iterator[str]:
        """See `AsyncCollection.find`."""
        return self._each(self._core.find(subject, page_size=page_size))

    def scan_page(
        self, *, cursor: str | None = None, limit: int = 500, subject: str | None = None
    ) -> tuple[list[str], str | None]:
        """See `AsyncCollection.scan_page`."""
        return self._run(self._core.scan_page(cursor=cursor, limit=limit, subject=subject))  # type: ignore[no-any-return]

    def _each(self, ids: AsyncIterator[str]) -> Iterator[str]:
        async def step() -> str | None:
            return await anext(ids, None)

        while (id := self._run(step())) is not None:
            yield id


class Session(Generic[S]):
    """One read and one commit around a block, for synchronous callers."""

    __slots__ = ("_core", "_run")

    def __init__(self, core: AsyncSession[S], run: Callable[..., Any]) -> None:
        self._core = core
        self._run = run

    def __enter__(self) -> S:
        return self._run(self._core.__aenter__())  # type: ignore[no-any-return]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._run(self._core.__aexit__(kind, error, trace))


# --------------------------------------------------------------------------------------------- names

_ALL_READ: frozenset[str] = frozenset()


def _plain(id: object) -> bool:
    """Whether an id needs no closer look: short ASCII text, as nearly all are."""
    return id.__class__ is str and 0 < len(id) <= ID_BYTES and id.isascii()  # type: ignore[arg-type,attr-defined]


def checked(name: object, what: str, *, empty: bool = False, limit: int = ID_BYTES) -> str:
    """The name, if it can be one: text of 1 to `limit` bytes in UTF-8. Raises `Invalid`."""
    if not isinstance(name, str):
        raise Invalid(f"{what} must be text, not {type(name).__name__}", field=what, found=type(name))
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise Invalid(f"{what} has characters that are not Unicode text", field=what) from None
    if size > limit or (size == 0 and not empty):
        raise Invalid(
            f"{what} of {size} bytes; it must have 1 to {limit}", field=what, expected=limit, found=size
        )
    return str(name)


def _tail(size: object) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise Invalid(f"tail must be at least 1, not {size!r}", field="tail", found=size)
    return size


__all__ = [
    "AsyncCollection",
    "AsyncSession",
    "AsyncStore",
    "Collection",
    "Meta",
    "Session",
    "Store",
    "checked",
]
