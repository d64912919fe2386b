"""`Proxy`: a TCP proxy between a client and a real server that breaks the connection on demand.

```python
with RedisServer.start() as server, Proxy(server.port) as proxy:
    store = Store.open(proxy.through(server.url))
    with proxy.cut_reply():      # the server executes the next request, its answer never arrives
        ...
```

Theory of operation: one thread owns every socket and all that is known about connections; what
the methods ask for is done by that thread between two events, so a fault is in force when the
method returns. Bytes travel through a `Pipe` for each direction, which holds them back while there
is latency. A connection whose request is to be cut has a `cut`; what the server then answers is
swallowed until it has been silent for a moment, and only then does the client see a reset.
"""

from __future__ import annotations

import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from statehold.testing.piping import Cut, Link, Pipe, hang_up
from statehold.testing.servers.server import HOST, free_port

CHUNK: Final = 1 << 16
# As much of a request as `when` is shown.
SHOWN: Final = 1 << 20


class Proxy:
    """Passes connections on to a server, and breaks them as it is told.

    Every fault holds from the moment that its method returns, for connections that are open and
    for new ones. Use it from any thread; no method waits for the network.
    """

    def __init__(self, target: int, *, host: str = HOST, port: int | None = None) -> None:
        """Nothing listens until the `with` block is entered.

        Args:
            target: The server's port.
            host: The server's address.
            port: Where this proxy listens, at 127.0.0.1; None: at a free one.
        """
        self.target = (host, target)
        self.host = HOST
        self.port = free_port() if port is None else port
        self.requests = 0
        """How many pieces clients have sent; one write of moderate size is one piece."""
        self.round_trips = 0
        """How often a client began to speak, at first or after the server had spoken."""
        self.accepted = 0
        """How many connections clients have made."""
        self._delay = 0.0
        self._stalled: Literal["no", "lose", "keep"] = "no"
        self._cuts: list[Cut] = []
        self._links: set[Link] = set()
        self._problem: Exception | None = None
        self._calls: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._listening: socket.socket | None = None
        self._is_closing = False

    def __enter__(self) -> Self:
        self._wake, self._awake = socket.socketpair()
        self._awake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._awake, selectors.EVENT_READ, None)
        self._listen()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Proxy {self.host}:{self.port} to {self.target[0]}:{self.target[1]}>"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def through(self, url: str) -> str:
        """A server's url with this proxy in the server's place."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}{self.host}:{self.port}").geturl()

    def latency(self, seconds: float) -> None:
        """Every round trip takes `seconds` longer, half of it each way. 0: no longer."""
        self._do(lambda: setattr(self, "_delay", seconds / 2))

    def reset(self) -> None:
        """Every open connection has been reset (RST), towards the client and the server."""
        self._do(self._reset)

    def refuse(self) -> None:
        """New connections are refused; those that are open stay. See `accept`."""
        self._do(self._refuse)

    def accept(self) -> None:
        """New connections are accepted again."""
        self._do(self._listen)

    def stall(self, *, keep: bool = False) -> None:
        """Nothing gets through, and connections stay up: half-open, as when a cable is pulled.

        Args:
            keep: False: bytes are lost, so connections that lost some are reset by `resume`. True:
                they are on their way, and arrive after it.
        """
        self._do(lambda: setattr(self, "_stalled", "keep" if keep else "lose"))

    def resume(self) -> None:
        """Bytes get through again."""
        self._do(self._resume)

    @contextmanager
    def cut_reply(
        self,
        times: int | None = 1,
        *,
        when: Callable[[bytes], bool] | None = None,
        settle: float = 0.03,
    ) -> Generator[Cut]:
        """Inside, the server executes requests and answers, and the client gets a reset instead.

        The connection is cut when the server has answered and both sides have then been silent for
        `settle` seconds: an answer in several pieces, or to many commands at once, is over by then.

        Args:
            times: The next that many exchanges; None: all of them.
            when: Which requests: called in the proxy's thread with all bytes that the client has
                sent since the server last spoke, the first megabyte at most. None: any.
            settle: Seconds of silence after which an answer counts as complete.

        Yields:
            A `Cut`: `count` is the number of exchanges that have been cut.

        Raises:
            AssertionError: at the end, fewer than `times` were cut (None: not one).
        """
        with self._cutting(Cut("reply", times=times, when=when, settle=settle)) as cut:
            yield cut

    @contextmanager
    def cut_request(
        self,
        times: int | None = 1,
        *,
        when: Callable[[bytes], bool] | None = None,
        after_bytes: int = 0,
    ) -> Generator[Cut]:
        """Inside, the client gets a reset for a request that the server never got in full.

        Args:
            times: The next that many requests; None: all of them.
            when: Which requests, see `cut_reply`.
            after_bytes: How many bytes of it reach the server.

        Yields:
            A `Cut`: `count` is the number of requests that have been cut.

        Raises:
            AssertionError: at the end, fewer than `times` were cut (None: not one).
        """
        with self._cutting(Cut("request", times=times, when=when, after_bytes=after_bytes)) as cut:
            yield cut

    def close(self) -> None:
        """All connections are reset, nothing listens and the thread has ended."""
        if self._is_closing:
            return
        with suppress(RuntimeError):  # its thread had died: of a problem, which is raised below
            self._do(lambda: setattr(self, "_is_closing", True))
        self._is_closing = True
        self._thread.join()
        self._selector.close()
        self._wake.close()
        self._awake.close()
        if self._problem is not None:
            raise self._problem

    @contextmanager
    def _cutting(self, cut: Cut) -> Generator[Cut]:
        self._do(lambda: self._cuts.append(cut))
        try:
            yield cut
        finally:
            self._do(lambda: self._disarm(cut))
        wanted = 1 if cut.times is None else cut.times
        assert cut.count >= wanted, f"{cut.count} of {wanted} exchanges were cut"

    def _do(self, call: Callable[[], Any]) -> None:
        done: Future[Any] = Future()
        self._calls.append((call, done))
        with suppress(OSError):  # closed already
            self._wake.send(b"!")
        while not done.done():
            if not self._thread.is_alive():
                raise RuntimeError("the proxy is closed") from self._problem
            wait((done,), 0.05)
        done.result()

    # -------------------------------------------------------------- from here on in its thread

    def _disarm(self, cut: Cut) -> None:
        self._cuts.remove(cut)
        for link in self._links:
            if link.cut is cut and link.cut_at is None:  # nothing of it has been swallowed yet
                link.cut = None

    def _run(self) -> None:
        try:
            while not self._is_closing:
                for key, events in self._selector.select(self._pause()):
                    self._on_event(key.fileobj, key.data, events)
                self._move()
        except Exception as problem:  # noqa: BLE001 - raised by close()
            self._problem = problem
        finally:
            self._refuse()
            self._reset()

    def _on_event(self, source: Any, link: Link | None, events: int) -> None:
        if source is self._awake:
            with suppress(BlockingIOError):
                self._awake.recv(CHUNK)
            while self._calls:
                call, done = self._calls.popleft()
                try:
                    done.set_result(call())
                except Exception as problem:  # noqa: BLE001 - for the caller
                    done.set_exception(problem)
        elif link is None:
            self._on_connection()
        elif link in self._links and events & selectors.EVENT_READ:
            try:
                data = source.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                self._abort(link)
                return
            self._on_data(link, source, data)

    def _on_connection(self) -> None:
        if self._listening is None:  # refused meanwhile
            return
        try:
            client, _ = self._listening.accept()
        except OSError:  # gone again
            return
        self.accepted += 1
        try:
            server = socket.create_connection(self.target, 5)
        except OSError:
            hang_up(client)
            return
        link = Link(client, server)
        self._links.add(link)
        for each in (client, server):
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(each, selectors.EVENT_READ, link)

    def _on_data(self, link: Link, source: socket.socket, data: bytes) -> None:
        """Something arrived; b"" is the end of the stream."""
        now = time.monotonic()
        if not data:
            link.ended.add(source)
        elif self._stalled == "lose":
            link.has_lost = True
            return
        if source is link.client:
            if data:
                data = self._on_request(link, data)
            elif link.cut is not None:  # it gave up waiting
                link.cut.begun -= 1
                link.cut = None
            if link in self._links and (data or source in link.ended):
                link.up.put(now + self._delay, data)
        elif link.cut is not None and link.cut.what == "reply":
            link.settle(now if data else None)
        else:
            if data:
                link.is_asking = False
            link.down.put(now + self._delay, data)

    def _on_request(self, link: Link, data: bytes) -> bytes:
        """What of a client's bytes is to be passed on."""
        self.requests += 1
        if not link.is_asking:
            link.is_asking = True
            link.request.clear()
            self.round_trips += 1
        before = len(link.request)
        link.request += data[: SHOWN - before]
        if link.cut is None:
            request = bytes(link.request)
            link.cut = next((cut for cut in self._cuts if cut.takes(request)), None)
            if link.cut is None:
                return data
            link.cut.begun += 1
        if link.cut_at is not None and link.cut.what == "reply":
            link.settle(time.monotonic())  # a pipeline goes on while its first replies arrive
        if link.cut.what == "request":
            data = data[: max(link.cut.after_bytes - before, 0)]
            if len(link.request) >= link.cut.after_bytes:
                link.cut_at = time.monotonic() + self._delay
        return data

    def _pause(self) -> float | None:
        """Seconds until something is due; None: nothing is."""
        due: list[float] = []
        for link in self._links:
            if link.cut_at is not None:
                due.append(link.cut_at)
            if self._stalled == "no":
                due += [
                    pipe.waiting[0][0]
                    for pipe in (link.up, link.down)
                    if pipe.waiting and not pipe.is_blocked
                ]
        return max(min(due) - time.monotonic(), 0) if due else None

    def _move(self) -> None:
        """Pass on what is due, and cut what is to be cut."""
        now = time.monotonic()
        for link in list(self._links):
            try:
                if self._stalled == "no":
                    link.up.flush(now)
                    link.down.flush(now)
            except OSError:
                self._abort(link)
                continue
            if link.cut is not None and link.cut_at is not None and link.cut_at <= now:
                link.cut.count += 1
                link.cut = None
                self._abort(link, rudely=False)
                continue
            if len(link.ended) == 2 and not link.up.waiting and not link.down.waiting:
                self._abort(link, rudely=False)
                continue
            self._watch(link, link.client, link.down)
            self._watch(link, link.server, link.up)

    def _watch(self, link: Link, end: socket.socket, into: Pipe) -> None:
        """Wait for what can happen at this end: nothing is read after the end of a stream."""
        events = 0 if end in link.ended else selectors.EVENT_READ
        if into.is_blocked and self._stalled == "no":
            events |= selectors.EVENT_WRITE
        known = self._selector.get_map().get(end.fileno())
        if known is None and events:
            self._selector.register(end, events, link)
        elif known is not None and not events:
            self._selector.unregister(end)
        elif known is not None and known.events != events:
            self._selector.modify(end, events, link)

    def _abort(self, link: Link, *, rudely: bool = True) -> None:
        """The connection is gone; rudely, the server is told by a reset as the client is."""
        self._links.discard(link)
        if link.cut is not None:
            link.cut.begun -= 1
        for end in (link.client, link.server):
            if end.fileno() in self._selector.get_map():
                self._selector.unregister(end)
        if rudely:
            hang_up(link.server)
        else:
            # A reset could overtake bytes of a request that the server has yet to read.
            link.server.close()
        if len(link.ended) == 2:
            link.client.close()
        else:
            hang_up(link.client)

    def _reset(self) -> None:
        for link in list(self._links):
            self._abort(link)

    def _resume(self) -> None:
        self._stalled = "no"
        for link in [link for link in self._links if link.has_lost]:
            self._abort(link)

    def _listen(self) -> None:
        if self._listening is None:
            self._listening = socket.create_server((self.host, self.port), backlog=512)
            self._listening.setblocking(False)
            self._selector.register(self._listening, selectors.EVENT_READ, None)

    def _refuse(self) -> None:
        if self._listening is not None:
            self._selector.unregister(self._listening)
            self._listening.close()
            self._listening = None
