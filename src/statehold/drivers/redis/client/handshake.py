"""Opening a connection: reach the server, say who one is, and load the scripts, in one round trip."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from statehold.drivers.redis.client.address import Address, Login, Options
from statehold.drivers.redis.client.connection import (
    Connection,
    ConnectionUser,
    Request,
    Tally,
    pack,
)
from statehold.drivers.redis.client.contract import Command, Script
from statehold.drivers.redis.client.errors import ErrorReply, translated
from statehold.drivers.redis.client.schemes import check_scheme
from statehold.errors import ConfigError, StateholdError, Timeout, Unavailable

_OPTIONAL = ("name", "role", "info", "id")
"""What an access list may forbid without harm."""
STAGGER = 0.1
"""Seconds after which another server is asked the same, the first one being slow."""
PROBE = 0.3
"""Seconds in which a server tells whether it speaks TLS."""
_PROBES = (("TCP_KEEPIDLE", 15), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
"""Seconds of silence until the system asks whether the peer is there, between questions, and how
many remain unanswered; so that a connection at which nobody waits is not kept for hours."""


class Handshaken(msgspec.Struct, frozen=True):
    """A server that answered."""

    connection: Connection
    run_id: str | None
    """Another one after each start; None if one may not ask."""
    role: str | None
    """"master", "slave", or "sentinel"; None if one may not ask."""
    time: tuple[float, float, float]
    """What time it was there (epoch seconds), between these two by the clock of the event loop."""
    id: int | None = None
    """What the server calls this connection; None if one may not ask."""


class _Asker(ConnectionUser):
    """Asks before the connection has its user: errors go to the one who asked."""

    def __init__(self, address: Address, username: str | None) -> None:
        self._address = address
        self._username = username

    def refused(self, connection: Connection, request: Request, reply: ErrorReply) -> None:  # noqa: ARG002
        request.fail(translated(reply, self._address, self._username))

    def lost(
        self,
        connection: Connection,  # noqa: ARG002
        sent: Sequence[Request],
        unsent: Sequence[Request],
        why: str,
    ) -> None:
        for request in (*sent, *unsent):
            request.fail(Unavailable(f"redis at {self._address}: {why}"))


class Handshaker:
    """Opens connections for one event loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        tls: ssl.SSLContext | None,
        options: Options,
        scripts: Sequence[Script],
        tally: Tally,
    ) -> None:
        self.loop = loop
        self.options = options
        self.tally = tally
        self._met: set[Address] = set()  # with whom the scheme was the right one
        self.loads: list[bytes] = [pack((b"SCRIPT", b"LOAD", script.text)) for script in scripts]
        self._tls = tls

    async def open(self, address: Address, login: Login, db: int = 0) -> Handshaken:
        """A connection that is ready for commands, to a server that holds data.

        Raises `Unavailable` (or a leaf of it) and `ConfigError`, naming the address.
        """
        password = login.secret()
        names: list[str] = []
        commands: list[bytes] = []

        def say(name: str, *command: bytes | str | int) -> None:
            names.append(name)
            commands.append(pack(command))

        if password is not None:
            names.append("auth")
            commands.append(_auth(login, password))
        # The first thing that is said must be small: to whom it has not let in a server says of a large
        # one only that it is too large.
        say("time", b"TIME")
        if self.options.client_name:
            say("name", b"CLIENT", b"SETNAME", self.options.client_name)
        if db:
            say("db", b"SELECT", db)
        say("role", b"ROLE")
        say("info", b"INFO", b"server")
        say("id", b"CLIENT", b"ID")
        for load in self.loads:
            names.append("load")
            commands.append(load)
        wait = None
        if self.options.wait_replicas:
            wait_ms = max(1, round(self.options.wait_timeout * 1000))
            wait = pack((b"WAIT", self.options.wait_replicas, wait_ms))
        sent = self.loop.time()
        heard: list[float] = []
        connection, replies = await self._begin(
            address, login, commands, wait, (names.index("time"), heard)
        )
        told = dict(zip(names, replies, strict=True))
        if any(isinstance(told.get(name), Exception) for name in ("auth", "time", "db", "load")):
            connection.drop("it did not let us in")
            raise next(
                reply
                for name, reply in zip(names, replies, strict=True)
                if isinstance(reply, Exception)
                and not (name in _OPTIONAL and isinstance(reply, ConfigError))
            )
        role, info = told["role"], told["info"]
        return Handshaken(
            connection,
            None if isinstance(info, Exception) else _run_id(info),
            None if isinstance(role, Exception) else role[0].decode(),
            (server_time(told["time"]), sent, heard[0]),
            None if isinstance(told["id"], Exception) else int(told["id"]),
        )

    async def ask(self, address: Address, login: Login, command: Command) -> Any:
        """The reply to one command, over a connection made for it. Raises as `open` does."""
        commands = [pack(command)]
        password = login.secret()
        if password is not None:
            commands.insert(0, _auth(login, password))
        connection, replies = await self._begin(address, login, commands, None)
        connection.drop("it was asked")
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies[-1]

    async def listen(
        self, address: Address, login: Login, channel: str, user: ConnectionUser
    ) -> Connection:
        """A connection on which the user is told what is published. Raises as `open` does."""
        commands = [pack((b"SUBSCRIBE", channel))]
        password = login.secret()
        if password is not None:
            commands.insert(0, _auth(login, password))
        connection, replies = await self._begin(address, login, commands, None)
        for reply in replies:
            if isinstance(reply, Exception):
                connection.drop("it does not let us listen")
                raise reply
        connection.user = user
        return connection

    async def ask_first(self, addresses: Sequence[Address], login: Login, command: Command) -> Any:
        """The first reply, with the address it is from: the next server is asked when one is slow.

        Raises what the last one raised if none answers.
        """
        asked: dict[asyncio.Task[Any], Address] = {}
        rest = list(addresses)
        error: StateholdError = Unavailable("redis: no server is known")
        try:
            while rest or asked:
                if rest:
                    address = rest.pop(0)
                    asked[self.loop.create_task(self.ask(address, login, command))] = address
                done, _ = await asyncio.wait(
                    asked, timeout=STAGGER if rest else None, return_when="FIRST_COMPLETED"
                )
                for task in done:
                    address = asked.pop(task)
                    try:
                        return address, task.result()
                    except StateholdError as found:
                        error = found
        finally:
            for task in asked:
                task.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        raise error

    async def _begin(
        self,
        address: Address,
        login: Login,
        commands: list[bytes],
        wait: bytes | None,
        heard: tuple[int, list[float]] | None = None,
    ) -> tuple[Connection, list[Any]]:
        """The connection and the replies; `heard` asks when the one of that number has come."""
        loop, limit = self.loop, self.options.connect_timeout
        connection: Connection | None = None
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    lambda: Connection(_Asker(address, login.username), loop, self.tally, wait),
                    address.host,
                    address.port,
                    ssl=self._tls,
                )
                _keep_alive(connection.socket)
                self.tally.connections += 1
                requests = [
                    Request(loop.create_future(), data, 0.0, repeatable=False) for data in commands
                ]
                for request in requests:
                    connection.send(request)
                if heard is not None:
                    at, times = heard
                    requests[at].future.add_done_callback(lambda _: times.append(loop.time()))
                answers = await asyncio.gather(
                    *(request.future for request in requests), return_exceptions=True
                )
        except BaseException as error:
            if connection is not None:
                connection.drop("the attempt was given up")
            if not isinstance(error, OSError):  # as a TimeoutError is
                raise
            await self._check_scheme(address, error)
            raise _translated(address, error, limit) from error
        # TLS 1.3 tells of our certificate when we read for the first time.
        if _is_refusal(connection.broken):
            raise ConfigError(
                f"redis at {address}: TLS: {_reason(connection.broken)}"
            ) from connection.broken
        if not connection.open and all(isinstance(answer, Unavailable) for answer in answers):
            await self._check_scheme(address, connection.broken)
        else:
            self._met.add(address)
        return connection, list(answers)

    async def _check_scheme(self, address: Address, error: BaseException | None) -> None:
        """Raise `ConfigError` if the scheme is the wrong one, of a server that never answered yet."""
        if address not in self._met:
            seconds = min(PROBE, self.options.connect_timeout)
            await check_scheme(address, error, secured=self._tls is not None, seconds=seconds)


