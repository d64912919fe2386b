"""With a registry an old token is Stale, a parallel update a Conflict, and a session can be revoked."""

import asyncio
from datetime import UTC, datetime

import pytest

from statehold import (
    ABSENT,
    AsyncStore,
    ConfigError,
    Conflict,
    Invalid,
    Revision,
    Revoked,
    Stale,
    Timeout,
    Unavailable,
    Unsupported,
)
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.token.registry import Registry
from statehold.testing import FaultyDriver
from statehold.tokens import Jar, revoke
from tests.token.chats import KEY, Chat, Message


@pytest.fixture(params=["memory", "sqlite"])
def registered(open_client, request, tmp_path):
    """A client whose server keeps a registry."""
    backend = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/registry.db"
    return open_client(registry=backend)


def test_an_old_token_is_stale(registered):
    old = [registered.say(str(n)) for n in range(5)]
    for token in old[:-1]:
        with pytest.raises(Stale):
            registered.see(token)
        with pytest.raises(Stale):
            registered.say("rolled back", token=token)
    assert registered.see(old[-1]).turns == 5


def test_reading_does_not_use_a_token_up(registered):
    token = registered.say("x")
    for _ in range(3):
        assert registered.see(token).turns == 1


def test_a_parallel_tabs_update_is_a_conflict_and_not_lost(registered):
    """Both tabs have opened the same token; one of them wins, the other is told."""
    start = registered.say("start")
    one, other = Jar(start), Jar(start)
    with one:
        first = registered.chats.session("abc")
        chat = first.__enter__()
        chat.history.append(Message("user", "from one tab"))
    with other, registered.chats.session("abc") as chat:
        chat.history.append(Message("user", "from the other"))
    with one, pytest.raises(Conflict):
        first.__exit__(None, None, None)
    with one, pytest.raises(Stale):
        registered.chats.get("abc")
    assert registered.see(other.token).history[-1].content == "from the other"


def test_two_tabs_that_both_begin(registered):
    one, other = Jar(), Jar()
    with one:
        registered.chats.get("abc")
    with other:
        registered.chats.apply("abc", Chat.turns.add(1))
    with one, pytest.raises(Conflict):
        registered.chats.apply("abc", Chat.turns.add(1))


def test_transact_does_not_go_on_trying_with_an_old_token(registered):
    token = registered.say("x")
    with Jar(token):
        registered.chats.get("abc")
        registered.say("elsewhere", token=token)
        calls = []

        def add(chat):
            calls.append(chat.turns)
            chat.turns += 1

        with pytest.raises(Stale):
            registered.chats.transact("abc", add)
    assert calls == [1]


def test_without_a_registry_the_window_is_the_expiry(open_client):
    """The documented limit: an old token opens until its own time is over."""
    client = open_client()
    old = client.say("a")
    client.say("b")
    assert client.see(old).turns == 1
    client.clock.advance(3600)
    assert not client.see(old).meta.exists


def test_a_client_that_lost_its_token_begins_anew(registered):
    old = registered.say("x")
    registered.token = None
    fresh = registered.say("y")
    assert registered.see(fresh).turns == 1
    with pytest.raises(Stale):
        registered.see(old)


def test_a_deleted_state_does_not_come_back(registered):
    token = registered.say("x")
    with Jar(token) as jar:
        assert registered.chats.delete("abc")
        assert not registered.chats.get("abc").meta.exists
    assert jar.token is None
    with pytest.raises(Revoked):
        registered.see(token)


def test_tokens_from_before_there_was_a_registry_are_taken_over(open_client):
    before = open_client()
    registered = open_client(registry="memory://")
    token = registered.say("y", token=before.say("x"))
    assert registered.see(token).turns == 2
    with pytest.raises(Stale):
        registered.see(before.token)


def test_an_entry_that_is_gone_vouches_for_nothing(open_client):
    """A store that forgot does not switch the guard off."""
    token = open_client(registry="memory://").say("x")
    with pytest.raises(Stale, match="gone"):
        open_client(registry="memory://").see(token)


def test_entries_outlive_their_tokens_and_then_go(open_client):
    backend = MemoryDriver()
    client = open_client(registry=backend)
    for n in range(20):
        client.token = None
        client.say("x", id=f"id {n}")
    assert backend.stats()["states"] == 20
    client.clock.advance(3599)
    assert client.see(id="id 19").meta.exists
    client.clock.advance(300)
    for n in range(20):
        client.token = None
        client.say("x", id=f"new {n}")
    assert backend.stats()["states"] == 20


