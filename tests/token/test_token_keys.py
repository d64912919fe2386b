"""Keys: where they come from, who may read them, and rotation without a logout."""

import os
import stat

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from statehold import ConfigError, Invalid, Store, Tampered
from statehold.drivers.token import keyfile
from statehold.drivers.token.keyfile import Line
from statehold.drivers.token.keys import derived
from statehold.tokens import Jar, Key, KeyRing, session_of
from tests.token.chats import KEY, Chat

OLD = [Key.new() for _ in range(9)]


def test_text_and_back():
    assert Key.parse(f"  {KEY.text()}\n") == KEY
    assert len({key.text() for key in OLD}) == len({key.id for key in OLD}) == 9


@pytest.mark.parametrize("length", [4, 32])
def test_keys_are_derived_as_rfc_5869_says(length):
    """Against another implementation of HKDF-Expand."""
    for purpose in (b"sign", b"seal" + bytes(12)):
        info = b"statehold token 1 " + purpose
        expected = HKDFExpand(SHA256(), length, info).derive(b"s" * 32)
        assert derived(b"s" * 32, length, purpose) == expected


def test_any_number_of_old_keys_open_and_one_seals(open_client):
    tokens = [open_client(keys=[key]).say("x") for key in OLD]
    now = open_client(keys=[KEY, *OLD])
    for token in tokens:
        assert now.see(token).turns == 1
    fresh = now.say("y", token=tokens[3])
    assert open_client(keys=[KEY]).see(fresh).turns == 2


def test_from_the_environment(open_client, monkeypatch):
    token = open_client().say("x")
    monkeypatch.setenv("SHOP_KEYS", f"{OLD[0].text()}, {KEY.text()}")
    assert open_client(keys="env:SHOP_KEYS").see(token).turns == 1
    for text in ("", " ", "sh1_wrong"):
        monkeypatch.setenv("SHOP_KEYS", text)
        with pytest.raises(ConfigError):
            KeyRing("env:SHOP_KEYS")
    with pytest.raises(ConfigError, match="has no NO_SUCH_KEYS"):
        KeyRing("env:NO_SUCH_KEYS")


@pytest.mark.parametrize("source", [None, 5, b"x" * 32, [], [5], ["x"], list, lambda: 7])
def test_what_is_no_source(source):
    with pytest.raises(ConfigError):
        KeyRing(source)


def test_keys_are_needed_and_never_shown(open_client):
    with pytest.raises(ConfigError, match="needs keys"):
        open_client(keys=None)
    with pytest.raises(ConfigError) as caught:
        open_client(keys="sh1_" + "x" * 42)
    assert "xxx" not in str(caught.value) + repr(vars(caught.value))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "keys"
    keyfile.write(path, [Line(KEY, "2026-01-01")])
    return path


