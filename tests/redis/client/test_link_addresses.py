"""URLs of servers, and error replies in the words of statehold."""

from urllib.parse import urlsplit

import pytest

from statehold.drivers.redis.client.address import CONNECTION, Address, Login, Options, target_of
from statehold.drivers.redis.client.contract import slot_of
from statehold.drivers.redis.client.errors import ErrorReply, Remedy, redirect, remedy, translated
from statehold.errors import ConfigError, Unavailable


def target(url, **options):
    return target_of(urlsplit(url), Options(**options))


@pytest.mark.parametrize(
    ("url", "mode", "addresses", "db"),
    [
        ("redis://", "single", ["localhost:6379"], 0),
        ("redis://h", "single", ["h:6379"], 0),
        ("valkey://h:7/2", "single", ["h:7"], 2),
        ("redis://u:p@h:7", "single", ["h:7"], 0),
        ("redis://[::1]", "single", ["[::1]:6379"], 0),
        ("redis://[fe80::1]:7/", "single", ["[fe80::1]:7"], 0),
        ("redis+cluster://a,b:7,[::1]:8", "cluster", ["a:6379", "b:7", "[::1]:8"], 0),
        ("valkey+cluster://[::1]:7,[::2]:8", "cluster", ["[::1]:7", "[::2]:8"], 0),
        ("redis+sentinel://a,b:7/m", "sentinel", ["a:26379", "b:7"], 0),
        ("redis+sentinel://u:p@a/m%2Fn/3", "sentinel", ["a:26379"], 3),
    ],
)
def test_what_urls_name(url, mode, addresses, db):
    found = target(url)
    assert found.mode == mode
    assert [str(address) for address in found.addresses] == addresses
    assert found.db == db
    assert found.tls is None
    assert (found.master != "") == (mode == "sentinel")


def test_schemes_with_an_s_are_secured():
    for scheme in ("rediss", "valkeys", "rediss+cluster"):
        assert target(f"{scheme}://h").tls.check_hostname
    assert not target("rediss://h", tls_verify=False).tls.check_hostname


def test_credentials_are_unquoted_and_never_shown():
    found = target("redis://a%40b:s3%3Acret%2F@h")
    assert (found.login.username, found.login.secret()) == ("a@b", "s3:cret/")
    assert "cret" not in f"{found!r} {found.login}"
    assert target("redis://:pw@h").login == Login(None, "pw")


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("redis://a,b", {}, r"redis\+sentinel:// or redis\+cluster://"),
        ("redis+sentinel://a", {}, "name the master"),
        ("redis+cluster://a/1", {}, "only database 0"),
        ("redis+cluster://a", {"db": 1}, "only database 0"),
        ("redis://s3cret:s3cret@h:x", {}, "not a host"),
        ("redis://s3cret:s3cret@h:70000", {}, "not a host"),
        ("redis://h/one", {}, "number of one database"),
        ("redis://h/1/2", {}, "number of one database"),
        ("redis://h/1", {"db": 2}, "number of one database"),
        ("redis://:s3cret@h", {"password_file": "f"}, "given twice"),
        ("redis://h", {"tls_ca": "f"}, "needs a scheme with TLS"),
        ("redis://s3cret@h", {}, r"say redis://name:password@host, redis://:password@host"),
    ],
)
def test_urls_that_cannot_be(url, options, says):
    with pytest.raises(ConfigError, match=says) as caught:
        target(url, **options)
    assert "s3cret" not in str(caught.value)


def test_the_settings_are_those_of_the_options():
    """One table is what users see, the other what the code reads."""
    assert {name: default for name, (_, default, _) in CONNECTION.items()} == {
        name: getattr(Options(), name) for name in Options.__struct_fields__
    }


def test_slots_are_those_of_the_specification():
    assert slot_of(b"123456789") == 0x31C3
    assert slot_of(b"somekey") == 11058


def test_redirections_are_read():
    assert redirect(ErrorReply("MOVED 3999 10.0.0.1:6381")) == (3999, "10.0.0.1", 6381)
    assert redirect(ErrorReply("ASK 3999 :6381")) == (3999, "", 6381)
    assert redirect(ErrorReply("MOVED 3999 ::1:6381")) == (3999, "::1", 6381)
    assert redirect(ErrorReply("MOVED 1 host.example:1")) == (1, "host.example", 1)
    assert redirect(ErrorReply("MOVED gone")) is None


def test_an_error_does_not_quote_what_was_stored():
    reply = ErrorReply("ERR unknown command 'X', with args beginning with: 'secret' 'more'")
    error = translated(reply, Address("h", 1))
    assert type(error) is ConfigError
    assert "secret" not in str(error)
    assert remedy(reply) is Remedy.NONE
    error = translated(ErrorReply("ERR " + "x" * 9000), Address("h", 1))
    assert type(error) is Unavailable
    assert len(str(error)) < 300
