"""Commits of several threads passed down together.

Who comes first leads: it passes down what waits, its own commits and those of the others, who follow. What
comes meanwhile waits for the next leader, who is the first of those that wait.

An interrupt may come after any call of a function. Who leads is told by one attribute, so that whatever
ends a leader's call hands the lead on; and what an interrupt kept from being made is made by the next.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import TypeAlias

from statehold.clock import AMBIENT
from statehold.commits import Commit
from statehold.driver import Driver, Outcome
from statehold.engine import run_now
from statehold.middleware.calls import Call, made, next_batch, settle
from statehold.middleware.wrapper import Wrapper


class Following(Wrapper):
    """Groups the commits that threads make at the same time; everything else passes through.

    The driver must not suspend. At most `max_batch` commits go down together, unless one call brings
    more; their `now` is the latest of the callers', and who had to wait is served by the time after that.
    """

    def __init__(self, driver: Driver, *, max_batch: int = 256) -> None:
        if driver.suspends:
            raise ValueError("a driver that suspends belongs to an event loop")
        super().__init__(driver)
        self.gather = "no"
        self._max_batch = max_batch
        self._lock = threading.Lock()
        self._waiting: list[_Call] = []
        self._leader: _Thread | None = None

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._passed(commits, now, together=False)

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._passed(commits, now, together=True)

    def _passed(self, commits: Sequence[Commit], now: float, *, together: bool) -> list[Outcome]:
        me = _Thread()
        try:
            with self._lock:
                since = AMBIENT.monotonic() if self._leader else 0.0
                self._waiting.append((me, commits, now, together, since))
                self._leader = self._leader or me
            if self._leader is not me:
                me.turn.get()
            if not me.done():  # so it leads
                self._lead()
            return me.answer()
        finally:
            try:
                self._leave(me)
            finally:
                if self._leader is me:  # interrupted just there
                    self._leave(me)

    def _lead(self) -> None:
        with self._lock:
            calls, self._waiting = next_batch(self._waiting, self._max_batch)
        answers = run_now(made(self.inner, calls, {}))
        ended = [
            isinstance(answer, BaseException) and not isinstance(answer, Exception)
            for answer in answers
        ]
        if any(ended):  # by an interrupt, which concerns this thread alone
            with self._lock:
                self._waiting = calls[1:] + self._waiting
            settle(calls[:1], answers[:1])
        else:
            settle(calls, answers)

    def _leave(self, me: _Thread) -> None:
        """It waits for nothing any more; the first of those that do leads, if it has led."""
        if self._leader is not me and me.done():
            return
        with self._lock:
            self._waiting = [call for call in self._waiting if call[0] is not me]
            if self._leader is me:
                following = self._waiting[0][0] if self._waiting else None
                if following is not None:
                    following.turn.put(None)
                self._leader = following


class _Thread:
    """Whoever waits for an answer, or for the lead."""

    def __init__(self) -> None:
        self.turn: SimpleQueue[None] = SimpleQueue()
        """Something is in it once there is an answer, or the lead is its own."""
        self._result: list[Outcome] | None = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        return self._result is not None or self._error is not None

    def cancelled(self) -> bool:
        return False

    def set_result(self, result: list[Outcome], /) -> None:
        self._result = result
        self.turn.put(None)

    def set_exception(self, exception: BaseException, /) -> None:
        self._error = exception
        self.turn.put(None)

    def answer(self) -> list[Outcome]:
        if self._error is not None:
            raise self._error
        assert self._result is not None  # noqa: S101  it was told
        return self._result


_Call: TypeAlias = Call[_Thread]
