"""The proxy does to connections what it says, and nothing else."""

import errno
import socket
import threading
import time
from contextlib import ExitStack

import pytest

from statehold.testing.proxy import Proxy
from statehold.testing.servers.resp import call, encoded, read


@pytest.fixture
def proxy(statehold_redis):
    statehold_redis.flush()
    with Proxy(statehold_redis.port) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    """A connection through the proxy."""
    with Client(proxy) as client:
        yield client


class Client:
    """A connection that says one thing at a time."""

    def __init__(self, proxy):
        self.socket = socket.create_connection((proxy.host, proxy.port), 5)
        self.replies = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.replies.close()
        self.socket.close()

    def __call__(self, *command):
        self.send(*command)
        return read(self.replies)

    def send(self, *command):
        self.socket.sendall(encoded(command))


def test_it_passes_everything_on(client):
    """Also what does not fit into one read, in both directions."""
    large = "x" * 3_000_000
    assert client("SET", "a", large) == "OK"
    assert client("GET", "a") == large


def test_a_cut_reply_was_executed(proxy, client, statehold_redis):
    """The fault that op ids exist for: executed, and nobody was told."""
    assert client("INCR", "a") == 1
    with proxy.cut_reply() as cut, pytest.raises(ConnectionResetError):
        client("INCR", "a")
    assert cut.count == 1
    assert statehold_redis.cli("GET", "a") == "2"
    assert proxy.connections == 0
    assert call((proxy.host, proxy.port), [("INCR", "a")]) == 3


def test_only_what_when_says_is_cut(proxy, client, statehold_redis):
    """So that a test can spare the handshake."""
    with proxy.cut_reply(when=lambda request: b"INCR" in request):
        assert client("PING") == "PONG"
        with pytest.raises(ConnectionResetError):
            client("INCR", "a")
    assert statehold_redis.cli("GET", "a") == "1"


def test_the_reply_to_a_whole_pipeline_is_cut(proxy, client, statehold_redis):
    """The cut comes after the last command, not after the first reply."""
    pipeline = b"".join(encoded(("INCR", "a")) for _ in range(20_000))
    with proxy.cut_reply():
        client.socket.sendall(pipeline)
        with pytest.raises(ConnectionResetError):
            read(client.replies)
    assert statehold_redis.cli("GET", "a") == "20000"


def test_as_many_exchanges_are_cut_as_asked_for(proxy):
    """And no more."""
    with proxy.cut_reply(2) as cut:
        for _ in range(2):
            with pytest.raises(ConnectionResetError):
                call((proxy.host, proxy.port), [("INCR", "a")])
        assert call((proxy.host, proxy.port), [("INCR", "a")]) == 3
    assert cut.count == 2


def test_a_cut_that_never_came_is_an_error(proxy, client):
    """A test of a fault that did not happen proves nothing."""
    with pytest.raises(AssertionError, match="0 of 1 exchanges were cut"), proxy.cut_reply():
        pass
    assert client("PING") == "PONG"


def test_nothing_is_cut_after_the_block(proxy, client, statehold_redis):
    """Not even the answer to a request that was sent inside."""
    client("PING")
    block = ExitStack()
    block.enter_context(proxy.cut_reply(when=lambda request: b"BLPOP" in request))
    client.send("BLPOP", "a", 5)
    call((proxy.host, proxy.port), [("PING",)])  # when it is answered, the first has arrived
    with pytest.raises(AssertionError, match="0 of 1"):
        block.close()
    statehold_redis.cli("RPUSH", "a", 1)
    assert read(client.replies) == ["a", "1"]


def test_a_mistake_in_when_is_not_lost(statehold_redis):
    """It happens in another thread, and ends the proxy; what the client sees of it does not hide it."""
    proxy = Proxy(statehold_redis.port)
    with pytest.raises(ZeroDivisionError), proxy:
        fail_in_when(proxy)


def fail_in_when(proxy):
    with Client(proxy) as client, proxy.cut_reply(when=lambda request: 1 / 0):
        client("PING")


@pytest.mark.parametrize("after_bytes", [0, 10])
def test_a_cut_request_was_not_executed(proxy, client, statehold_redis, after_bytes):
    """Half a command is no command."""
    with proxy.cut_request(after_bytes=after_bytes), pytest.raises(ConnectionResetError):
        client("INCR", "a")
    assert statehold_redis.cli("GET", "a") is None


