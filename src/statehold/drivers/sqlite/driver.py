"""The driver over a SQLite file."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar, cast
from urllib.parse import SplitResult, unquote

from statehold.commits import EVERYTHING, Commit, Key, Want, deadline, moves
from statehold.driver import (
    Cells,
    Feature,
    Layout,
    Op,
    Outcome,
    Page,
    Scan,
    Swept,
    Undone,
    WaitingDriver,
    WholeLife,
    WouldWait,
)
from statehold.drivers.sqlite.errors import ERRORS, is_busy, translated
from statehold.drivers.sqlite.files import File
from statehold.drivers.sqlite.fold import Transaction
from statehold.drivers.sqlite.life import Life
from statehold.drivers.sqlite.listing import Listed, question
from statehold.drivers.sqlite.names import FieldNames
from statehold.drivers.sqlite.reading import SELECT_STATE, Execute, Room, Row, cells_of
from statehold.drivers.sqlite.sweeping import Sweeps, asked_for
from statehold.errors import ConfigError, Corrupted, Invalid, ReadOnly, TooLarge
from statehold.folding import all_stand, refused, undone, whole
from statehold.settings import Settings, choice, count
from statehold.sqlitefiles.connection import Connection

SETTINGS = Settings(
    "sqlite",
    {
        "synchronous": (
            choice("NORMAL", "FULL"),
            "NORMAL",
            "What a commit survives: a killed process (NORMAL), or a power cut too (FULL).",
        ),
        "busy_timeout_ms": (
            count,
            5000,
            "Maximum milliseconds to wait for another process that is writing; then `Busy`.",
        ),
    },
)

T = TypeVar("T", Commit, WholeLife)
Step = Callable[[Transaction, T], Outcome]
"""What is done with each of a call."""

_OF_ONE = (Invalid, TooLarge, Corrupted)
"""Errors that concern one commit of a batch."""


class _NotAll(Exception):
    """Commits that stand or fall together do not all stand."""


def _said(commit: Commit | WholeLife) -> Commit | None:
    """The commit, whose fields an error may be about; None for a life that is to be installed."""
    return commit if isinstance(commit, Commit) else None


def _insist(outcomes: Sequence[Outcome]) -> None:
    if not all_stand(outcomes):
        raise _NotAll


class SqliteDriver(WaitingDriver):
    """Keeps states in one file, shared by threads and processes. Calls never suspend.

    A commit call is one transaction. A call waits for other threads, and up to `busy_timeout_ms`
    for other processes. With `synchronous="NORMAL"` what was acknowledged survives the process;
    with "FULL" also a power cut, at the price of one disk flush for each call.

    A read that renews (`Want.renew`) writes the new deadline only if it differs from the stored one
    by more than a thousandth of the ttl or by more than a second, so that a state read
    over and over is not written each time; the deadline that a read reports is the stored one, to
    which expiry is exact. Where nothing can be written, reads are served without renewing.

    Raises, each time the file is used: `Busy`, `Full`, `ReadOnly`, `Corrupted`, `Closed`, and
    `Unavailable` for other failures of the file system; when it is first used: `ConfigError` when
    there is no such folder, and `NotAStore`, the file being left as it is.
    """

    features = frozenset(Feature)

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        synchronous: str = SETTINGS.default("synchronous"),
        busy_timeout_ms: int = SETTINGS.default("busy_timeout_ms"),
    ) -> None:
        if os.fspath(path) in ("", ":memory:"):
            raise ConfigError("path: a file is needed; for memory there is memory://", field="path")
        settings = SETTINGS.parse({"synchronous": synchronous, "busy_timeout_ms": busy_timeout_ms})
        self.gather = "thread" if settings["synchronous"] == "FULL" else "tick"
        self._file = File(path, settings["synchronous"], settings["busy_timeout_ms"])
        self._names = FieldNames()
        self._sweeps = Sweeps()
        self._commits = self._transactions = self._expired = self._renewals_skipped = 0

    @property
    def path(self) -> Path:
        """The file."""
        return Path(self._file.path)

    async def open(
        self,
        layout: Layout,  # noqa: ARG002  the file has one layout for all
        *,
        wait: bool = True,
    ) -> None:
        self._file.open(wait=wait)

    async def check(self, now: float, *, wait: bool = True) -> None:
        await self.read([("", "", "")], Want(fields=()), now, wait=wait)

    # ------------------------------------------------------------------------------------- reading

    async def read(
        self, keys: Sequence[Key], want: Want, now: float, *, wait: bool = True
    ) -> list[Cells | None]:
        late: list[tuple[Row, Cells]] = []
        found = self._file.read(partial(self._read, keys, want, now, late), wait=wait)
        if late:
            self._renew(late, want, now, wait=wait)
        return found

    def _read(
        self,
        keys: Sequence[Key],
        want: Want,
        now: float,
        late: list[tuple[Row, Cells]],
        cursor: sqlite3.Cursor,
        short: bool,
    ) -> list[Cells | None]:
        """The cells of each key; those that may have to be renewed are put into `late`.

        If it is to be `short`, raises `WouldWait` where it would not be.
        """
        found: list[Cells | None] = []
        room = Room() if short else None
        damaged = False
        execute = cursor.execute
        try:
            self._file.present()
            execute("BEGIN")
            for key in keys:
                row: Row | None = execute(SELECT_STATE, key).fetchone()
                if row is None or (row[6] is not None and row[6] <= now):
                    found.append(None)
                    continue
                cells = cells_of(execute, self._names, row, want, room)
                found.append(cells)
                damaged = damaged or bool(cells.corrupted)
                if want.renew is not None:
                    late.append((row, cells))
            # After an error in it SQLite commits no transaction, not even one that only reads.
            execute("ROLLBACK" if damaged else "COMMIT")
        except BaseException as error:
            late.clear()
            self._end(cursor, error)
            raise
        return found

    async def lives(
        self, keys: Sequence[Key], now: float, *, wait: bool = True
    ) -> list[WholeLife | None]:
        return self._file.read(partial(self._lives, keys, now), wait=wait)

    def _lives(
        self, keys: Sequence[Key], now: float, cursor: sqlite3.Cursor, _short: bool
    ) -> list[WholeLife | None]:
        try:
            self._file.present()
            cursor.execute("BEGIN")
            found = [self._life(cursor.execute, key, now) for key in keys]
            cursor.execute("COMMIT")
        except BaseException as error:
            self._end(cursor, error)
            raise
        return found

    def _life(self, execute: Execute, key: Key, now: float) -> WholeLife | None:
        row: Row | None = execute(SELECT_STATE, key).fetchone()
        if row is None or (row[6] is not None and row[6] <= now):
            return None
        life = Life.of(execute, key, row)
        ops = execute(
            "SELECT op, number, intent, at FROM op WHERE state = ? AND op <> '' ORDER BY seq",
            (life.id,),
        ).fetchall()
        cells = cells_of(execute, self._names, row, EVERYTHING)
        return whole(key, cells, [Op(*one) for one in ops], life.forgot(), life.fence())

    def _renew(
        self,
        read: list[tuple[Row, Cells]],
        want: Want,
        now: float,
        *,
        wait: bool,
    ) -> None:
        renew = want.renew
        if renew is None:
            return
        moved: list[tuple[Cells, Row]] = []
        for row, cells in read:
            if moves(deadline(cells.created, now, *renew), cells.deadline, renew[0]):
                moved.append((cells, row))
        if moved:
            try:
                self._file.use(partial(self._renewed, moved, renew, now), wait=wait)
            except ReadOnly:
                if want.insists:
                    raise
                self._renewals_skipped += len(moved)

    def _renewed(
        self,
        moved: list[tuple[Cells, Row]],
        renew: tuple[float | None, float | None],
        now: float,
        cursor: sqlite3.Cursor,
        since: float,
    ) -> None:
        self._writable()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            if since:
                now += time.monotonic() - since
            for cells, row in moved:
                until = deadline(cells.created, now, *renew)
                # A commit made meanwhile has renewed as it wished, and what has ended has.
                cursor.execute(
                    "UPDATE state SET deadline = ? WHERE id = ? AND incarnation = ?"
                    " AND number = ? AND (deadline IS NULL OR deadline > ?)",
                    (until, row[0], row[1], row[2], now),
                )
                if cursor.rowcount:
                    cells.deadline = until
            cursor.execute("COMMIT")
        except BaseException as error:
            self._end(cursor, error)
            raise

    # ----------------------------------------------------------------------------------- committing

    async def commit(
        self, commits: Sequence[Commit], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        return self._one_by_one(Transaction.apply, commits, now, wait=wait)

    def _one_by_one(
        self, step: Step[T], commits: Sequence[T], now: float, *, wait: bool
    ) -> list[Outcome]:
        try:
            return self._transact(step, commits, now, [], wait=wait)
        except _OF_ONE as error:
            if len(commits) == 1:
                return [refused(error, _said(commits[0]))]
        # What of one commit cannot be stored, or read, is its own outcome: the others are folded
        # again, each written by itself, so that it is known at which the next error comes.
        others = list(range(len(commits)))
        outcomes: dict[int, Outcome] = {}
        while others:
            done: list[Outcome] = []
            try:
                some = [commits[n] for n in others]
                self._transact(step, some, now, done, apart=True, wait=wait)
            except _OF_ONE as error:
                if len(done) == len(others):
                    raise  # at COMMIT, and of none of them in particular
                place = others.pop(len(done))
                outcomes[place] = refused(error, _said(commits[place]))
            else:
                outcomes.update(zip(others, done, strict=True))
                break
        return [outcomes[n] for n in range(len(commits))]

    async def commit_together(
        self, commits: Sequence[Commit], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        done: list[Outcome] = []
        try:
            step = Transaction.apply
            return self._transact(step, commits, now, done, apart=True, together=True, wait=wait)
        except _NotAll:
            return undone(done)
        except _OF_ONE as error:
            if len(done) == len(commits):
                raise  # at COMMIT, and of none of them in particular
            barred = refused(error, commits[len(done)])
        others: list[Outcome] = [Undone()] * (len(commits) - len(done) - 1)
        return undone([*done, barred, *others])

    async def install(
        self, lives: Sequence[WholeLife], now: float, *, wait: bool = True
    ) -> list[Outcome]:
        return self._one_by_one(Transaction.install, lives, now, wait=wait)

    def _transact(
        self,
        step: Step[T],
        commits: Sequence[T],
        now: float,
        outcomes: list[Outcome],
        *,
        apart: bool = False,
        together: bool = False,
        wait: bool,
    ) -> list[Outcome]:
        """The outcomes of one transaction, put into `outcomes`; `apart`: when each is written.

        `together`: raises `_NotAll`, with nothing written, where not all of them stand.
        """
        work = partial(self._transacted, step, commits, now, outcomes, apart, together)
        if self._file.use(work, wait=wait):
            self._file.log.empty_soon()
        return outcomes

    def _transacted(
        self,
        step: Step[T],
        commits: Sequence[T],
        now: float,
        outcomes: list[Outcome],
        apart: bool,
        together: bool,
        cursor: sqlite3.Cursor,
        since: float,
    ) -> bool:
        """Whether something that was stored is gone, which the log is not to keep."""
        file = self._file
        file.present()
        self._writable()
        expired = 0
        try:
            cursor.execute("BEGIN IMMEDIATE")
            if since:  # others have seen meanwhile what has ended
                now += time.monotonic() - since
            transaction = Transaction(cursor, cursor.execute, names=self._names, now=now)
            for commit in commits:
                outcome = step(transaction, commit)
                if apart:
                    transaction.settle()
                outcomes.append(outcome)
            if together:
                _insist(outcomes)
            transaction.end()
            if together or not apart:
                made = transaction.births, transaction.written
                expired = self._sweeps.after(cursor, now, len(commits), *made)
            cursor.execute("COMMIT")
        except BaseException as error:
            try:
                self._end(cursor, error)
            finally:
                self._names.taken_back()
            raise
        self._names.kept()
        if commits:  # else its turn was all that was waited for
            self._commits += len(commits)
            self._transactions += 1
        self._expired += expired
        file.checkpoints.wrote(transaction.written)
        return transaction.erased or expired > 0

    async def sweep(self, now: float, after: str = "", *, wait: bool = True) -> Swept:
        """See `Driver.sweep`."""
        swept = self._file.use(partial(self._swept, after, now), wait=wait)
        if swept.removed:
            self._file.log.empty_soon()
        return swept

    def _swept(self, after: str, now: float, cursor: sqlite3.Cursor, since: float) -> Swept:
        self._file.present()
        self._writable()
        try:
            cursor.execute("BEGIN IMMEDIATE")
            if since:
                now += time.monotonic() - since
            swept = asked_for(cursor, after, now)
            cursor.execute("COMMIT")
        except BaseException as error:
            self._end(cursor, error)
            raise
        self._expired += swept.removed
        return swept

    def _writable(self) -> None:
        """Raises `ReadOnly` if nothing can be written."""
        if self._file.read_only:
            raise ReadOnly(f"{self._file.path}: it may be read but not written")

    def _end(self, cursor: sqlite3.Cursor, error: BaseException) -> None:
        """Roll back what is under way, and raise a translated error if it was one of SQLite's.

        Where the connection did not wait, and would have had to, `WouldWait`.
        """
        if cursor.connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                cursor.execute("ROLLBACK")
            self._file.recover(cursor)
        if is_busy(error) and not cast("Connection", cursor.connection).patience:
            raise WouldWait from error
        if isinstance(error, ERRORS):
            raise translated(error, self._file.path) from error

    # -------------------------------------------------------------------------------------- listing

    async def scan(self, asked: Scan, now: float, *, wait: bool = True) -> Page:
        statement, values, end = question(asked)

        def page(cursor: sqlite3.Cursor, _short: bool) -> list[Listed]:
            try:
                self._file.present()
                return cursor.execute(statement, values).fetchall()
            except BaseException as error:
                self._end(cursor, error)
                raise

        found = self._file.read(page, wait=wait)
        keys = tuple(
            (asked.tenant, asked.kind, name)
            for name, _, until, _ in found
            if until is None or now < until
        )
        return Page(keys, end(found[-1]) if len(found) == asked.limit else None)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it waits for other threads
        """See `Driver.drain`: calls of other threads are waited for."""
        return self._file.drained(timeout)

    async def close(self) -> None:
        self._file.close()

    def stats(self) -> Mapping[str, int | float]:
        return {
            "commits_total": self._commits,
            "transactions_total": self._transactions,
            "expired_total": self._expired,
            "renewals_skipped_total": self._renewals_skipped,
        }


def from_url(url: SplitResult, settings: Mapping[str, object]) -> SqliteDriver:
    """The driver for `sqlite:///relative.db` or `sqlite:////absolute.db`."""
    if url.netloc or len(url.path) < 2:
        raise ConfigError(
            "sqlite:// takes a path: sqlite:///relative.db or sqlite:////absolute.db",
            field="url",
            found=url.geturl(),
        )
    return SqliteDriver(unquote(url.path[1:]), **SETTINGS.parse(settings))
