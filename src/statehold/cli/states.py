"""`get`, `apply`, `scan`, `delete`: one state, or the listing of a kind."""

from __future__ import annotations

import asyncio
import sys
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from statehold.cli.exits import ABSENT, OK
from statehold.cli.reaching import reach
from statehold.client.base import expectation
from statehold.commits import ABSENT as NO_STATE
from statehold.errors import Invalid

_PAGE = 500
_STATES = 100


def get(given: Namespace) -> int:
    """Print the state."""

    async def run() -> int:
        key = (given.tenant, given.kind, given.id)
        names: str | None = given.fields
        fields = None if names is None else [name for name in names.split(",") if name]
        entries = None if given.entries is None else _json(given.entries, "entries")
        async with reach(given) as access:
            found = await access.get(
                key,
                fields=fields,
                tail=given.tail,
                entries=entries,
                after=given.after,
                limit=given.limit,
            )
        return _absent(given) if found is None else _print(found)

    return asyncio.run(run())


def _json(text: str | bytes, what: str) -> Any:
    """What the text says. Raises `Invalid`."""
    try:
        return msgspec.json.decode(text)
    except ValueError as error:
        raise Invalid(f"{what} are not JSON: {error}", field=what) from None


def apply(given: Namespace) -> int:
    """Apply the changes and print the revision."""

    async def run() -> int:
        text = sys.stdin.buffer.read() if given.changes == "-" else given.changes
        changes = _json(text, "changes")
        key = (given.tenant, given.kind, given.id)
        async with reach(given) as access:
            done = await access.commit(
                key,
                changes,
                op=given.op,
                expect=expectation(given.expect),
                epoch=given.epoch,
                subject=given.subject,
                ttl=given.ttl,
            )
        return _print({"revision": str(done.revision), "repeated": done.repeated})

    return asyncio.run(run())


def scan(given: Namespace) -> int:
    """Print the ids, or the states, each as JSON on a line of its own."""

    async def run() -> int:
        left, cursor = given.limit, None
        size = _STATES if given.values else _PAGE
        async with reach(given) as access:
            pages: Callable[..., Awaitable[tuple[list[Any], str | None]]]
            pages = access.page if given.values else access.scan
            while left is None or left > 0:
                found, cursor = await pages(
                    given.tenant,
                    given.kind,
                    subject=given.subject,
                    prefix=given.prefix,
                    newest=given.newest,
                    cursor=cursor,
                    limit=size if left is None else min(size, left),
                )
                for each in found:
                    _print(each)
                if left is not None:
                    left -= len(found)
                if cursor is None:
                    break
        return OK

    return asyncio.run(run())


def delete(given: Namespace) -> int:
    """Delete the state and say whether there was one."""

    async def run() -> int:
        expect = expectation(given.expect)
        if expect == NO_STATE:
            raise Invalid("expect: what is absent cannot be deleted", field="expect")
        async with reach(given) as access:
            key = (given.tenant, given.kind, given.id)
            gone = await access.delete(key, op=given.op, expect=expect)
        return _print({"deleted": True}) if gone else _absent(given)

    return asyncio.run(run())


def _print(result: Any) -> int:
    print(msgspec.json.encode(result).decode())
    return OK


def _absent(given: Namespace) -> int:
    print(f"statehold: absent: {given.kind} {given.id!r:.80}: not found", file=sys.stderr)
    return ABSENT
