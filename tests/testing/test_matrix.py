"""The page of backends says what the drivers declare, and each of them is held to it by the kit."""

import importlib
from pathlib import Path

import pytest

from statehold.backends import BACKENDS
from statehold.driver import Feature
from statehold.testing import DriverConformance
from statehold.testing.conformance import Cases
from statehold.testing.matrix import DRIVERS, FEATURES, page

PAGE = Path(__file__).parents[2] / "docs" / "backends.md"

PROOFS = {
    "statehold.drivers.memory:MemoryDriver": "tests.drivers.test_conformance_memory:TestMemory",
    "statehold.drivers.sqlite:SqliteDriver": "tests.drivers.test_conformance_sqlite:TestSqlite",
    "statehold.drivers.redis:RedisDriver": "tests.redis.test_redis_conformance:TestRedis",
    "statehold.drivers.sql:SqlDriver": "tests.sql.test_fast_conformance:TestPostgresql",
    "statehold.drivers.token:TokenDriver": "tests.token.test_token_conformance:TestSealed",
}
"""Driver → the tests that hold it to the whole contract."""


def test_the_page_is_up_to_date():
    """`python -m statehold.testing.matrix > docs/backends.md` would change nothing."""
    assert PAGE.read_text() == page()


def test_every_place_and_every_feature_is_there():
    homes = {path.partition(":")[0] for path in DRIVERS.values()}
    assert homes == {target.partition(":")[0] for target in BACKENDS.values()}
    assert set(FEATURES) == set(Feature)


@pytest.mark.parametrize("path", DRIVERS.values())
def test_the_whole_kit_runs_against_it(path):
    module, _, name = PROOFS[path].partition(":")
    proof = getattr(importlib.import_module(module), name)
    assert issubclass(proof, DriverConformance)
    assert proof.backend is not Cases.backend  # it says where
