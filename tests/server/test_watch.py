"""Watching a state through server-sent events, against a real server."""

import json
import time
from contextlib import contextmanager
from http.client import HTTPConnection

import pytest

from .conftest import BOTH, KEYS

QUICK = """
[server]
watch_interval = "100ms"
heartbeat = "300ms"
max_watchers = 2
"""


@contextmanager
def watching(server, path, **headers):
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", f"{path}", headers=headers)
    response = connection.getresponse()
    try:
        yield response
    finally:
        response.close()
        connection.close()


def events(response):
    """(event, id, data) one by one; comments as (None, None, text)."""
    lines = []
    while line := response.readline().decode():
        if line == "\n":
            found = dict(part.split(": ", 1) for part in lines)
            lines = []
            data = json.loads(found["data"]) if "data" in found else found.get("")
            yield found.get("event"), found.get("id"), data
        else:
            lines.append(line.rstrip("\n"))


def add(server, id="a", amount=1):
    return server.ask("POST", f"/v1/chat/{id}/commit", {"turns": {"add": amount}})[2]


def changes_of(stream):
    return (event for event in stream if event[0])


def test_an_event_comes_each_time_the_revision_changes(serve):
    server = serve(server='[server]\nwatch_interval = "1h"')  # woken, that is, and not by the clock
    with watching(server, "/v1/chat/a/watch?fields=turns") as response:
        assert response.getheader("Content-Type") == "text/event-stream"
        stream = changes_of(events(response))
        assert next(stream)[0] == "absent"
        for turns in (1, 2, 3):
            revision = add(server)["revision"]
            name, tag, data = next(stream)
            assert (name, tag, data["fields"]) == ("state", revision, {"turns": turns})
        server.ask("DELETE", "/v1/chat/a")
        assert next(stream)[0] == "absent"


def test_what_another_process_has_changed_is_seen(serve, tmp_path):
    server = serve(backend="sqlite:///state.db", server=QUICK)
    add(server)
    with watching(server, "/v1/chat/a/watch") as response:
        stream = changes_of(events(response))
        assert next(stream)[2]["fields"]["turns"] == 1
        from statehold import Store

        from .conftest import load

        chat = load(tmp_path, backend="sqlite:///state.db", server=QUICK).kinds["chat"]
        with Store.open(f"sqlite:///{tmp_path}/state.db") as store:
            store.collection(chat).apply("a", chat.turns.add(5))
        assert next(stream)[2]["fields"]["turns"] == 6


def test_an_expired_state_is_told_and_watching_renews_nothing(serve):
    kinds = (
        '[kinds.chat]\nttl = "3s"\nrenew_on_read = true\n[kinds.chat.fields]\nturns = "counter"\n'
    )
    server = serve(server=QUICK, kinds=kinds)
    add(server)
    with watching(server, "/v1/chat/a/watch") as response:
        assert [name for name, _, _ in (next(changes_of(events(response))) for _ in "12")] == [
            "state",
            "absent",
        ]


def test_what_was_seen_before_is_not_told_again(serve):
    server = serve(server=QUICK)
    revision = add(server)["revision"]
    with watching(server, "/v1/chat/a/watch", **{"Last-Event-ID": revision}) as response:
        stream = events(response)
        assert next(stream) == (None, None, "alive")  # a heartbeat is the first that comes
        add(server)
        assert next(changes_of(stream))[2]["fields"]["turns"] == 2


def test_watches_are_limited_and_a_gone_client_makes_room(serve):
    server = serve(server=QUICK)
    with watching(server, "/v1/chat/a/watch") as one, watching(server, "/v1/chat/b/watch") as two:
        assert (one.status, two.status) == (200, 200)
        status, headers, body = server.ask("GET", "/v1/chat/c/watch")
        assert (status, body["code"], headers["Retry-After"]) == (503, "too_many_watchers", "1")
    until = time.monotonic() + 10
    while b"statehold_watchers 0" not in server.ask("GET", "/metrics")[2]:
        assert time.monotonic() < until
        time.sleep(0.05)
    with watching(server, "/v1/chat/c/watch") as third:
        assert third.status == 200


def test_watching_needs_a_key_where_there_are_keys(serve):
    server = serve(server=KEYS)
    assert server.ask("GET", "/v1/chat/a/watch")[0] == 401
    with watching(server, "/v1/chat/a/watch", Authorization=f"Bearer {BOTH}") as response:
        assert next(events(response))[0] == "absent"


@pytest.mark.parametrize("query", ["fields=nope", "tail=0", "entries=x", "nope=1"])
def test_wrong_parameters(client, query):
    assert client.get(f"/v1/chat/a/watch?{query}").status_code == 400
