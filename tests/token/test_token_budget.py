"""A token stays short: logs are trimmed by whole turns, fields spilled, or the commit refused."""

import re

import msgspec
import numpy as np
import pytest

from statehold import (
    ConfigError,
    Counter,
    Log,
    Map,
    State,
    Store,
    TooLarge,
    Turns,
    Unavailable,
    Vector,
)
from statehold.changes import Put
from statehold.commits import Commit, Want
from statehold.drivers.memory import MemoryDriver
from statehold.engine import run_now
from statehold.testing import FaultyDriver
from statehold.tokens import Jar
from tests.token.chats import KEY, Cart, Chat, Message


def words(n):
    """Text that hardly compresses, the same each time."""
    return np.random.default_rng(n).bytes(40).hex()


def fill(client):
    for n in range(100):
        client.say(words(n))


@pytest.mark.parametrize("form", ["sealed", "signed"])
def test_refused_with_the_sizes_by_field(open_client, form):
    client = open_client(form=form, budget=1000)
    with pytest.raises(TooLarge) as caught:
        fill(client)
    assert re.search(r"would have \d{4} characters \(history \d+ B, turns 8 B\)", str(caught.value))
    assert caught.value.field == "history"
    assert words(1) not in str(caught.value)
    assert len(client.token) <= 1000
    assert client.see().turns >= 2  # what was there before stays


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"trim": "nope"}, "trim: chat has no field 'nope'; .* kind.field"),
        ({"trim": "history,chat.nope"}, "trim: chat has no field 'nope'$"),
        ({"trim": ".history"}, "trim: chat has no field"),
        ({"trim": "chat.turns"}, "trim: chat.turns is no log"),
        ({"trim": "taste"}, "trim: chat.taste is no log"),
        ({"spill_fields": "nope", "spill": "memory://"}, "spill_fields: chat has no field 'nope'"),
        ({"spill_fields": ["chat.nope"], "spill": "memory://"}, "spill_fields: .* 'nope'$"),
    ],
)
def test_misspelt_names_are_refused_when_the_kind_opens(open_client, wrong, says):
    client = open_client(**wrong)
    with pytest.raises(ConfigError, match=says) as caught:
        client.say("x")
    assert caught.value.field == next(iter(wrong))


def test_names_of_other_kinds_are_their_own_matter(open_client):
    client = open_client(trim="cart.items,chat.history", spill="memory://", spill_fields="x.y")
    client.say("x")
    with Jar() as jar:
        client.store.collection(Cart).apply("x", Cart.items.append("bag"))
    assert jar.token


def test_the_default_leaves_room_for_a_cookies_name(open_client):
    client = open_client()
    with pytest.raises(TooLarge):
        fill(client)
    assert 3200 < len(client.token) <= 3500


@pytest.mark.parametrize("form", ["sealed", "signed"])
@pytest.mark.parametrize("name", ["history", "chat.history", "cart.items,history"])
def test_the_oldest_turns_of_a_log_go_first(open_client, form, name):
    client = open_client(form=form, budget=1200, trim=name)
    for n in range(40):
        client.say(words(n))
        assert len(client.token) <= 1200
    chat = client.see()
    assert chat.turns == 40
    assert chat.history[0].role == "user"  # no answer without its question
    assert chat.history[-1].content == f"about {words(39)}"
    assert len(chat.history) % 2 == 0
    assert len(chat.history) >= 4
    assert client.store.driver.stats()["trimmed_items_total"] == 80 - len(chat.history)


def test_as_few_turns_as_it_takes(open_client):
    client = open_client(budget=1200, trim="history")
    while not client.store.driver.stats()["trimmed_items_total"]:
        client.say(words(len(client.see().history)))
    assert client.store.driver.stats()["trimmed_items_total"] == 2


def test_tool_results_stay_with_their_calls(open_client):
    """A turn of several messages is never cut in two."""
    client = open_client(budget=1100, trim="history")
    roles = ["user", "assistant", "tool", "tool", "assistant"]
    for n in range(30):
        with Jar(client.token) as jar, client.chats.session("abc") as chat:
            chat.history.append(*(Message(role, words(n * 9 + i)) for i, role in enumerate(roles)))
        client.token = jar.token
        assert [each.role for each in client.see().history][:2] == ["user", "assistant"]
        assert len(client.see().history) % 5 == 0


def test_turns_and_logs_without_roles(open_client):
    class Talk(State, ttl=60):
        talk = Turns(Message, keep=100)
        clicks = Log(str, keep=100)

    client = open_client(budget=1000, trim="talk,clicks")
    talks = client.store.collection(Talk)
    token = None
    for n in range(30):
        with Jar(token) as jar, talks.session("x") as talk:
            talk.talk.append(Message("user", words(n)), Message("assistant", words(n + 99)))
            talk.clicks.append(words(n + 500))
        token = jar.token
        assert len(token) <= 1000
    with Jar(token):
        assert talks.get("x").talk.turns[-1][0].content == words(29)
        assert talks.get("x").clicks[-1] == words(529)


def test_what_trimming_cannot_help_is_refused_untouched(open_client):
    client = open_client(budget=1000, trim="history")
    client.say("one")
    before = client.say("two")
    with pytest.raises(TooLarge), Jar(before) as jar, client.chats.session("abc") as chat:
        chat.filters["x"] = "".join(words(n) for n in range(20))
    assert client.see(before).turns == 2
    assert jar.token == before


