"""`sweep`: what has ended is cleared away, for stores to which few or none write."""

from __future__ import annotations

import asyncio
from argparse import Namespace

import msgspec

from statehold.cli.exits import OK
from statehold.cli.reaching import config
from statehold.driver import Swept


def sweep(given: Namespace) -> int:
    """Look at everything once, or for as long as is said, and print what that came to."""
    found = config(given, needs_kinds=False)  # it is about all that are stored

    async def run() -> Swept:
        async with found.open() as store:
            return await store.sweep(given.seconds)

    swept = asyncio.run(run())
    print(msgspec.json.encode({"removed": swept.removed, "whole": swept.after is None}).decode())
    return OK