def server_time(reply: Any) -> float:
    """The reply to TIME in epoch seconds."""
    return int(reply[0]) + int(reply[1]) / 1e6


def _auth(login: Login, password: str) -> bytes:
    return pack((b"AUTH", login.username, password) if login.username else (b"AUTH", password))


def _translated(address: Address, error: OSError, limit: float) -> StateholdError:
    """Why no connection was made."""
    if isinstance(error, TimeoutError):
        return Timeout(f"redis at {address}: no connection within {limit:g} s")
    if _is_refusal(error):
        return ConfigError(f"redis at {address}: TLS: {_reason(error)}")
    return Unavailable(f"redis at {address}: cannot connect ({_reason(error)})")


def _is_refusal(error: BaseException | None) -> TypeGuard[ssl.SSLError]:
    """Whether TLS failed for a reason that stays; not because the other side went away."""
    return isinstance(error, ssl.SSLError) and not isinstance(
        error, ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError
    )


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return error.strerror or str(error) or type(error).__name__


def _keep_alive(sock: socket.socket | None) -> None:
    if sock is None:
        return
    with contextlib.suppress(OSError):  # it was closed meanwhile, as the first command will tell
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _PROBES:
            if hasattr(socket, name):  # macOS and Windows have other names for some
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _run_id(info: Any) -> str | None:
    for line in bytes(info).split(b"\r\n"):
        if line.startswith(b"run_id:"):
            return line[7:].decode()
    return None