# --------------------------------------------------------------------------------------- spilling


@pytest.fixture
def spill():
    """A store on the server, in the hands of the test too."""
    return MemoryDriver()


def kept(spill):
    return spill.stats()["states"]


@pytest.mark.parametrize("form", ["sealed", "signed"])
def test_large_fields_move_to_the_store_and_the_token_has_a_handle(open_client, spill, form):
    client = open_client(form=form, budget=900, spill=spill)
    taste = np.linspace(-1, 1, 384, dtype=np.float32)
    client.say("hello")
    assert not kept(spill)
    with Jar(client.token) as jar, client.chats.session("abc") as chat:
        chat.taste = taste
    assert len(jar.token) <= 900
    assert kept(spill) == 1
    client.token = jar.token
    assert (client.see().taste == taste).all()
    assert client.see().history[0].content == "hello"
    client.say("again")
    assert (client.see().taste == taste).all()
    assert kept(spill) == 1  # an unchanged field is not written again
    assert client.store.driver.stats()["spilled_fields_total"] == 1


def test_named_fields_spill_first(open_client, spill):
    client = open_client(budget=900, spill=spill, spill_fields=["chat.history"])
    for n in range(30):
        client.say(words(n))
        assert len(client.token) <= 900
    assert len(client.see().history) == 60
    with pytest.raises(TooLarge), Jar(client.token):
        client.chats.apply("abc", Chat.taste.put(np.random.default_rng(0).normal(size=384)))


def test_an_older_token_still_has_what_it_points_to(open_client, spill):
    """What is kept is never changed: a response that was lost, or a parallel tab, breaks nothing."""
    client = open_client(budget=500, spill=spill)
    older = [client.say(words(n)) for n in range(12)]
    for turns, token in enumerate(older, 1):
        assert len(client.see(token).history) == 2 * turns


def test_a_field_that_is_small_again_comes_back(open_client, spill):
    client = open_client(budget=500, spill=spill)
    for n in range(8):
        client.say(words(n))
    with Jar(client.token) as jar, client.chats.session("abc") as chat:
        chat.history.clear()
    with Jar(jar.token):
        spill.read = None
        assert client.chats.get("abc").history == []


def test_only_what_is_wanted_is_fetched(open_client, spill):
    client = open_client(budget=500, spill=FaultyDriver(spill))
    for n in range(8):
        client.say(words(n))
    faulty = client.store.driver._within[0]
    with Jar(client.token), faulty.outage():
        assert client.chats.get("abc", fields=[Chat.turns]).turns == 8
        with pytest.raises(Unavailable):
            client.chats.get("abc")


def test_spilled_fields_go_with_their_state(open_client, spill):
    client = open_client(budget=500, spill=spill)
    for n in range(8):
        client.say(words(n))
    before = kept(spill)
    with Jar(client.token) as jar:
        assert client.chats.delete("abc")
    assert jar.token is None
    assert kept(spill) == before - 1
    client.clock.advance(3600 + 200)
    for _ in range(9):  # calls sweep what has expired
        run_now(spill.read([("", "", "")], Want(), client.clock.now()))
    assert kept(spill) == 0


def test_a_spilled_field_lives_as_long_as_its_token(open_client, spill):
    client = open_client(budget=500, spill=spill)
    for n in range(8):
        client.say(words(n))
    history = client.see().history
    for _ in range(10):
        client.clock.advance(3000)
        with Jar(client.token) as jar:
            client.chats.apply("abc", Chat.turns.add(1))
        client.token = jar.token
    assert list(client.see().history) == list(history)


def test_a_field_that_was_lost_is_reported_and_the_rest_served(open_client, spill):
    client = open_client(budget=500, spill=spill)
    for n in range(8):
        client.say(words(n))
    spill._states.slots.clear()
    chat = client.see()
    assert chat.turns == 8
    assert chat.meta.degraded
    assert chat.meta.missing == ("history",)
    with Jar(client.token) as jar, client.chats.session("abc") as chat:
        chat.history.append(Message("user", "anew"))
    assert [each.content for each in client.see(jar.token).history] == ["anew"]


def test_what_was_altered_in_the_store_is_not_served(open_client, spill):
    client = open_client(budget=500, spill=spill)
    for n in range(8):
        client.say(words(n))
    for key in list(spill._states.slots):
        forged = Commit(key, (Put("cell", "", msgspec.msgpack.encode([b"{}"])),), None)
        run_now(spill.commit([forged], client.clock.now()))
    assert client.see().meta.missing == ("history",)


def test_a_place_may_be_a_url_or_a_store(tmp_path):
    class Big(State, ttl=60):
        notes = Map(str, str, keep=10)
        vector = Vector(384)
        n = Counter()

    shared = Store.open("memory://")
    for backend in (f"sqlite:///{tmp_path}/spill.db", shared):
        with Store.open("token:", keys=[KEY], budget=600, spill=backend) as store:
            with Jar() as jar:
                store.collection(Big).apply("x", Big.vector.put(np.ones(384)), Big.n.add(1))
            with Jar(jar.token):
                assert store.collection(Big).get("x").vector[383] == 1
    shared.check()  # a store that was lent is still open
    shared.close()