def test_a_file_is_for_its_owner_only(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyRing(f"file:{path}").sealing == KEY
    for mode in (0o640, 0o604, 0o660, 0o644, 0o620):
        path.chmod(mode)
        with pytest.raises(ConfigError, match="chmod 600"):
            KeyRing(f"file:{path}")


def test_files_that_are_none(path, tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        KeyRing(f"file:{tmp_path}/none")
    with pytest.raises(ConfigError):
        KeyRing(f"file:{tmp_path}")
    for text in ("", "# only a comment\n", "sh1_bad\n"):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            KeyRing(f"file:{path}")
        assert "sh1_bad" not in str(caught.value)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError):
        KeyRing(f"file:{path}")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give away files")
def test_a_file_of_another_user_is_refused(path):
    os.chown(path, 12345, 12345)
    with pytest.raises(ConfigError, match="another user"):
        KeyRing(f"file:{path}")


def test_rotation_reaches_a_running_service_without_a_logout(open_client, path):
    """The key is prepared, then seals, then the old one goes; a client's token opens throughout."""
    one = open_client(keys=f"file:{path}", refresh=30)
    other = open_client(keys=f"file:{path}", refresh=30)
    token = one.say("x")
    keyfile.write(path, keyfile.rotated(keyfile.read(path), "2026-02-01", prepare=True))
    for client in (one, other):
        client.clock.advance(31)
        assert client.see(token).turns == 1  # has seen the new key; the old one still seals
    keyfile.write(path, keyfile.rotated(keyfile.read(path), "2026-02-02"))
    one.clock.advance(31)
    token = one.say("y", token=token)  # under the new key,
    assert other.see(token).turns == 2  # which a replica that lags behind knows already
    assert KeyRing([KEY]).find(keyfile.read(path)[0].key.id) is None
    keyfile.write(path, keyfile.read(path)[:1])
    one.clock.advance(31)
    assert one.see(token).turns == 2


def test_an_unknown_key_is_looked_for_no_more_often_than_said(open_client):
    asked = []

    def source():
        asked.append(1)
        return [KEY]

    client = open_client(keys=source, refresh=30)
    stranger = open_client(keys=[Key.new()]).say("x")
    for _ in range(100):
        with pytest.raises(Tampered):
            client.see(stranger)
    assert len(asked) == 2  # when it was opened, and when it was first used
    client.clock.advance(31)
    client.say("x")
    assert len(asked) == 3


def test_a_source_that_fails_later_leaves_the_keys(open_client, path, caplog):
    client = open_client(keys=f"file:{path}", refresh=30)
    token = client.say("x")
    path.chmod(0o644)
    client.clock.advance(31)
    assert client.see(token).turns == 1
    assert "could not be read again: ConfigError" in caplog.text
    assert KEY.text() not in caplog.text


def test_a_callable_that_fails_later_leaves_the_keys(open_client, caplog):
    fails = []

    def source():
        if fails:
            raise RuntimeError(KEY.text())
        return [KEY]

    client = open_client(keys=source, refresh=30)
    token = client.say("x")
    fails.append(1)
    client.clock.advance(31)
    with Jar(token) as jar:
        client.chats.apply("abc", Chat.turns.add(1))
    assert client.see(jar.token).turns == 2
    assert "could not be read again: RuntimeError" in caplog.text
    assert KEY.text() not in caplog.text


def test_a_callable_that_fails_first_is_a_wrong_setting():
    def source():
        raise RuntimeError(KEY.text())

    with pytest.raises(ConfigError, match="RuntimeError") as caught:
        Store.open("token:", keys=source)
    assert caught.value.field == "keys"
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert KEY.text() not in str(caught.value)


def test_a_key_that_another_replica_has_already_is_looked_for(open_client, path):
    """The file was rotated without preparing; one replica has read it, the other has not."""
    late = open_client(keys=f"file:{path}", refresh=3600)
    late.say("x")
    keyfile.write(path, keyfile.rotated(keyfile.read(path), "2026-02-01"))
    token = open_client(keys=f"file:{path}").say("y")
    late.clock.advance(2)
    assert session_of(late.chats, token) == "abc"
    assert late.see(token).turns == 1


def test_a_key_that_nobody_has_is_looked_for_once_a_second(open_client):
    asked = []

    def source():
        asked.append(1)
        return [KEY]

    client = open_client(keys=source, refresh=3600)
    stranger = open_client(keys=[Key.new()]).say("x")
    client.say("x")
    before = len(asked)
    for n in range(1, 4):
        client.clock.advance(1)
        for _ in range(10):
            with pytest.raises(Tampered):
                client.see(stranger)
        assert len(asked) == before + n


@pytest.mark.skipif(os.name != "posix", reason="symbolic links")
def test_a_link_goes_on_leading_to_the_file(path, tmp_path):
    (tmp_path / "there").mkdir()
    link = tmp_path / "there" / "link"
    link.symlink_to(path)
    keyfile.write(link, [Line(OLD[0])])
    assert link.is_symlink()
    assert keyfile.read(path)[0].key == keyfile.read(link)[0].key == OLD[0]


def test_rotation_keeps_all_old_keys():
    lines = [Line(KEY)]
    for n in range(20):
        lines = keyfile.rotated(lines, str(n))
    assert len(lines) == 21
    assert lines[-1] == Line(KEY)


def test_rotated():
    lines = [Line(KEY, "1")]
    for n in range(6):
        lines = keyfile.rotated(lines, str(n), keep=3)
    assert [line.made for line in lines] == ["5", "4", "3", "2"]
    prepared = keyfile.rotated(lines, "6", prepare=True)
    assert prepared[0] == lines[0]
    assert prepared[1].made == "next 6"
    with pytest.raises(Invalid):
        keyfile.rotated(prepared, "7", prepare=True)
    after = keyfile.rotated(prepared, "7", keep=3)
    assert after[0] == Line(prepared[1].key, "6")
    assert after[1] == lines[0]


def test_a_file_is_not_overwritten_unasked(path):
    with pytest.raises(Invalid, match="already"):
        keyfile.write(path, [Line(Key.new())], new=True)
    assert keyfile.read(path)[0].key == KEY
    assert [each.name for each in path.parent.iterdir()] == ["keys"]
