"""The SQL driver keeps the contract on each database, alone and with commits grouped above it."""

import pytest

from statehold.middleware.coalesce import Coalesce
from statehold.testing import Backend, DriverConformance, stateful
from statehold.testing.conformance import Commits, ExactlyOnce, Races
from tests.sql.sqlbackends import (
    opened,
    portable,
    sql_backend,
    without_function,
    without_single,
)
from tests.variants import Variant


def grouped(url):
    """The driver as a store opens it for asynchronous callers."""
    return Coalesce(opened(url))


class TestSqliteTables(DriverConformance):
    @pytest.fixture
    def backend(self, tmp_path):
        return sql_backend(f"sqlite+sql:///{tmp_path}/state.db")


class TestPostgresqlPortably(Variant):
    @pytest.fixture
    def backend(self, statehold_postgres):
        return sql_backend(statehold_postgres.new_database(), portable)


class _Tiers(Commits, ExactlyOnce, Races):
    """What is played with some of the tiers: the cases that say what a commit does, and the machine's part."""

    def test_driver_and_model_agree(self, backend):
        """The machine plays its whole part with all of them."""
        stateful.run(backend, examples=8)


class TestPostgresqlWithoutFunction(_Tiers):
    @pytest.fixture
    def backend(self, statehold_postgres):
        return sql_backend(statehold_postgres.new_database(), without_function)


class TestPostgresqlWithoutSingle(_Tiers):
    @pytest.fixture
    def backend(self, statehold_postgres):
        return sql_backend(statehold_postgres.new_database(), without_single)


class TestMariadb(DriverConformance):
    @pytest.fixture
    def backend(self, statehold_mariadb):
        return sql_backend(statehold_mariadb.new_database())


class TestGroupedSqliteTables(Commits, Races):
    @pytest.fixture
    def backend(self, tmp_path):
        url = f"sqlite+sql:///{tmp_path}/state.db"
        return Backend(lambda: grouped(url), f"{__name__}:grouped", (url,))

    def test_driver_and_model_agree(self, backend):
        """The machine plays its whole part on the driver alone."""
        stateful.run(backend, examples=8)
