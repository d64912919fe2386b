"""A token store as a backend: its URL, its settings, threads, real conversations."""

import gzip
import hmac
import json
import subprocess
import sys
import threading

import pytest

from statehold import AsyncStore, Closed, ConfigError, Invalid, Log, State, Store, Unsupported
from statehold.drivers.token import TokenDriver
from statehold.tokens import Jar, session_of
from tests.token.chats import KEY, Chat, Client, Message


def test_by_url_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SHOP_KEYS", KEY.text())
    url = f"token:?keys=env:SHOP_KEYS&budget=1KB&form=signed&registry=sqlite:///{tmp_path}/m.db"
    with Store.open(url) as store, Jar() as jar:
        store.collection(Chat).apply("x", Chat.turns.add(1))
        store.check()
    assert "." in jar.token
    assert (tmp_path / "m.db").exists()
    with Store.open("token://", keys=[KEY]) as store:
        assert isinstance(store.driver, TokenDriver)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"form": "open"}, "form"),
        ({"budget": 0}, "budget"),
        ({"budget": 2 << 20}, "budget"),
        ({"trim": [5]}, "trim"),
        ({"spill": 5}, "spill"),
        ({"registry": "nowhere://"}, "nowhere"),
        ({"spill_fields": "history"}, "spill_fields"),
        ({"size": 5}, "size"),
    ],
)
def test_wrong_settings_are_named(wrong, says):
    with pytest.raises(ConfigError, match=says):
        Store.open("token:", keys=[KEY], **wrong)


@pytest.mark.parametrize("url", ["token:here", "token://host", "memory:", "token"])
def test_wrong_urls(url):
    with pytest.raises(ConfigError):
        Store.open(url, keys=[KEY])


def test_without_cryptography_it_says_what_to_install():
    code = """
import sys
sys.modules["cryptography"] = None
from statehold import ConfigError, Store
try:
    Store.open("token:", keys="env:X")
except ConfigError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "statehold[token]" in done.stdout


def test_only_inside_a_jar_and_while_open(client):
    with pytest.raises(Invalid, match="no jar is open"):
        client.chats.get("abc")
    client.say("x")
    client.store.close()
    with Jar(client.token), pytest.raises(Closed):
        client.chats.get("abc")


def test_what_nobody_has_cannot_be_listed(client):
    with Jar():
        for call in (lambda: list(client.chats.scan()), lambda: list(client.chats.find("ada"))):
            with pytest.raises(Unsupported):
                call()


def test_jars_within_jars_and_several_states(client):
    class Cart(State, ttl=60):
        items = Log(str, keep=9)

    carts = client.store.collection(Cart)
    with Jar() as jar:
        client.chats.apply("x", Chat.turns.add(1))
        with Jar() as inner:
            assert not client.chats.get("x").meta.exists
        carts.apply("x", Cart.items.append("bag"))
        with pytest.raises(Invalid, match="2 tokens"):
            _ = jar.token
    assert inner.token is None
    chat, cart = jar.tokens["", "chat", "x"], jar.tokens["", "cart", "x"]
    with Jar({Chat: chat, "cart": cart}):
        assert client.chats.get("x").turns == 1
        assert list(carts.get("x").items) == ["bag"]
    with Jar(jar.tokens):
        assert carts.get("x").meta.exists
    with Jar({Chat: chat, Cart: None}):
        assert not carts.get("x").meta.exists


def test_a_jar_says_until_when(client):
    client.say("x")
    with Jar(client.token) as jar:
        client.chats.get("abc")
        assert jar.expires == client.clock.now() + 3600
        assert not jar.changed


def test_reading_may_renew(client):
    class Seen(State, ttl=60, renew_on_read=True):
        pages = Log(str, keep=9)

    seen = client.store.collection(Seen)
    with Jar() as jar:
        seen.apply("x", Seen.pages.append("a"))
    token = jar.token
    for _ in range(5):
        client.clock.advance(50)
        with Jar(token) as jar:
            assert seen.get("x").meta.exists
        assert jar.changed
        token = jar.token


def test_clients_in_threads_do_not_meet(client):
    """Each thread has the jar that it opened, and no other."""
    tokens = {}

    def visit(name):
        token = None
        for _ in range(50):
            with Jar(token) as jar, client.chats.session(name) as chat:
                chat.turns += 1
            token = jar.token
        tokens[name] = token

    threads = [threading.Thread(target=visit, args=(f"client {n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, token in tokens.items():
        assert session_of(client.chats, token) == name
        assert client.see(token, id=name).turns == 50


def test_signatures_and_sessions_are_compared_in_constant_time(open_client, monkeypatch):
    client = open_client(form="signed")
    token = client.say("x")
    compared = []

    def compare(one, other):
        compared.append((len(one), len(other)))
        return one == other

    monkeypatch.setattr(hmac, "compare_digest", compare)
    client.see(token)
    assert compared == [(32, 32), (3, 3)]


def test_real_conversations_stay_within_a_cookie(data_dir):
    """Every turn of real dialogues, visit by visit: never too long, never half a turn."""
    (path, *_) = sorted(data_dir.glob("sgd_dev_*.json.gz"))
    dialogues = json.loads(gzip.decompress(path.read_bytes()))
    longest = sorted(dialogues, key=lambda each: -len(each["turns"]))[:8]
    client = Client(trim="history")
    for dialogue in longest:
        client.token = None
        said = [turn["utterance"] for turn in dialogue["turns"]] * 4
        for question, answer in zip(said[::2], said[1::2], strict=True):
            with Jar(client.token) as jar, client.chats.session(dialogue["dialogue_id"]) as chat:
                chat.history.append(Message("user", question), Message("assistant", answer))
            client.token = jar.token
            assert len(client.token) <= 3500
        chat = client.see(id=dialogue["dialogue_id"])
        kept = [each.content for each in chat.history]
        assert len(kept) >= 40
        assert kept == said[-len(kept) :]
        assert chat.history[0].role == "user"
    client.store.close()


def test_the_async_face_does_not_suspend(client):
    store = AsyncStore.open("token:", keys=[KEY])
    assert store.driver.gather == "no"
    assert not store.driver.suspends
