"""A driver that suspends, with nothing to wait for."""

import asyncio

from statehold.drivers.memory import MemoryDriver


class Suspending(MemoryDriver):
    """Memory behind an event loop, as a network's driver is."""

    suspends = True

    async def read(self, *args, **kwargs):
        await asyncio.sleep(0)
        return await super().read(*args, **kwargs)

    async def commit(self, *args, **kwargs):
        await asyncio.sleep(0)
        return await super().commit(*args, **kwargs)

    async def scan(self, *args, **kwargs):
        await asyncio.sleep(0)
        return await super().scan(*args, **kwargs)

    async def close(self):
        await asyncio.sleep(0)
        await super().close()
