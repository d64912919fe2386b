"""What is sent again and was never seen is applied, whichever other states have ended meanwhile."""

import time
from contextlib import suppress
from datetime import timedelta

import pytest

from statehold import Counter, InDoubt, Revision, State, Store

SERVERS = {
    "redis": lambda server: server.url,
    "postgres": lambda server: server.new_database(),
    "mariadb": lambda server: server.new_database(),
}


class Chat(State, ttl=timedelta(hours=1)):
    turns = Counter()


@pytest.fixture(params=["memory://", "sqlite:///", "sqlite+sql:///", *SERVERS])
def url(request, tmp_path):
    if request.param in SERVERS:
        server = request.getfixturevalue(f"statehold_{request.param}")
        return SERVERS[request.param](server)
    return request.param if "memory" in request.param else f"{request.param}{tmp_path}/state.db"


def test_only_its_own_lives_leave_a_state_in_doubt(url):
    with Store.open(url) as store:
        chats = store.collection(Chat, tenant=f"t{time.time_ns()}")
        sent = time.time()
        for id in ("expires", "goes", "stays"):
            ttl = 0.2 if id == "expires" else None
            chats.apply(id, Chat.turns.add(1), op="op 1", ttl=ttl)
        time.sleep(0.3)
        for n in range(200):  # so that what has ended is swept, where that is done so soon
            chats.apply(f"busy {n % 5}", Chat.turns.add(1))
        chats.delete("goes", op="op 2")
        chats.delete("never was", op="op 2")
        for id in ("new", "never was", "stays"):
            assert type(chats.apply(id, Chat.turns.add(1), op="op 3", since=sent)) is Revision
        for id in ("expires", "goes"):
            with suppress(InDoubt):  # or it is known still, and answered as the first time
                chats.apply(id, Chat.turns.add(1), op="op 1", since=sent)
            assert not chats.get(id).meta.exists
        assert chats.get("stays").turns == 2


def test_lives_without_op_ids_leave_nothing(url):
    """Nobody could repeat what was done to them by name."""
    with Store.open(url) as store:
        chats = store.collection(Chat, tenant=f"t{time.time_ns()}")
        sent = time.time()
        chats.apply("a", Chat.turns.add(1))
        chats.delete("a")
        ambiguous = store.driver.ambiguous  # then the library gives each commit an op id of its own
        try:
            chats.apply("a", Chat.turns.add(1), op="op 1", since=sent)
        except InDoubt:
            assert ambiguous
        else:
            assert not ambiguous
