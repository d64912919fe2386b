"""The client of a server: connections that break, and answers that are none of statehold's."""

import asyncio
import json
import socket
import threading
from contextlib import contextmanager

import pytest

from statehold import (
    ABSENT,
    Closed,
    ConfigError,
    Conflict,
    Invalid,
    StateholdError,
    Timeout,
    Unavailable,
)
from statehold.client.remote import Denied, Remote
from statehold.testing.children import in_fork

KEY = ("", "chat", "a")
STATUS = {200: "OK", 204: "No Content"}


def reply(status, body=b"{}", kind="application/json", *, close=False):
    end = "Connection: close\r\n" if close else ""
    head = f"HTTP/1.1 {status} {STATUS.get(status, 'No')}\r\nContent-Type: {kind}\r\n{end}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def problem(status, code, **more):
    body = {"code": code, "detail": f"about {code}", **more}
    return reply(status, json.dumps(body).encode(), "application/problem+json")


WRITTEN = reply(200, b'{"revision": "1.2", "repeated": false}')
READY = reply(200, b'{"kinds": []}')


@contextmanager
def server(*connections):
    """A server that gives these answers, connection by connection, and then closes each."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve():
            for answers in connections:
                connection, _ = listening.accept()
                with connection, connection.makefile("rb") as stream:
                    for answer in answers:
                        head = b"".join(iter(stream.readline, b"\r\n")).decode("latin-1")
                        length = next(
                            (
                                int(line[15:])
                                for line in head.splitlines()
                                if line.startswith("Content-Length:")
                            ),
                            0,
                        )
                        requests.append((head, stream.read(length)))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", requests
        finally:
            thread.join(10)


def ask(url, *calls, **options):
    """What each of the calls returns or raises."""

    async def main():
        found = []
        async with Remote(url, **options) as remote:
            for call in calls:
                try:
                    found.append(await call(remote))
                except StateholdError as error:
                    found.append(error)
        return found

    return asyncio.run(main())


def commit(**how):
    return lambda remote: remote.commit(KEY, {}, **how)


def test_a_connection_that_was_closed_while_idle_is_opened_again():
    with server([READY], [WRITTEN]) as (url, requests):
        _, done = ask(url, lambda remote: remote.ops("chat"), commit(op="1"))
    assert str(done.revision) == "1.2"
    assert len(requests) == 2


def test_a_commit_without_op_id_is_not_sent_twice():
    with server([READY]) as (url, _):
        _, error = ask(url, lambda remote: remote.ops("chat"), commit())
    assert type(error) is Unavailable


def test_a_new_connection_that_breaks_is_not_tried_again():
    with server([b""]) as (url, requests):
        (error,) = ask(url, commit(op="1"))
    assert type(error) is Unavailable
    assert len(requests) == 1


def test_no_answer_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        (error,) = ask(url, commit(op="1"), timeout=0.1)
    assert type(error) is Timeout


def test_a_client_that_was_closed_says_so():
    async def main():
        remote = Remote("http://127.0.0.1:9")
        await remote.close()
        await remote.close()
        with pytest.raises(Closed):
            await remote.commit(KEY, {}, op="1")

    asyncio.run(main())


def test_a_close_ends_calls_under_way():
    async def main(url):
        remote = Remote(url)
        calls = [asyncio.create_task(remote.commit(KEY, {}, op="1")) for _ in range(20)]
        one, _ = await asyncio.to_thread(listening.accept)  # on its way; some wait for a thread
        with one:
            await remote.close()
        return await asyncio.gather(*calls, return_exceptions=True)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        found = asyncio.run(main(f"http://127.0.0.1:{listening.getsockname()[1]}"))
    assert {type(error) for error in found} == {Closed}


def test_a_forked_process_has_connections_of_its_own():
    """Neither the parent's threads nor its connections are used, or ended, in the child."""
    with server([WRITTEN, WRITTEN], [WRITTEN]) as (url, requests):
        remote = Remote(url)

        def child():
            async def main():
                done = await remote.commit(KEY, {}, op="2")
                await remote.close()
                return str(done.revision)

            return asyncio.run(main())

        asyncio.run(remote.commit(KEY, {}, op="1"))
        asyncio.run(remote.commit(KEY, {}, op="3"))
        assert in_fork(child) == "1.2"
        asyncio.run(remote.close())
    assert len(requests) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (reply(502, b"<html>Bad gateway</html>", "text/html"), Unavailable),
        (reply(404, b"<html>Not found</html>", "text/html"), ConfigError),
        (problem(503, "closed"), Unavailable),
        (problem(503, "something_new"), Unavailable),
        (problem(500, "internal"), StateholdError),
        (problem(404, "unknown_kind"), Invalid),
        (problem(415, "unsupported_media_type"), Invalid),
        (problem(421, "misdirected"), Denied),
        (problem(412, "conflict", found="0.0"), Conflict),
    ],
)
def test_what_an_answer_stands_for(answer, kind):
    with server([answer]) as (url, _):
        (error,) = ask(url, commit(op="1"))
    assert type(error) is kind
    if kind is Conflict:
        assert error.found == ABSENT


def test_what_cannot_be_said_in_a_header():
    for op in ("a\nb", " a", "a\x00"):
        (error,) = ask("http://127.0.0.1:9", commit(op=op))
        assert type(error) is Invalid


def test_a_path_before_the_server():
    with server([WRITTEN]) as (url, requests):
        ask(f"{url}/state/", commit(op="1", subject="ü", ttl=2), key="secret")
    head, body = requests[0]
    assert head.startswith("POST /state/v1/chat/a/commit HTTP/1.1\r\n")
    assert "Authorization: Bearer secret\r\n" in head
    assert "Statehold-Subject: %C3%BC\r\n" in head
    assert "Statehold-TTL: 2.0\r\n" in head
    assert body == b"{}"


@pytest.mark.parametrize(
    ("subject", "header"),
    [(["ü", "a,b"], "%C3%BC,a%2Cb"), (["ü"], "%C3%BC"), ([], ",")],
)
def test_several_subjects_in_one_header(subject, header):
    with server([WRITTEN]) as (url, requests):
        ask(url, commit(op="1", subject=subject))
    assert f"Statehold-Subject: {header}\r\n" in requests[0][0]


def test_a_key_is_not_told():
    with pytest.raises(ConfigError, match="not a server"):
        Remote("ftp://here")
    with pytest.raises(ConfigError) as error:
        Remote("http://here", key="secret\n")
    assert "secret" not in str(error.value)
    assert str(Remote("http://me:secret@here:1/x", key="secret")) == "http://here:1/x"
