"""Who one is to the server, and who the server is: passwords, access lists, TLS."""

import asyncio

import pytest

from statehold.errors import ConfigError, Unavailable
from statehold.testing.proxy import Proxy
from statehold.testing.servers import RedisServer
from statehold.testing.servers.certificates import Certificate
from tests.redis.client.linking import counted, once, opened

SECRET = "s3cret/ü:@%"
QUOTED = "s3cret%2F%C3%BC%3A%40%25"
# What the driver needs of an access list, on its own keys.
RULES = "resetkeys -@all +evalsha +evalsha_ro +script|load +@read +@write +@set +select +time"


@pytest.fixture(scope="module")
def guarded():
    users = {
        "ml": f"on >{SECRET} {RULES} ~{{t}}:*",
        "reader": "on >r ~* -@all +@read +client|setname +script|load +evalsha_ro +time",
    }
    with RedisServer.start(password=SECRET, users=users) as server:
        yield server


def url_as(server, user, password):
    return f"redis://{user}:{password}@127.0.0.1:{server.port}"


def call(url, command, **options):
    """The reply to one call; no error may show the password, whatever shape it is printed in."""

    async def main():
        async with opened(url, **options) as servers:
            return await servers.call(*command, repeatable=True)

    try:
        return asyncio.run(main())
    except Exception as error:
        shown = repr(error) + repr(error.__cause__) + str(error) + repr(error.__context__)
        assert "s3cret" not in shown
        assert "wrong-pass" not in shown
        raise


def test_a_password_with_or_without_a_user(guarded):
    assert call(guarded.url, once("a")) in (0, 1)
    assert call(url_as(guarded, "ml", QUOTED), once("a")) == 0
    assert call(url_as(guarded, "default", QUOTED), counted()) == b"1"


def test_the_wrong_password_is_said_at_once_and_names_the_user(guarded):
    with pytest.raises(ConfigError, match="wrong user name or password for user 'ml'"):
        call(url_as(guarded, "ml", "wrong-pass"), once("a"), timeout=30.0)
    with pytest.raises(ConfigError, match="user 'default'"):
        call(url_as(guarded, "", "wrong-pass"), once("a"))


def test_no_password_where_one_is_needed(guarded):
    """It is said at once, though such a server says of a script only that it is too long."""
    for options in ({}, {"client_name": ""}):
        with pytest.raises(ConfigError, match=r"asks for a password: say redis://:password@host"):
            call(f"redis://127.0.0.1:{guarded.port}", once("a"), timeout=30.0, **options)
    with pytest.raises(ConfigError, match="user without a password") as caught:
        call(f"redis://s3cret@127.0.0.1:{guarded.port}", once("a"))
    assert caught.value.found is None


def test_a_password_where_none_is_set(redis):
    with pytest.raises(ConfigError, match="AUTH"):
        call(f"redis://:wrong-pass@127.0.0.1:{redis.port}", once("a"))


def test_keys_and_commands_that_the_access_list_denies(guarded):
    with pytest.raises(ConfigError, match="access list does not allow this for user 'ml'"):
        call(url_as(guarded, "ml", QUOTED), once("a", tag="other"))
    with pytest.raises(
        ConfigError, match=r"access list does not allow this for user 'ml'.*'config"
    ):
        call(url_as(guarded, "ml", QUOTED), (0, ("CONFIG", "GET", "port")))
    assert call(url_as(guarded, "reader", "r"), counted()) == call(guarded.url, counted())
    with pytest.raises(ConfigError, match="'reader'"):
        call(url_as(guarded, "reader", "r"), once("b"))


def test_a_user_without_leave_to_load_scripts_is_told_so():
    with (
        RedisServer.start(users={"ml": "on >pw ~* +evalsha +time"}) as server,
        pytest.raises(ConfigError, match=r"user 'ml' .*script"),
    ):
        call(url_as(server, "ml", "pw"), once("a"))


