"""With marks an old token is Stale, a parallel update a Conflict, and a session can be revoked."""

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
from statehold.drivers.token.marks import Marks
from statehold.testing import FaultyDriver
from statehold.tokens import Jar, revoke
from tests.token.chats import KEY, Chat, Message


@pytest.fixture(params=["memory", "sqlite"])
def marked(open_client, request, tmp_path):
    """A client whose server keeps marks."""
    backend = "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/marks.db"
    return open_client(marks=backend)


def test_an_old_token_is_stale(marked):
    old = [marked.say(str(n)) for n in range(5)]
    for token in old[:-1]:
        with pytest.raises(Stale):
            marked.see(token)
        with pytest.raises(Stale):
            marked.say("rolled back", token=token)
    assert marked.see(old[-1]).turns == 5


def test_reading_does_not_use_a_token_up(marked):
    token = marked.say("x")
    for _ in range(3):
        assert marked.see(token).turns == 1


def test_a_parallel_tabs_update_is_a_conflict_and_not_lost(marked):
    """Both tabs have opened the same token; one of them wins, the other is told."""
    start = marked.say("start")
    one, other = Jar(start), Jar(start)
    with one:
        first = marked.chats.session("abc")
        chat = first.__enter__()
        chat.history.append(Message("user", "from one tab"))
    with other, marked.chats.session("abc") as chat:
        chat.history.append(Message("user", "from the other"))
    with one, pytest.raises(Conflict):
        first.__exit__(None, None, None)
    with one, pytest.raises(Stale):
        marked.chats.get("abc")
    assert marked.see(other.token).history[-1].content == "from the other"


def test_two_tabs_that_both_begin(marked):
    one, other = Jar(), Jar()
    with one:
        marked.chats.get("abc")
    with other:
        marked.chats.apply("abc", Chat.turns.add(1))
    with one, pytest.raises(Conflict):
        marked.chats.apply("abc", Chat.turns.add(1))


def test_transact_does_not_go_on_trying_with_an_old_token(marked):
    token = marked.say("x")
    with Jar(token):
        marked.chats.get("abc")
        marked.say("elsewhere", token=token)
        calls = []

        def add(chat):
            calls.append(chat.turns)
            chat.turns += 1

        with pytest.raises(Stale):
            marked.chats.transact("abc", add)
    assert calls == [1]


def test_without_marks_the_window_is_the_expiry(open_client):
    """The documented limit: an old token opens until its own time is over."""
    client = open_client()
    old = client.say("a")
    client.say("b")
    assert client.see(old).turns == 1
    client.clock.advance(3600)
    assert not client.see(old).meta.exists


def test_a_client_that_lost_its_token_begins_anew(marked):
    old = marked.say("x")
    marked.token = None
    fresh = marked.say("y")
    assert marked.see(fresh).turns == 1
    with pytest.raises(Stale):
        marked.see(old)


def test_a_deleted_state_does_not_come_back(marked):
    token = marked.say("x")
    with Jar(token) as jar:
        assert marked.chats.delete("abc")
        assert not marked.chats.get("abc").meta.exists
    assert jar.token is None
    with pytest.raises(Revoked):
        marked.see(token)


def test_tokens_from_before_there_were_marks_are_taken_over(open_client):
    before = open_client()
    marked = open_client(marks="memory://")
    token = marked.say("y", token=before.say("x"))
    assert marked.see(token).turns == 2
    with pytest.raises(Stale):
        marked.see(before.token)


def test_a_mark_that_is_gone_vouches_for_nothing(open_client):
    """A store that forgot does not switch the guard off."""
    token = open_client(marks="memory://").say("x")
    with pytest.raises(Stale, match="gone"):
        open_client(marks="memory://").see(token)


def test_marks_outlive_their_tokens_and_then_go(open_client):
    backend = MemoryDriver()
    client = open_client(marks=backend)
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


