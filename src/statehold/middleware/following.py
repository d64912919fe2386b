"""Commits of several threads passed down together.

Who comes first leads: it passes down what waits, its own commits and those of the others, who follow. What
comes meanwhile waits for the next leader, who is the first of those that wait.

An interrupt may come after any call of a function. Who leads is told by one attribute, so that whatever
ends a leader's call hands the lead on. Nobody can tell what an interrupt in the midst of a commit has left done:
so the main thread, in which they come (Ctrl-C, time limits), leads for itself alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Final, TypeAlias

from statehold.clock import AMBIENT
from statehold.commits import Commit
from statehold.driver import Driver, Outcome
from statehold.engine import run_now
from statehold.errors import Busy, Unavailable
from statehold.middleware.calls import Answer, Call, made, next_batch, settle
from statehold.middleware.wrapper import Wrapper

LOOK_S: Final = 0.001
"""Seconds between two looks at whether the calls of other threads are over."""


class Following(Wrapper):
    """Groups the commits that threads make at the same time; everything else passes through.

    The driver must not suspend. At most `max_batch` commits go down together, unless one call brings
    more; their `now` is the latest of the callers', and who had to wait is served by the time after that.
    A call within a call of the same thread, as by a signal handler, is `Busy`: it could not wait for itself.
    """

    def __init__(self, driver: Driver, *, max_batch: int = 256) -> None:
        if driver.suspends:
            raise ValueError("a driver that suspends belongs to an event loop")
        super().__init__(driver)
        self.gather = "no"
        self._max_batch = max_batch
        self._begin()

    def _begin(self) -> None:
        """Nobody waits, nor leads: those who did in a process that this one was forked off from stayed there."""
        self._process = os.getpid()
        self._lock = threading.RLock()  # a signal handler may come in the midst of it
        self._waiting: list[_Call] = []
        self._leader: _Thread | None = None

    async def commit(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._passed(commits, now, together=False)

    async def commit_together(self, commits: Sequence[Commit], now: float) -> list[Outcome]:
        return self._passed(commits, now, together=True)

    def _passed(self, commits: Sequence[Commit], now: float, *, together: bool) -> list[Outcome]:
        if self._process != os.getpid():
            self._begin()
        me = _Thread()
        try:
            with self._lock:
                if self._is_within(me.thread):
                    raise _busy()
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

    def _is_within(self, thread: int) -> bool:
        """Whether a call of this thread is under way."""
        leader = self._leader
        if leader is not None and leader.thread == thread:
            return True
        return any(call[0].thread == thread for call in self._waiting)

    async def drain(self, timeout: float) -> bool:  # noqa: ASYNC109  it waits for other threads
        """See `Driver.drain`: who waits here is waited for, and then those who are at the driver."""
        until = AMBIENT.monotonic() + timeout
        while self._leader is not None or self._waiting:
            if AMBIENT.monotonic() >= until:
                return False
            threading.Event().wait(LOOK_S)
        return await self.inner.drain(max(0.0, until - AMBIENT.monotonic()))

    def _lead(self) -> None:
        alone = threading.current_thread() is threading.main_thread()
        with self._lock:
            calls, self._waiting = next_batch(self._waiting, 0 if alone else self._max_batch)
        answers = run_now(made(self.inner, calls, {}))
        # An interrupt all the same, by who raises in other threads: it is this thread's alone.
        settle(calls, answers[:1] + [_not_the_others(answer) for answer in answers[1:]])

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
        self.thread = threading.get_ident()
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
        error = self._error
        if error is not None:
            try:
                raise error
            finally:
                self._error, self._result = None, []  # it is not to be kept by what it keeps
                del error
        assert self._result is not None  # noqa: S101  it was told
        return self._result


_Call: TypeAlias = Call[_Thread]


def _not_the_others(answer: Answer) -> Answer:
    """The answer to a call of another thread than that which made it."""
    if not isinstance(answer, BaseException) or isinstance(answer, Exception):
        return answer
    return Unavailable(
        "the thread that wrote it was interrupted: it is not known whether it is written"
    )


def _busy() -> Busy:
    return Busy(
        "called from a signal handler or finalizer in the midst of another call of the same thread;"
        " nothing was written"
    )
