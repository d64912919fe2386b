"""A jar gives back what it was given, unless that was replaced, deleted or past its time."""

import pytest

from statehold import Invalid, Tampered
from statehold.tokens import Jar, Key
from tests.token.chats import Cart, Chat


@pytest.fixture
def two(client):
    """The tokens of a chat and a cart."""
    with Jar() as jar:
        client.chats.apply("abc", Chat.turns.add(1))
        client.store.collection(Cart).apply("abc", Cart.items.append("bag"))
    chat, cart = jar.tokens["", "chat", "abc"], jar.tokens["", "cart", "abc"]
    return chat, cart


def test_an_untouched_jar_keeps_its_token(client):
    token = client.say("x")
    with Jar(token) as jar:
        pass
    assert jar.token == token
    assert jar.tokens == Jar(jar.tokens).tokens == {"": token}
    assert not jar.changed
    assert client.see(Jar(jar.tokens).token).turns == 1
    with Jar(jar.tokens):
        assert client.chats.get("abc").turns == 1
    assert Jar().token is None
    assert Jar("").token is None


def test_of_two_the_untouched_one_stays(client, two):
    chat, cart = two
    with Jar({Chat: chat, Cart: cart}) as jar:
        client.chats.apply("abc", Chat.turns.add(1))
    assert jar.tokens["cart"] == cart
    assert set(jar.tokens) == {"cart", ("", "chat", "abc")}
    assert jar.tokens["", "chat", "abc"] != chat
    with Jar(jar.tokens):
        assert client.chats.get("abc").turns == 2
        assert len(client.store.collection(Cart).get("abc").items) == 1


@pytest.mark.parametrize(
    "name", ["Chat", "a chat", 5, Chat.turns, ("chat", "abc"), ("", "chat", 1)]
)
def test_a_token_for_what_no_state_is_asked_for_by_is_refused(two, name):
    """It would never be found, and the state be taken for a new one."""
    with pytest.raises(Invalid, match=r"for a State class, a kind .* or a key"):
        Jar({name: two[0]})


def test_a_token_of_a_kind_that_is_not_known_here_stays(client, two):
    """A newer release may have it: while that is rolled out both serve one client."""
    with Jar({Chat: two[0], "wishes": two[1]}) as jar:
        client.chats.apply("abc", Chat.turns.add(1))
    assert jar.tokens["wishes"] == two[1]


def test_several_states_of_one_class(client):
    """They come back by their keys, as `tokens` gives them."""
    with Jar() as jar:
        for id in ("a", "b"):
            client.chats.apply(id, Chat.turns.add(1))
    with Jar(jar.tokens):
        assert [client.chats.get(id).turns for id in ("a", "b", "c")] == [1, 1, 0]


def test_one_that_was_only_read_stays(client):
    token = client.say("x")
    with Jar(token) as jar:
        client.chats.get("abc")
    assert jar.token == token


def test_a_refused_token_stays(open_client, client):
    token = client.say("x")
    for server in (client, open_client(keys=[Key.new()])):
        with Jar(token) as jar, pytest.raises(Tampered):
            server.chats.get("another")
        assert jar.token == token
        assert not jar.changed


def test_a_deleted_state_leaves_no_token(client, two):
    chat, cart = two
    with Jar({Chat: chat, Cart: cart}) as jar:
        client.chats.delete("abc")
    assert jar.token == cart
    with Jar(chat) as jar:
        client.chats.delete("abc")
    assert jar.token is None
    assert jar.tokens == {}


def test_an_expired_state_leaves_no_token_once_it_is_noticed(client):
    token = client.say("x")
    client.clock.advance(3600)
    with Jar(token) as jar:
        assert jar.token == token
        client.chats.get("abc")
    assert jar.token is None


@pytest.mark.parametrize(
    "given", [5, 0, b"abc", b"", ["x"], {Chat: 5}, {Chat: b"x"}, {5: "x"}, {int: "x"}]
)
def test_what_is_no_token(given):
    with pytest.raises(Invalid) as caught:
        Jar(given)
    assert caught.value.field == "token"
