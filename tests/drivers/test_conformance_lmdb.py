"""The driver of the page *Write a driver* keeps the contract, alone and with commits grouped above it."""

import contextlib
import subprocess
import sys
from urllib.parse import quote

import pytest

pytest.importorskip("lmdb")

import lmdb
from msgspec.structs import replace

from examples.on_lmdb import LmdbDriver, load, save
from statehold.errors import ConfigError
from statehold.middleware.coalesce import Coalesce
from statehold.testing import Backend, DriverConformance
from tests.variants import Variant


class Down:
    """An environment that can do nothing."""

    def begin(self, *, write=False):
        raise lmdb.DiskError("input/output error")


@contextlib.contextmanager
def down(driver):
    """The folder cannot be used."""
    kept, driver._env = driver._env, Down()
    yield
    driver._env = kept


def damage(driver, key, field):
    """What no encoder has written, where the field is."""
    with driver._writing(wait=True) as txn:
        life = load(txn, key)
        fields = {name: cell for name, cell in life.fields.items() if name != field}
        save(txn, key, life, replace(life, fields=fields, unreadable={field: b"\xc1"}))


def stored(driver):
    """Every key and value."""
    with driver._env.begin() as txn:
        return b"\n".join(each for pair in txn.cursor() for each in pair)


@contextlib.contextmanager
def held(path):
    """Another process is writing."""
    wait = "import sys, fcntl, os; f = os.open(sys.argv[1], os.O_RDWR);"
    wait += "fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", wait, f"{path}/writer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()


class TestLmdb(DriverConformance):
    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "states")
        opened = []

        def opening():
            opened.append(LmdbDriver(path, busy_timeout=2.0))
            return opened[-1]

        return Backend(
            open=opening,
            recipe="examples.on_lmdb:LmdbDriver",
            arguments=(path,),
            outage=lambda: down(opened[-1]),
            corrupt=lambda key, field: damage(opened[-1], key, field),
            raw=lambda: stored(opened[-1]),
            held=lambda: held(path),
            set_back=True,
        )


class TestLmdbByUrl(Variant):
    """As a store opens it for asynchronous callers: by its entry point, commits gathered above it."""

    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "states")
        return Backend.by_url(
            f"lmdb:///{quote(path)}?max_bytes=64MiB",
            settings={"busy_timeout": 2.0},
            entry_point="examples.on_lmdb:from_url",
            held=lambda: held(path),
        ).gathered()

    def test_it_is_what_a_store_opens(self, rig):
        assert isinstance(rig.driver, Coalesce)
        assert rig.driver.gather == "no"  # it is gathered already


def test_a_setting_that_there_is_not_is_refused(tmp_path):
    backend = Backend.by_url(
        f"lmdb:///{quote(str(tmp_path))}?speed=9", entry_point="examples.on_lmdb:from_url"
    )
    with pytest.raises(ConfigError, match="speed"):
        backend.open()
