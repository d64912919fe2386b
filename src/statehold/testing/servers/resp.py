"""A few synchronous words with a Redis server: enough to ask it something, no client library."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TypeAlias, Union

from statehold.testing.servers.exactly import exactly

Reply: TypeAlias = Union[str, int, list["Reply"], None]  # noqa: UP007 - the name is its own part


class ErrorReply(RuntimeError):
    """The server answered with an error; its text begins with the code."""


def call(
    address: tuple[str, int],
    commands: Sequence[Sequence[str | bytes | float]],
    *,
    ca: Path | None = None,
    certificate: tuple[Path, Path] | None = None,
    timeout: float = 5.0,
) -> Reply:
    """The reply to the last of some commands, over a connection of its own.

    Bulk strings are decoded as UTF-8; bytes that are none become surrogates.

    Raises:
        ErrorReply: the server refused one of the commands.
        OSError: it cannot be reached, or said nothing for `timeout` seconds.
    """
    reply: Reply = None
    with (
        connect(address, ca, certificate, timeout) as connection,
        connection.makefile("rb") as replies,
    ):
        for command in commands:
            connection.sendall(encoded(command))
            reply = read(replies)
    return reply


def connect(
    address: tuple[str, int],
    ca: Path | None,
    certificate: tuple[Path, Path] | None,
    timeout: float,
) -> socket.socket:
    """A connection, with TLS if there is an authority to trust."""
    if ca is None:
        return socket.create_connection(address, timeout)
    context = ssl.create_default_context(cafile=str(ca))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    plain = socket.create_connection(address, timeout)
    return context.wrap_socket(plain, server_hostname=address[0])


def encoded(command: Sequence[str | bytes | float]) -> bytes:
    """A command on the wire."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in command]
    lengths = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
    return b"*%d\r\n%b" % (len(words), lengths)


def read(replies: BinaryIO) -> Reply:
    """The next reply. Raises ErrorReply; ConnectionError at the end of the stream."""
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionError("the server closed the connection")
    kind, rest = line[:1], line[1:-2]
    if kind == b"+":
        return rest.decode()
    if kind == b"-":
        raise ErrorReply(rest.decode(errors="replace"))
    if kind == b":":
        return int(rest)
    length = int(rest)
    if length < 0:
        return None
    if kind == b"*":
        return [read(replies) for _ in range(length)]
    return exactly(replies, length + 2)[:-2].decode(errors="surrogateescape")
