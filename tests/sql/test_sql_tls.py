"""Connections that are encrypted, or are to be and cannot: the error names the cure, at once."""

import shutil
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import pytest

from statehold import ConfigError, Counter, State, Store
from statehold.testing.servers import MariadbServer, PostgresServer
from statehold.testing.servers.certificates import Certificate
from statehold.testing.servers.server import unprivileged


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


def turns(url, **settings):
    """What a store says that has counted one turn."""
    with Store.open(url, **settings) as store:
        chats = store.collection(Chat)
        chats.apply("ann", Chat.turns.add(1))
        return chats.get("ann").turns


@pytest.mark.parametrize("tls", ["require", "verify"])
@pytest.mark.parametrize("server", ["statehold_postgres", "statehold_mariadb"])
def test_a_port_without_tls_is_told_at_once(request, server, tls):
    """However long one tries, it will not speak it: no `Unavailable`, which says try again."""
    url = request.getfixturevalue(server).new_database()
    began = time.monotonic()
    with pytest.raises(ConfigError, match="tls=off"):
        turns(url, tls=tls, timeout=30.0)
    assert time.monotonic() - began < 15.0


@pytest.fixture
def folder():
    """One that the servers' users may look into, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="statehold-tls-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(params=["postgresql", "mariadb"])
def secured(request, folder):
    """A server that speaks TLS, and its certificate, which is its own authority."""
    certificate = Certificate.make(folder)
    kind, names = {
        "postgresql": (PostgresServer, {"ssl_cert_file": "path", "ssl_key_file": "key"}),
        "mariadb": (MariadbServer, {"ssl_cert": "path", "ssl_key": "key"}),
    }[request.param]
    if unprivileged(kind.account) is not None:
        shutil.chown(certificate.key, kind.account)
    settings = {name: str(getattr(certificate, what)) for name, what in names.items()}
    if request.param == "postgresql":
        settings["ssl"] = "on"
    with kind.start(fsync=False, settings=settings) as server:
        yield server.new_database(), certificate


def test_certificates_are_checked_when_asked(secured, monkeypatch):
    """`require` takes any, `verify` only one of an authority that is known."""
    url, certificate = secured
    assert turns(url, tls="require") == 1
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        turns(url, tls="verify", timeout=30.0)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    assert turns(url, tls="verify") == 2
