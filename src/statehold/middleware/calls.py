"""Calls that commit, passed down together: what goes into a batch, and what becomes of each.

Who gathers them says who waits for them: tasks of an event loop (`coalesce`), or threads (`following`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias, TypeVar, cast

from statehold.clock import AMBIENT
from statehold.commits import Commit
from statehold.driver import Driver, Outcome, WouldWait, told
from statehold.errors import StateholdError, own


class Waits(Protocol):
    """Whoever waits for an answer: an `asyncio.Future` is one."""

    def done(self) -> bool: ...
    def cancelled(self) -> bool: ...
    def set_result(self, result: list[Outcome], /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...


W = TypeVar("W", bound=Waits)
Call: TypeAlias = tuple[W, Sequence[Commit], float, bool, float]
"""Who waits, its commits, its `now`, whether they stand together, and since when it had to wait: 0.0
if it did not."""
Answer: TypeAlias = list[Outcome] | BaseException


def next_batch(waiting: list[Call[W]], most: int) -> tuple[list[Call[W]], list[Call[W]]]:
    """What goes down next, without what nobody waits for any more; and what stays.

    At most so many commits, unless one call brings more; those that stand together alone.
    """
    size = 0
    calls: list[Call[W]] = []
    for count, call in enumerate(waiting):
        if call[0].done():
            continue
        size += len(call[1])
        if calls and (size > most or call[3] or calls[0][3]):
            return calls, waiting[count:]
        calls.append(call)
    return calls, []


def wanted(calls: list[Call[W]]) -> list[Call[W]]:
    """Those whose callers were not cancelled."""
    return [call for call in calls if not call[0].cancelled()]


def had_to_wait(calls: list[Call[W]]) -> list[Call[W]]:
    """These calls, each known to wait, from now on if not before."""
    begun = AMBIENT.monotonic()
    return [(*call[:4], call[4] or begun) for call in calls]


def waited(since: float) -> float:
    """The seconds since then; 0.0 for who did not have to wait."""
    return AMBIENT.monotonic() - since if since else 0.0


def latest(calls: list[Call[W]]) -> float:
    """The latest `now` of the callers, by the time they have waited."""
    return max((now + waited(since) for _, _, now, _, since in calls), default=0.0)


async def made(driver: Driver, calls: list[Call[W]], more: dict[str, bool]) -> list[Answer]:
    """What became of each call, all made together. Raises `WouldWait` where nothing was done."""
    commits = [each for _, some, _, _, _ in calls for each in some]
    if not commits:
        return [[] for _ in calls]
    together = calls[0][3]  # and then it is the only one
    commit = cast("Any", driver).commit_together if together else driver.commit
    try:
        outcomes: list[Outcome] = await commit(commits, latest(calls), **more)
    except WouldWait:
        raise
    except BaseException as error:  # noqa: BLE001  each caller is told
        told_to = len(calls)
        del calls, commits  # which the error would keep alive, and they those who have it
        return for_each(told_to, error)
    if together:
        return [outcomes]
    each = iter(outcomes)
    return [_told([next(each) for _ in some]) for _, some, _, _, _ in calls]


def for_each(calls: int, error: BaseException) -> list[Answer]:
    """The error as the answer to so many calls, to each its own."""
    return [error if calls == 1 else own(error) for _ in range(calls)]


def _told(outcomes: list[Outcome]) -> Answer:
    try:
        return told(outcomes)
    except StateholdError as error:
        return error


def settle(calls: list[Call[W]], answers: list[Answer]) -> None:
    """Every caller that still waits has its answer."""
    for (future, *_), answer in zip(calls, answers, strict=True):
        if future.done():
            continue  # its caller was cancelled
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)
