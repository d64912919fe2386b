"""A service that starts with all its callers at once, before any kind was opened."""

import asyncio

import pytest

from statehold.drivers.sql.migrating import opening
from statehold.testing.trial import Ledger
from tests.faults.trials import at


@pytest.mark.parametrize("server", ["statehold_postgres", "statehold_mariadb"])
def test_the_kind_is_opened_once_for_64_callers(request, server, monkeypatch):
    """Each on its own they would take seconds, or for ever where that is more than the timeout."""
    url = request.getfixturevalue(server).new_database()
    looked = []
    fitted = opening.fitted

    def counted(*arguments):
        looked.append(arguments)
        return fitted(*arguments)

    monkeypatch.setattr(opening, "fitted", counted)

    async def main():
        async with at(url)() as store:
            ledgers = store.collection(Ledger)
            await asyncio.gather(*(ledgers.get(f"{n}") for n in range(64)))

    asyncio.run(main())
    assert len(looked) == 1
    asyncio.run(main())
    assert len(looked) == 2