def test_a_registry_that_cannot_answer_is_no_reason_to_trust(open_client):
    faulty = FaultyDriver(MemoryDriver())
    client = open_client(registry=faulty)
    token = client.say("x")
    with faulty.outage():
        with pytest.raises(Unavailable):
            client.see(token)
        with pytest.raises(Unavailable):
            client.say("y", token=token)
    assert client.see(token).turns == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_retry_within_the_request_after_a_lost_answer(open_client, monkeypatch, applied):
    """The entry was moved, or not, and nobody knows: the same op id comes out right."""
    client = open_client(registry=MemoryDriver())
    token = client.say("x")
    move = Registry.move

    async def lost(self, *args):
        if applied:
            await move(self, *args)
        raise Timeout("no answer")

    with Jar(token) as jar:
        client.chats.get("abc")
        with monkeypatch.context() as patched:
            patched.setattr(Registry, "move", lost)
            with pytest.raises(Timeout):
                client.chats.apply("abc", Chat.turns.add(1), op="pay")
        client.chats.apply("abc", Chat.turns.add(1), op="pay")
    assert client.see(jar.token).turns == 2


# -------------------------------------------------------------------------------------- revocation


def test_revoking_a_session(registered):
    token = registered.say("x")
    revoke(registered.chats, "abc")
    for _ in range(2):
        with pytest.raises(Revoked):
            registered.see(token)
    registered.token = None
    assert registered.see(registered.say("anew")).turns == 1
    with pytest.raises(Stale):
        registered.see(token)


def test_revoking_everything_before_a_time(registered):
    registered.token = None
    early = registered.say("x", id="early")
    registered.clock.advance(60)
    moment = registered.clock.now()
    registered.clock.advance(60)
    registered.token = None
    late = registered.say("x", id="late")
    revoke(registered.chats, before=datetime.fromtimestamp(moment, UTC))
    with pytest.raises(Revoked):
        registered.see(early, id="early")
    assert registered.see(late, id="late").turns == 1
    revoke(registered.chats, before=moment - 100)  # does not take the later one back
    with pytest.raises(Revoked):
        registered.see(early, id="early")
    revoke(registered.chats, before=registered.clock.now())
    with pytest.raises(Revoked):
        registered.see(late, id="late")
    registered.clock.advance(1)
    registered.token = None
    assert registered.see(registered.say("x", id="late"), id="late").turns == 1


def test_a_revocation_lasts_as_long_as_the_tokens_that_it_is_about(registered):
    token = registered.say("x")
    revoke(registered.chats, "abc")
    registered.clock.advance(3599)
    with pytest.raises(Revoked):
        registered.see(token)


def test_revocation_stays_within_its_tenant(registered):
    there = registered.store.collection(Chat, tenant="there")
    with Jar() as jar:
        there.apply("abc", Chat.turns.add(1))
    revoke(registered.chats, "abc")
    revoke(registered.chats, before=registered.clock.now() + 50)
    with Jar(jar.token):
        assert there.get("abc").turns == 1


def test_revocation_needs_a_registry_and_a_clear_question(open_client, registered):
    with pytest.raises(Unsupported, match="registry"):
        revoke(open_client().chats, "abc")
    for wrong in ({}, {"id": "a", "before": 5.0}, {"before": datetime(2026, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(Invalid):
            revoke(registered.chats, **wrong)


def test_a_registry_needs_conditions():
    driver = MemoryDriver()
    driver.features = frozenset()
    with pytest.raises(ConfigError, match="expect"):
        Registry(driver)


# ------------------------------------------------------------------------------- with an event loop


def test_tasks_of_one_request_share_a_jar_and_lose_nothing(tmp_path):
    """A registry in a store that suspends: commits of one jar take turns."""

    async def main():
        registry = AsyncStore.open(f"sqlite:///{tmp_path}/registry.db", synchronous="FULL")
        async with registry, AsyncStore.open("token:", keys=[KEY], registry=registry) as store:
            assert store.driver.suspends
            chats = store.collection(Chat)
            with Jar() as jar:
                await asyncio.gather(*(chats.apply("abc", Chat.turns.add(1)) for _ in range(30)))
                assert (await chats.get("abc")).turns == 30
            with Jar(jar.token):
                await revoke(chats, "abc")
            with Jar(jar.token), pytest.raises(Revoked):
                await chats.get("abc")

    asyncio.run(main())


def test_what_stands_is_said(registered):
    token = registered.say("x")
    with Jar(token):
        registered.chats.get("abc")
        newer = registered.say("y", token=token)
        with pytest.raises(Conflict) as caught:
            registered.chats.apply("abc", Chat.turns.add(1))
    with Jar(newer):
        assert caught.value.found == registered.chats.get("abc").meta.revision != ABSENT
    assert isinstance(caught.value.found, Revision)