def test_marks_that_cannot_answer_are_no_reason_to_trust(open_client):
    faulty = FaultyDriver(MemoryDriver())
    client = open_client(marks=faulty)
    token = client.say("x")
    with faulty.outage():
        with pytest.raises(Unavailable):
            client.see(token)
        with pytest.raises(Unavailable):
            client.say("y", token=token)
    assert client.see(token).turns == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_retry_within_the_request_after_a_lost_answer(open_client, monkeypatch, applied):
    """The mark was moved, or not, and nobody knows: the same op id comes out right."""
    client = open_client(marks=MemoryDriver())
    token = client.say("x")
    move = Marks.move

    async def lost(self, *args):
        if applied:
            await move(self, *args)
        raise Timeout("no answer")

    with Jar(token) as jar:
        client.chats.get("abc")
        with monkeypatch.context() as patched:
            patched.setattr(Marks, "move", lost)
            with pytest.raises(Timeout):
                client.chats.apply("abc", Chat.turns.add(1), op="pay")
        client.chats.apply("abc", Chat.turns.add(1), op="pay")
    assert client.see(jar.token).turns == 2


# -------------------------------------------------------------------------------------- revocation


def test_revoking_a_session(marked):
    token = marked.say("x")
    revoke(marked.chats, "abc")
    for _ in range(2):
        with pytest.raises(Revoked):
            marked.see(token)
    marked.token = None
    assert marked.see(marked.say("anew")).turns == 1
    with pytest.raises(Stale):
        marked.see(token)


def test_revoking_everything_before_a_time(marked):
    marked.token = None
    early = marked.say("x", id="early")
    marked.clock.advance(60)
    moment = marked.clock.now()
    marked.clock.advance(60)
    marked.token = None
    late = marked.say("x", id="late")
    revoke(marked.chats, before=datetime.fromtimestamp(moment, UTC))
    with pytest.raises(Revoked):
        marked.see(early, id="early")
    assert marked.see(late, id="late").turns == 1
    revoke(marked.chats, before=moment - 100)  # does not take the later one back
    with pytest.raises(Revoked):
        marked.see(early, id="early")
    revoke(marked.chats, before=marked.clock.now())
    with pytest.raises(Revoked):
        marked.see(late, id="late")
    marked.clock.advance(1)
    marked.token = None
    assert marked.see(marked.say("x", id="late"), id="late").turns == 1


def test_a_revocation_lasts_as_long_as_the_tokens_that_it_is_about(marked):
    token = marked.say("x")
    revoke(marked.chats, "abc")
    marked.clock.advance(3599)
    with pytest.raises(Revoked):
        marked.see(token)


def test_revocation_stays_within_its_tenant(marked):
    there = marked.store.collection(Chat, tenant="there")
    with Jar() as jar:
        there.apply("abc", Chat.turns.add(1))
    revoke(marked.chats, "abc")
    revoke(marked.chats, before=marked.clock.now() + 50)
    with Jar(jar.token):
        assert there.get("abc").turns == 1


def test_revocation_needs_marks_and_a_clear_question(open_client, marked):
    with pytest.raises(Unsupported, match="marks"):
        revoke(open_client().chats, "abc")
    for wrong in ({}, {"id": "a", "before": 5.0}, {"before": datetime(2026, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(Invalid):
            revoke(marked.chats, **wrong)


def test_marks_need_conditions():
    driver = MemoryDriver()
    driver.features = frozenset()
    with pytest.raises(ConfigError, match="expect"):
        Marks(driver)


# ------------------------------------------------------------------------------- with an event loop


def test_tasks_of_one_request_share_a_jar_and_lose_nothing(tmp_path):
    """Marks in a store that suspends: commits of one jar take turns."""

    async def main():
        marks = AsyncStore.open(f"sqlite:///{tmp_path}/marks.db", synchronous="FULL")
        async with marks, AsyncStore.open("token:", keys=[KEY], marks=marks) as store:
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


def test_what_stands_is_said(marked):
    token = marked.say("x")
    with Jar(token):
        marked.chats.get("abc")
        newer = marked.say("y", token=token)
        with pytest.raises(Conflict) as caught:
            marked.chats.apply("abc", Chat.turns.add(1))
    with Jar(newer):
        assert caught.value.found == marked.chats.get("abc").meta.revision != ABSENT
    assert isinstance(caught.value.found, Revision)
