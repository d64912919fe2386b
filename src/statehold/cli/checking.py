"""`check`."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from typing import Any

import msgspec

from statehold.cli.exits import OK
from statehold.cli.reaching import config, reach
from statehold.client import Local


def check(given: Namespace) -> int:
    """Raise what is wrong, or say what is in order."""
    found: dict[str, Any] = {"ok": True}

    async def run() -> None:
        async with reach(given) as access:
            if given.server:
                found["server"] = str(access)
            await access.check()
            if isinstance(access, Local):
                for kind in access.kinds:  # each kind is opened and read
                    await access.get(("", kind, "statehold-check"), fields=())
                    found.setdefault("kinds", []).append(kind)

    if not given.server:
        settings = config(given)
        settings.server.check()
        found |= {"source": settings.source, "backend": settings.shown_backend}
    asyncio.run(run())
    print(msgspec.json.encode(found).decode())
    return OK
