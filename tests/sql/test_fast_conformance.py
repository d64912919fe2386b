"""PostgreSQL's fast path keeps the contract, alone and with commits grouped above it."""

import pytest

from statehold.middleware.coalesce import Coalesce
from statehold.testing import Backend, DriverConformance, stateful
from statehold.testing.conformance import Commits, Races
from tests.sql.sqlbackends import TICKS, opened, sql_backend


def grouped(url):
    """The driver with commits grouped above it, though it gathers them itself (its `gather`)."""
    return Coalesce(opened(url))


class TestPostgresql(DriverConformance):
    @pytest.fixture
    def backend(self, statehold_postgres):
        return sql_backend(statehold_postgres.new_database())


class TestPostgresql18(Commits):
    """The newest version beside Debian's, with pgvector."""

    @pytest.fixture
    def backend(self, statehold_pgvector):
        return sql_backend(statehold_pgvector.new_database())


class TestPostgresqlGrouped(Commits, Races):
    @pytest.fixture
    def backend(self, statehold_postgres):
        url = statehold_postgres.new_database()
        return Backend(
            lambda: grouped(url), f"{__name__}:grouped", (url,), own_clock=TICKS["postgresql"]
        )

    def test_driver_and_model_agree(self, backend):
        """The machine plays its whole part on the driver alone."""
        stateful.run(backend, examples=8)
