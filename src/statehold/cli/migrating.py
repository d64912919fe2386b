"""`migrate`: the tables of a SQL database, made to fit the classes."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from statehold.backends import open_driver
from statehold.cli.exits import OK, PENDING
from statehold.cli.reaching import config
from statehold.errors import ConfigError

if TYPE_CHECKING:
    from statehold.drivers.sql.migrating.steps import Plan, Step


def migrate(given: Namespace) -> int:
    """Say what there is to do, do it, or write it down, as is said."""
    try:
        from statehold.drivers.sql.driver import SqlDriver
        from statehold.drivers.sql.migrating import applying, renaming, running, writing
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"migrate: needs {error.name}; pip install 'statehold[sql]'", field="migrate"
        ) from error

    found = config(given)
    for kind in given.kinds:
        if kind not in found.kinds:
            raise ConfigError(
                f"migrate: no kind {kind!r}; there are {', '.join(found.kinds)}", field="kinds"
            )
    kinds = given.kinds or list(found.kinds)
    rename = renaming.parsed(given.rename, kinds)
    driver = open_driver(found.backend, **found.settings)
    if not isinstance(driver, SqlDriver):
        raise ConfigError(
            f"migrate: {found.shown_backend} has no tables to be migrated", field="backend"
        )
    request = running.Request(
        tables=[driver.tables_of(found.kinds[kind].__schema__.layout()) for kind in kinds],
        dialect=driver.dialect,
        shown_url=driver.shown_url,
        drop=given.drop,
        rename=rename,
    )

    async def run() -> running.Migration:
        try:
            do = running.carry_out if given.apply else running.look
            return await do(driver.engine, request)
        finally:
            await driver.close()

    done = asyncio.run(run())
    if given.apply:
        for plan in done.plans:
            told: dict[str, object] = {"notes": plan.notes} if plan.notes else {}
            steps = [step.words for step in plan.steps]
            _print(kind=plan.kind, done=steps, kept=plan.unused, **told)
        return OK
    if given.write is None:
        _show(done.plans, lambda step: applying.sql(done.dialect, [step]))
    running.refuse(done.plans)
    pending = any(plan.steps for plan in done.plans)
    if given.write is not None and pending:
        path = writing.write(Path(given.write), done.plans, done.dialect)
        _print(written=str(path))
        return OK
    return PENDING if pending and given.plan else OK


def _show(plans: Sequence[Plan], sql: Callable[[Step], str]) -> None:
    """As a script: what is to be done as comments, and the statements that do it.

    Where something cannot be done it has no statements, since `--apply` would do nothing either: who
    ran the others by hand would have what no release fits.
    """
    refused = any(plan.refused for plan in plans)
    for plan in plans:
        for step in plan.steps:
            _comment(plan, f"would be done: {step.words}" if refused else step.words)
            if not refused:
                print(sql(step))
        for words in plan.unused:
            _comment(plan, f"no class uses {words}; it is kept (--drop would drop it)")
        for words in plan.notes:
            _comment(plan, words)
        for words in plan.refused:
            _comment(plan, f"CANNOT BE DONE: {words}")


def _comment(plan: Plan, words: str) -> None:
    print(f"-- {plan.kind}: {' '.join(words.splitlines())}")


def _print(**result: object) -> None:
    print(msgspec.json.encode(result).decode())
