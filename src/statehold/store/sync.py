"""`Collection` and `Session`: what `AsyncCollection` is, for synchronous callers.

The core runs in the caller's thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Generic, Literal, TypeVar, overload

from statehold.commits import Revision
from statehold.engine import run_now
from statehold.errors import StateholdError
from statehold.fields.base import Edit
from statehold.schema import Lifetime, Schema, Where
from statehold.state import S
from statehold.store.collection import ATTEMPTS, AsyncCollection
from statehold.store.lease import Lease
from statehold.store.names import After, Keys, Names, Subjects, Tail
from statehold.store.outcomes import Committed
from statehold.store.session import AsyncSession
from statehold.store.together import Step

R = TypeVar("R")


class Collection(Generic[S]):
    """The states of one class in one store, for synchronous callers.

    Every method raises `Unavailable` when the store cannot answer, `Invalid` for an id that is
    empty, over 512 bytes or no text, and `Closed` after the store was closed. What else each takes
    and raises is here in a few words, and at length at the method of `AsyncCollection` with the same name
    and parameters.
    """

    def __init__(self, core: AsyncCollection[S]) -> None:
        self._core = core
        self._apply = core.apply

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
        entries: Keys | None = None,
        after: After | None = None,
        limit: int | None = None,
        on_failure: Literal["raise", "default"] = "raise",
    ) -> S:
        """The state as it is now; the defaults, with `meta.exists` False, if it is not found.

        `fields` reads only those, `tail` only the newest so many items of logs, `after` (and at most
        `limit`) only those after a position, `entries` only these keys of maps, sets and tallies. With
        `on_failure="default"` a store that cannot answer gives the defaults, too, with `meta.degraded`.
        Raises `Invalid` for what the class has not, `Unavailable`. More: `AsyncCollection.get`.
        """
        return run_now(
            self._core.get(
                id,
                fields=fields,
                tail=tail,
                entries=entries,
                after=after,
                limit=limit,
                on_failure=on_failure,
            )
        )

    def get_many(
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

        Each is read as of one instant, several are not. What `fields`, `tail`, `entries`, `after` and
        `limit` say, and what is raised, is as in `get`. More: `AsyncCollection.get_many`.
        """
        return run_now(
            self._core.get_many(
                ids, fields=fields, tail=tail, entries=entries, after=after, limit=limit
            )
        )

    @overload
    def apply(
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
    def apply(
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
    def apply(
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

        `op` is an idempotency key (with `since`, when it was first sent), `expect` a revision and `where`
        conditions that must hold, `epoch` a fencing token, `subject` whom the state is about, `ttl` how
        long it lives from now on. Returns the revision, or with `returning` a snapshot of those fields
        (`tail` and `entries` bound it). Raises `Conflict` (`expect`, `where`), `Fenced` (`epoch`),
        `TooLarge` and `Invalid` (edits, `ttl`), `Reused` and `InDoubt` (`op`); nothing is written then.
        More: `AsyncCollection.apply`.
        """
        core = self._core
        if returning is None:
            if (
                op is None
                and expect is None
                and subject is None
                and epoch == 0
                and ttl is None
                and since is None
                and where is None
            ):
                return run_now(self._apply(id, *edits))  # quicker than passing each
            return run_now(
                core.apply(
                    id,
                    *edits,
                    op=op,
                    since=since,
                    expect=expect,
                    epoch=epoch,
                    subject=subject,
                    ttl=ttl,
                    where=where,
                )
            )
        return run_now(
            core.apply(
                id,
                *edits,
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
        )

    def commit(
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
        """Like `apply`, with all that there is to say: also whether the op id was a repeat.

        `op` is an idempotency key (with `since`, when it was first sent), `expect` a revision and `where`
        conditions that must hold, `epoch` a fencing token, `subject` whom the state is about, `ttl` how
        long it lives from now on. `returning` (with `tail`, `entries`) are fields to show afterwards.
        Raises what `apply` does: `Conflict`, `Fenced`, `TooLarge`, `Invalid`, `Reused`, `InDoubt`.
        More: `AsyncCollection.commit`.
        """
        core = self._core
        return run_now(
            core.commit(
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
        )

    def apply_many(
        self,
        edits: Iterable[tuple[str, Sequence[Edit]] | tuple[str, Sequence[Edit], str]],
        *,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
    ) -> list[Revision | StateholdError]:
        """What became of each `(id, edits)` or `(id, edits, op)`, in order: revision or error.

        Each is a commit of its own, and one that fails leaves the others alone; `edits` may have op ids
        (idempotency keys), `epoch` is a fencing token for all, `subject` whom all are about, `ttl` how long
        each lives from now on. Raises only what concerns all of them, such as `Unavailable`. More:
        `AsyncCollection.apply_many`.
        """
        return run_now(self._core.apply_many(edits, epoch=epoch, subject=subject, ttl=ttl))

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

        Nothing is done yet. `expect` is a revision and `where` conditions that must hold, `epoch` a fencing
        token, `subject` whom it is about, `ttl` how long it lives from then on. Raises `Invalid`. More:
        `AsyncCollection.step`.
        """
        return self._core.step(
            id,
            *edits,
            expect=expect,
            epoch=epoch,
            subject=subject,
            ttl=ttl,
            where=where,
            delete=delete,
        )

    def touch(self, id: str, *, ttl: Lifetime | None = None) -> bool:
        """The state expires as if it had just been written. False if it is not found.

        Its revision stays; a renewal is no commit. `ttl` is how long it lives from now on, at most the
        class's. Raises `Invalid` for a longer one. More: `AsyncCollection.touch`.
        """
        return run_now(self._core.touch(id, ttl=ttl))

    def delete(
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

        `op` is an idempotency key (with `since`, when it was first sent), remembered for a minute; `expect`
        is a revision and `where` conditions that must hold, `epoch` a fencing token. Raises `Conflict`
        (`expect`, `where`), `Fenced` (`epoch`), `Reused` and `InDoubt` (`op`). More: `AsyncCollection.delete`.
        """
        return run_now(
            self._core.delete(id, op=op, since=since, expect=expect, epoch=epoch, where=where)
        )

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
    ) -> Session[S]:
        """`with` it: one read, then one atomic commit of what was done; nothing if it raises.

        `fields`, `tail` and `entries` say what is read, as in `get`; `op`, `epoch`, `subject`, `ttl` and
        `where` go with the commit, as in `apply`. With `exclusive` (or `expect`, a revision) `Conflict` is
        raised at the end, and nothing written, if anyone else has changed the state; with
        `on_failure="default"` it works on defaults where the store cannot answer, and what was done may be
        lost without an error. More: `AsyncCollection.session`.
        """
        core = self._core.session(
            id,
            fields=fields,
            tail=tail,
            entries=entries,
            exclusive=exclusive,
            expect=expect,
            op=op,
            epoch=epoch,
            subject=subject,
            ttl=ttl,
            on_failure=on_failure,
            where=where,
        )
        return Session(core)

    def transact(
        self,
        id: str,
        fn: Callable[[S], R],
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

        On a conflict the state is read again and `fn` called again, up to `attempts` times; then `Conflict`
        is raised. `fields`, `tail` and `entries` say what is read, as in `get`; `op`, `epoch`, `subject` and
        `ttl` go with the commit, as in `apply`. `Repeated` is raised if `op` was applied before. More:
        `AsyncCollection.transact`.
        """
        return run_now(
            self._core.transact(
                id,
                fn,
                fields=fields,
                tail=tail,
                entries=entries,
                attempts=attempts,
                op=op,
                epoch=epoch,
                subject=subject,
                ttl=ttl,
            )
        )

    def lease(self, id: str, *, ttl: Lifetime, wait: Lifetime = 0.0, renews: bool = True) -> Lease:
        """`with` it: nobody else holds a lease of this state meanwhile. It need not exist.

        Its `epoch` goes into each write, and who writes without is `Fenced`. `ttl` is how long it is held
        unless renewed, which `renews` does in the background; `wait` for how long it is waited for. Raises
        `Leased` where another holds it, `Fenced` at the end if it was lost, `Unsupported`. More:
        `AsyncCollection.lease`.
        """
        return Lease(self._core.lease(id, ttl=ttl, wait=wait, renews=renews))

    def scan(self, *, prefix: str = "", page_size: int = 500) -> Iterator[str]:
        """The ids of all states that begin with the prefix, in a stable order, read page by page.

        `page_size` says in how many calls. What lives throughout is listed exactly once. Raises `Invalid`
        for a `prefix` that is too long, `Unsupported` with tokens. More: `AsyncCollection.scan`.
        """
        return self._each(self._core.scan(prefix=prefix, page_size=page_size))

    def find(
        self, subject: str, *, prefix: str = "", newest: bool = False, page_size: int = 500
    ) -> Iterator[str]:
        """The ids of the states about a subject, without scanning the others.

        `prefix` is how ids begin, `newest` has the last updated first (what is written meanwhile may be left
        out), `page_size` says in how many calls. Raises `Invalid` for a `subject` that is none,
        `Unsupported` with tokens. More: `AsyncCollection.find`.
        """
        found = self._core.find(subject, prefix=prefix, newest=newest, page_size=page_size)
        return self._each(found)

    def scan_page(
        self,
        *,
        cursor: str | None = None,
        limit: int = 500,
        subject: str | None = None,
        prefix: str = "",
        newest: bool = False,
    ) -> tuple[list[str], str | None]:
        """Up to `limit` ids, and the cursor for the next page (it may be empty); None after the last.

        `cursor` is that of the page before, None for the first. With `subject` those about it, with `newest`
        the last updated of them first; `prefix` is how ids begin. Raises `Invalid` for the cursor of another
        listing, `Unsupported` with tokens. More: `AsyncCollection.scan_page`.
        """
        return run_now(
            self._core.scan_page(
                cursor=cursor, limit=limit, subject=subject, prefix=prefix, newest=newest
            )
        )

    def get_page(
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

        `cursor`, `limit` (of states), `subject`, `prefix` and `newest` are as in `scan_page`; `fields`, `tail`,
        `entries` and `after` say what is read of each, as in `get`. Raises what these do. More:
        `AsyncCollection.get_page`.
        """
        return run_now(
            self._core.get_page(
                cursor=cursor,
                limit=limit,
                subject=subject,
                prefix=prefix,
                newest=newest,
                fields=fields,
                tail=tail,
                entries=entries,
                after=after,
            )
        )

    def _each(self, ids: AsyncIterator[str]) -> Iterator[str]:
        async def step() -> str | None:
            return await anext(ids, None)

        while (id := run_now(step())) is not None:
            yield id


class Session(Generic[S]):
    """One read and one commit around a block, for synchronous callers."""

    __slots__ = ("_core",)

    def __init__(self, core: AsyncSession[S]) -> None:
        self._core = core

    def __enter__(self) -> S:
        return run_now(self._core.__aenter__())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run_now(self._core.__aexit__(kind, error, trace))
