"""What the tests of faults share: clients to try, and the work of a server's thread awaited."""

import asyncio
import sys
import time
from contextvars import ContextVar, copy_context
from urllib.parse import parse_qsl, urlsplit

from statehold import AsyncStore, StateholdError
from statehold.clock import SystemClock
from statehold.drivers.sql import from_url
from statehold.middleware.coalesce import Coalesce
from statehold.testing.trial import Trial

HOUR = 3600.0


def at(url, *, clock=None, **settings):
    """What opens a client of this backend."""
    return lambda: AsyncStore.open(url, clock=clock, **settings)


def portably(url, **settings):
    """The same for PostgreSQL with nothing but transactions, as where its functions may not be made."""

    def open_():
        parts = urlsplit(url)
        driver = from_url(parts, dict(parse_qsl(parts.query)) | settings, tiers=["portable"])
        return AsyncStore(Coalesce(driver))

    return open_


_time = time.time
_wrong: ContextVar[float] = ContextVar("_wrong", default=0.0)


class Machine(SystemClock):
    """A machine whose clock is wrong by so many seconds.

    A store there is given it as its clock; and what `on_it` runs is told its time by `time.time`,
    which a test has to have replaced by `lying_time`.
    """

    def __init__(self, seconds):
        self.seconds = seconds

    def now(self):
        return _time() + self.seconds

    async def on_it(self, work):
        context = copy_context()
        context.run(_wrong.set, self.seconds)
        return await asyncio.get_running_loop().create_task(work, context=context)


def lying_time():
    """What time it is, where this is asked."""
    return _time() + _wrong.get()


async def patiently(call, seconds=60.0):
    """What `call()` comes to in the end: for what a test needs to be there, and is not about.

    A client that gives up after a second may find tables slow to be made, or a connection.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            return await call()
        except StateholdError as error:
            if not error.retryable or time.monotonic() > end:
                raise
        await asyncio.sleep(0.01)


async def put_through(trial, *faults, within, may_lose=False):
    """The report of a trial in which these faults came and went, one after the other.

    Each is awaited, and is over when it returns; then every writer must go on `within` seconds.
    """
    async with trial:
        await trial.progress(3)
        for fault in faults:
            await fault(trial)
            await trial.recovered(within=within)
            await trial.progress(3)
    report = await trial.verify(may_lose=may_lose)
    sys.stdout.write(f"{report}\n")  # what pytest -rA shows of a test
    return report


def tried(*opens, faults, within, may_lose=False, **options):
    """The report of a trial, see `put_through`; `options` are those of `Trial`."""
    trial = Trial(*opens, **options)
    return asyncio.run(put_through(trial, *faults, within=within, may_lose=may_lose))


def killed(server, *, down=0.2):
    """A fault: the server is killed, and started again."""

    async def fault(_):
        await asyncio.to_thread(server.kill)
        await asyncio.sleep(down)
        await asyncio.to_thread(server.restart)

    return fault


def restarted(server):
    """A fault: the server is restarted in good order."""

    async def fault(_):
        await asyncio.to_thread(server.restart)

    return fault


def paused(server, *errors, seconds=5.0):
    """A fault: the server stands still, and calls fail."""

    async def fault(trial):
        await asyncio.to_thread(server.pause)
        await asyncio.gather(trial.failing(*errors), asyncio.sleep(seconds))
        await asyncio.to_thread(server.resume)

    return fault


def stalled(proxy, *errors, seconds=0.5):
    """A fault: nothing gets through, and nobody is told."""

    async def fault(trial):
        proxy.stall()
        await asyncio.gather(trial.failing(*errors), asyncio.sleep(seconds))
        proxy.resume()

    return fault


def reset(proxy, *, times=30, every=0.03):
    """A fault: connections are reset again and again."""

    async def fault(_):
        for _ in range(times):
            proxy.reset()
            await asyncio.sleep(every)

    return fault


def cut(proxy, *, times=20, what=None, most=20.0):
    """A fault: the answers to commits are lost on their way.

    `what` is in a request that commits; None: the name of a state is.
    """

    async def fault(trial):
        name = what or trial.name.encode()
        with proxy.cut_reply(times, when=lambda sent: name in sent) as done:
            end = time.monotonic() + most
            while done.count < times and time.monotonic() < end:  # noqa: ASYNC110  counted by a thread
                await asyncio.sleep(0.01)

    return fault
