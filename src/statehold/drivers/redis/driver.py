"""The driver over Redis or Valkey."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import SplitResult

from statehold.clock import Skew
from statehold.commits import Commit, Key, Want
from statehold.draining import Calls, counted
from statehold.driver import (
    Cells,
    Driver,
    Feature,
    Layout,
    Outcome,
    Page,
    Scan,
    Swept,
    WholeLife,
    Written,
)
from statehold.drivers.redis.cells import cells_of, standing, wanted
from statehold.drivers.redis.check import EVICTION, inspect
from statehold.drivers.redis.client import (
    CONNECTION,
    UNSTAMPED,
    Ask,
    Client,
    Command,
    Options,
    open_client,
)
from statehold.drivers.redis.commands import command_of, micros, outcome_of, together
from statehold.drivers.redis.failover import Acknowledged
from statehold.drivers.redis.keys import Keys
from statehold.drivers.redis.listing import page_of
from statehold.drivers.redis.lives import install_of, life_of
from statehold.drivers.redis.lua.scripts import ALL, READ, RENEW, WHOLE
from statehold.drivers.redis.sweeping import piece_of
from statehold.drivers.redis.values import updated_in
from statehold.errors import Full, Invalid, ReadOnly, Unavailable
from statehold.folding import all_stand, refused, undone
from statehold.settings import Settings
from statehold.together import Together

SETTINGS = Settings("redis", {**EVICTION, **CONNECTION})


class RedisDriver(Driver):
    """Keeps each state in a hash and a list for each of its logs; a commit is one script.

    Commits and reads that tasks make in one tick of the event loop leave together, in order, each
    with its own outcome. The server's clock decides expiry, to the microsecond.

    A read that renews (`Want.renew`) writes the new deadline only if it differs from the stored one
    by more than a thousandth of the ttl or by more than a second; the deadline that a read reports
    is the stored one, to which expiry is exact. Where nothing can be written, reads are served
    without renewing.

    Raises `Unavailable`, `Timeout`, `Busy`, `Full`, `ReadOnly`, `ConfigError`, `Corrupted` and
    `Closed` as `Client.call` does, and `Invalid` for names that are no Unicode.
    """

    features = frozenset(Feature)
    suspends = True
    ambiguous = True

    def __init__(self, client: Client, *, eviction: str = SETTINGS.default("eviction")) -> None:
        self._client = client
        self._call = client.call
        # Reads are told only in a cluster what the stamp says of the slot.
        self._stamp: Command = (UNSTAMPED,) if client.clustered else ()
        if client.clustered:  # where states have no server in common
            self.features = self.features - {Feature.TOGETHER}
        self._keys = Keys()
        self._eviction = eviction
        self._inspected = False
        self._opening = Together()
        self._calls = Calls()
        self._skew = Skew()
        self._acknowledged = Acknowledged()
        self._generation = client.generation  # the masters whose acknowledgements are compared
        client.before_newcomers(self._meet)
        self._commits = self._renewals_skipped = 0

    async def open(self, layout: Layout) -> None:  # noqa: ARG002  all kinds are kept alike
        if not self._inspected:
            await self._opening.do("inspect", self._inspect)

    async def _inspect(self) -> None:
        await inspect(self._client, self._eviction)
        began, sent = time.monotonic(), time.time()
        for _, (seconds, parts) in await self._client.ask_all(("TIME",)):
            self._learn(int(seconds) + int(parts) / 1e6, sent, began)
        self._inspected = True

    @property
    def skew(self) -> float:
        """Seconds by which the server's clock is ahead of the callers', looked at once a second."""
        return self._skew.seconds

    def earliest(self, monotonic: float) -> float | None:
        ahead = self._client.ahead()
        return None if ahead is None else monotonic + ahead

    def _learn(self, server: float, sent: float, began: float) -> None:
        ended = time.monotonic()
        self._skew.learn(server, sent, ended - began, ended)

    async def _meet(self, ask: Ask, serves: Callable[[int], bool]) -> None:
        """Another master will answer: count what it lacks, before anything is committed to it."""
        nothing = wanted(Want(fields=()))
        keys: list[Key] = []
        commands: list[Command] = []
        for key in self._acknowledged.remembered():
            slot, state = self._keys.state(key)
            if serves(slot):
                keys.append(key)
                commands.append(("EVALSHA_RO", READ.sha, 1, state, nothing))
        if not keys:
            return
        found = {
            key: None if reply is None else standing(reply)
            for key, reply in zip(keys, await ask(commands), strict=True)
            if not isinstance(reply, Exception)
        }
        self._acknowledged.meet(found)

    # ------------------------------------------------------------------------------------- reading

    @counted
    async def read(self, keys: Sequence[Key], want: Want, now: float) -> list[Cells | None]:
        if self._client.generation != self._generation:
            await self._settle()
        began = time.monotonic()
        if want.renew is None:
            replies = await self._ask(keys, want, renewing=False)
        else:
            try:
                replies = await self._ask(keys, want, renewing=True)
            except (Full, ReadOnly):
                if want.insists:
                    raise
                self._renewals_skipped += len(keys)
                replies = await self._ask(keys, want, renewing=False)
        if began >= self._skew.due and replies and replies[-1] is not None:
            self._learn(replies[-1][0] / 1e6, now, began)
        return [None if reply is None else cells_of(reply, now) for reply in replies]

    async def _ask(self, keys: Sequence[Key], want: Want, *, renewing: bool) -> list[Any]:
        commands: list[tuple[int, Command]] = []
        stamp = self._stamp
        try:
            what = wanted(want)
            for key in keys:
                slot, state = self._keys.state(key)
                if renewing and want.renew is not None:
                    ttl, age = want.renew
                    ends = (micros(ttl), micros(age))
                    command: Command = (
                        "EVALSHA",
                        RENEW.sha,
                        2,
                        state,
                        state + b":.ops",
                        what,
                        *ends,
                        *stamp,
                    )
                else:
                    command = ("EVALSHA_RO", READ.sha, 1, state, what, *stamp)
                commands.append((slot, command))
        except UnicodeError as error:
            raise _unspeakable(error) from error
        if len(commands) == 1:
            return [await self._call(*commands[0], repeatable=True, stamped=bool(stamp))]
        return await self._client.call_many(commands, repeatable=True, stamped=bool(stamp))

    # ----------------------------------------------------------------------------------- committing

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        call = self._calls.begin()  # `counted` would be one more coroutine
        try:
            if self._client.generation != self._generation:
                await self._settle()
            if len(commits) == 1:
                commit = commits[0]
                slot, state = self._keys.state(commit.key)
                command = command_of(commit, state)
                began = time.monotonic()
                reply = await self._call(slot, command, repeatable=commit.op != "", stamped=True)
                if began >= self._skew.due and reply.__class__ is bytes:
                    self._learn(updated_in(reply), now, began)
                return [self._noted(commit, outcome_of(reply, now))]
            commands: list[tuple[int, Command]] = []
            for commit in commits:
                slot, state = self._keys.state(commit.key)
                commands.append((slot, command_of(commit, state)))
            replies = await self._client.call_many(
                commands, repeatable=all(commit.op for commit in commits), stamped=True
            )
            return [
                self._noted(commit, outcome_of(reply, now))
                for reply, commit in zip(replies, commits, strict=True)
            ]
        except UnicodeError as error:
            raise _unspeakable(error) from error
        finally:
            self._calls.end(call)

    @counted
    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        if self._client.generation != self._generation:
            await self._settle()
        try:
            places = [self._keys.state(commit.key) for commit in commits]
            command = together(
                [
                    command_of(commit, state)
                    for commit, (_, state) in zip(commits, places, strict=True)
                ]
            )
        except UnicodeError as error:
            raise _unspeakable(error) from error
        repeatable = all(commit.op for commit in commits)
        replies = await self._call(places[0][0], command, repeatable=repeatable, stamped=True)
        outcomes = [outcome_of(reply, now) for reply in replies]
        if not all_stand(outcomes):
            return undone(outcomes)
        return list(map(self._noted, commits, outcomes))

    # ---------------------------------------------------------------------------------- whole lives

    @counted
    async def lives(self, keys: Sequence[Key], now: float) -> list[WholeLife | None]:
        commands: list[tuple[int, Command]] = []
        try:
            for key in keys:
                slot, state = self._keys.state(key)
                ask = ("EVALSHA_RO", WHOLE.sha, 2, state, state + b":.ops", *self._stamp)
                commands.append((slot, ask))
        except UnicodeError as error:
            raise _unspeakable(error) from error
        stamped = bool(self._stamp)
        replies = await self._client.call_many(commands, repeatable=True, stamped=stamped)
        return [
            None if reply is None else life_of(key, reply, now)
            for key, reply in zip(keys, replies, strict=True)
        ]

    @counted
    async def install(self, lives: Sequence[WholeLife], now: float) -> list[Outcome]:
        if self._client.generation != self._generation:
            await self._settle()
        commands: list[tuple[int, Command]] = []
        barred: dict[int, Outcome] = {}
        try:
            for place, life in enumerate(lives):
                slot, state = self._keys.state(life.key)
                try:
                    commands.append((slot, install_of(life, state)))
                except Invalid as error:
                    barred[place] = refused(error)
        except UnicodeError as error:
            raise _unspeakable(error) from error
        # Not sent again by itself: it may have been erased meanwhile, and would be there again.
        replies = iter(await self._client.call_many(commands, repeatable=False, stamped=True))
        outcomes: list[Outcome] = []
        for place, life in enumerate(lives):
            outcome = barred.get(place) or outcome_of(next(replies), now)
            until = life.cells.deadline
            as_commit = Commit(life.key, (), None if until is None else max(0.0, until - now))
            outcomes.append(self._noted(as_commit, outcome))
        return outcomes

    def _noted(self, commit: Commit, outcome: Outcome) -> Outcome:
        self._commits += 1
        if isinstance(outcome, Written) and commit.claim is None:
            doubtful = self._client.generation != self._generation
            self._acknowledged.note(commit, outcome, doubtful=doubtful)
        return outcome

    async def _settle(self) -> None:
        """Another master may be answering: count what it lacks of what was acknowledged."""
        generation, self._generation = self._generation, self._client.generation
        taken = self._acknowledged.take()
        if not taken:
            return
        try:
            replies = await self._ask(list(taken), Want(fields=()), renewing=False)
        except BaseException as error:  # also when cancelled: the next call will do it
            self._acknowledged.put_back(taken)
            self._generation = generation
            if not isinstance(error, Unavailable):
                raise
        else:
            found = [None if reply is None else standing(reply) for reply in replies]
            self._acknowledged.compare(taken, found)

    # -------------------------------------------------------------------------------------- listing

    @counted
    async def scan(self, asked: Scan, now: float) -> Page:  # noqa: ARG002  the server's clock decides
        limit = asked.limit
        if limit < 1:
            raise Invalid(f"limit must be at least 1, not {limit}", field="limit", found=limit)
        try:
            return await page_of(self._client, self._keys, asked)
        except UnicodeError as error:
            raise _unspeakable(error) from error

    @counted
    async def sweep(self, now: float, after: str = "") -> Swept:  # noqa: ARG002  as above
        """See `Driver.sweep`. What is taken out is what indexes list; keys end by themselves."""
        return await piece_of(self._client, after)

    @counted
    async def check(self, now: float) -> None:
        """Raise unless the store can answer now, and `ConfigError` unless it is as states need it."""
        await super().check(now)
        await inspect(self._client, self._eviction)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it does not cancel anything
        """See `Driver.drain`."""
        return await self._calls.drain(timeout)

    async def close(self) -> None:
        await self._client.close()

    def stats(self) -> Mapping[str, int | float]:
        return {
            "commits_total": self._commits,
            "renewals_skipped_total": self._renewals_skipped,
            "failover_checked_total": self._acknowledged.checked,
            "failover_lost_total": self._acknowledged.lost,
            **self._client.stats(),
        }


def _unspeakable(error: UnicodeError) -> Invalid:
    return Invalid(f"a name cannot be encoded: {error}")


def from_url(url: SplitResult, settings: Mapping[str, object]) -> RedisDriver:
    """The driver for `redis://host:6379/0` and the like."""
    parsed = SETTINGS.parse(settings)
    own = {name: parsed.pop(name) for name in EVICTION if name in parsed}
    return RedisDriver(open_client(url, Options(**parsed), ALL), **own)