def test_a_password_file_is_read_for_each_connection(tmp_path):
    """So that a password can be changed: until both sides have it, calls wait."""
    file = tmp_path / "password"
    file.write_text("old\n")

    async def main():
        url = f"redis://127.0.0.1:{server.port}"
        async with opened(url, password_file=str(file), timeout=5.0) as servers:
            assert await servers.call(*once("a"), repeatable=True) == 1
            server.password = "new"
            server.cli("CONFIG", "SET", "requirepass", "new", password="old")
            assert await servers.call(*once("b"), repeatable=True) == 1
            server.cli("CLIENT", "KILL", "TYPE", "normal", password="new")
            await asyncio.sleep(0.02)
            waiting = asyncio.create_task(servers.call(*once("c"), repeatable=True))
            await asyncio.sleep(0.1)
            file.write_text("new\n")
            assert await waiting == 1
        async with opened(url, password_file=str(file), timeout=1.0) as servers:
            file.write_text("wrong-pass\n")
            with pytest.raises(ConfigError, match="wrong user name or password"):
                await servers.call(*once("d"), repeatable=True)
            file.unlink()
            with pytest.raises(ConfigError, match="password file cannot be read"):
                await servers.call(*once("d"), repeatable=True)

    with RedisServer.start(password="old") as server:
        asyncio.run(main())


def test_a_database_by_number(redis):
    call(redis.url + "/3", once("a"))
    assert redis.cli("EXISTS", "{t}:number") == 0
    assert call(redis.url, counted(), db=3) == b"1"
    with pytest.raises(ConfigError, match="database not found"):
        call(redis.url + "/99", once("a"))


@pytest.fixture(scope="module")
def tls():
    with RedisServer.start(tls=True) as server:
        yield server


def test_tls(tls):
    assert call(tls.url, once("a"), tls_ca=str(tls.certificate.path)) == 1
    localhost = tls.url.replace("127.0.0.1", "localhost")
    assert call(localhost, once("a"), tls_ca=str(tls.certificate.path)) == 0


def test_many_calls_over_tls(tls):
    async def main():
        async with opened(tls.url, tls_ca=str(tls.certificate.path)) as servers:
            big = "x" * 3_000_000
            commands = [(0, ("ECHO", big)), (0, ("ECHO", "small"))] * 2
            found = await servers.call_many(commands, repeatable=True)
            assert found == [big.encode(), b"small"] * 2

    asyncio.run(main())


def test_a_server_whose_certificate_is_not_trusted_is_refused(tls, tmp_path):
    """Unless one says that it need not be, and takes what comes of that."""
    with pytest.raises(ConfigError, match="certificate is not accepted"):
        call(tls.url, once("a"), timeout=30.0)
    other = Certificate.make(tmp_path)
    with pytest.raises(ConfigError, match="certificate is not accepted"):
        call(tls.url, once("a"), tls_ca=str(other.path))
    assert call(tls.url, once("a"), tls_verify=False) in (0, 1)


def test_a_server_that_wants_to_know_who_we_are():
    with RedisServer.start(tls="both sides") as server:
        cert, key = str(server.certificate.path), str(server.certificate.key)
        assert call(server.url, once("a"), tls_ca=cert, tls_cert=cert, tls_key=key) == 1
        with pytest.raises(ConfigError, match="CERTIFICATE_REQUIRED"):
            call(server.url, once("a"), tls_ca=cert, timeout=30.0)


def test_tls_to_a_server_without_and_the_other_way_round(tls, redis):
    """The error says which of the two it is, and is not to be retried."""
    with pytest.raises(ConfigError, match=rf"{redis.port}: it speaks without TLS; say redis://"):
        call(f"rediss://127.0.0.1:{redis.port}", once("a"), timeout=30.0)
    with pytest.raises(ConfigError, match=rf"{tls.port}: it speaks TLS only; say rediss://"):
        call(f"redis://127.0.0.1:{tls.port}", once("a"), timeout=30.0)


def test_a_server_that_says_nothing_is_not_taken_for_one_with_tls(redis):
    """What hangs or hangs up may be well again soon."""
    with Proxy(redis.port) as proxy:
        proxy.stall()
        for url in (
            proxy.through(redis.url),
            proxy.through(redis.url).replace("redis:", "rediss:"),
        ):
            with pytest.raises(Unavailable):
                call(url, once("a"), timeout=0.8, connect_timeout=0.2)
        proxy.resume()
        proxy.refuse()
        with pytest.raises(Unavailable):
            call(proxy.through(redis.url), once("a"), timeout=0.3)


def test_files_that_are_no_certificates(tls, tmp_path):
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("nothing")
    for options in ({"tls_ca": str(wrong)}, {"tls_cert": str(tmp_path / "missing")}):
        with pytest.raises(ConfigError, match="TLS cannot be set up"):
            call(tls.url, once("a"), **options)