def test_latency_is_added_to_every_round_trip(proxy, client):
    """And taken away again."""
    client("PING")
    proxy.latency(0.05)
    began = time.perf_counter()
    client("PING")
    assert time.perf_counter() - began >= 0.05
    proxy.latency(0)
    times = []
    for _ in range(20):
        began = time.perf_counter()
        client("PING")
        times.append(time.perf_counter() - began)
    assert min(times) < 0.02


def test_latency_does_not_limit_what_is_under_way(proxy, client):
    """A pipeline pays for it once."""
    proxy.latency(0.05)
    began = time.perf_counter()
    for _ in range(100):
        client.send("PING")
    assert [read(client.replies) for _ in range(100)] == ["PONG"] * 100
    assert time.perf_counter() - began < 4  # one after the other they would take 5


def test_reset_ends_every_connection(proxy, client):
    """With a reset, not an end of the stream."""
    client("PING")
    proxy.reset()
    with pytest.raises(ConnectionResetError) as caught:
        client.socket.recv(1)
    assert caught.value.errno == errno.ECONNRESET
    assert call((proxy.host, proxy.port), [("PING",)]) == "PONG"


def test_refused_until_accepted(proxy, client):
    """Open connections are not concerned."""
    client("PING")
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((proxy.host, proxy.port), 1)
    assert client("PING") == "PONG"
    proxy.accept()
    assert call((proxy.host, proxy.port), [("PING",)]) == "PONG"


def test_stalled_connections_stay_up_and_lose_bytes(proxy, client, statehold_redis):
    """Half-open: nothing is executed, nothing is answered, nothing is closed."""
    client("PING")
    proxy.stall()
    client.socket.settimeout(0.1)
    client.send("INCR", "a")
    with pytest.raises(TimeoutError):
        client.socket.recv(1)
    assert proxy.connections == 1
    proxy.resume()
    with pytest.raises(ConnectionResetError):
        client.socket.recv(1)
    assert statehold_redis.cli("GET", "a") is None


def test_stalled_bytes_can_arrive_late(proxy, client, statehold_redis):
    """A frozen network thaws: what was sent is executed after all."""
    client("PING")
    proxy.stall(keep=True)
    client.send("INCR", "a")
    assert statehold_redis.cli("GET", "a") is None
    proxy.resume()
    assert read(client.replies) == 1


def test_connections_that_said_nothing_survive_a_stall(proxy, client):
    """They have lost nothing."""
    client("PING")
    proxy.stall()
    proxy.resume()
    assert client("PING") == "PONG"


def test_round_trips_are_counted(proxy, client):
    """Commands that leave together are one."""
    for _ in range(3):
        client("PING")
    assert (proxy.round_trips, proxy.requests, proxy.accepted) == (3, 3, 1)
    client.socket.sendall(encoded(("PING",)) * 10)
    for _ in range(10):
        read(client.replies)
    assert (proxy.round_trips, proxy.requests) == (4, 4)


def test_a_server_that_is_down_is_a_reset(statehold_redis):
    """The proxy itself listens, so the client gets as far as that."""
    with Proxy(1) as proxy, pytest.raises(ConnectionResetError):
        call((proxy.host, proxy.port), [("PING",)])


def test_many_connections_at_once(proxy):
    """Each gets its own answers."""

    def work(number):
        with Client(proxy) as client:
            got.extend(client("ECHO", f"{number}-{i}") == f"{number}-{i}" for i in range(50))

    got = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 800


def test_an_end_of_the_stream_is_passed_on(proxy, client):
    """Both ways: half-closed connections still carry the answer."""
    client.send("PING")
    client.socket.shutdown(socket.SHUT_WR)
    assert read(client.replies) == "PONG"
    assert client.socket.recv(1) == b""


def test_a_url_through_the_proxy(proxy):
    """With all that is in it but the address."""
    assert (
        proxy.through("redis://:secret@127.0.0.1:1/0?a=b")
        == f"redis://:secret@127.0.0.1:{proxy.port}/0?a=b"
    )
