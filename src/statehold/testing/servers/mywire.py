"""A few synchronous words with MariaDB or MySQL: enough to run a statement, no client library.

The messages are those of the classic protocol, version 4.1, with text results and no password.
"""

from __future__ import annotations

import socket
import struct
from typing import BinaryIO, Final

from statehold.testing.servers.database import Row, SqlError
from statehold.testing.servers.exactly import exactly

# long flags, connect with database, protocol 4.1, transactions, secure connection, several
# statements, several results, authentication plugins
CAPABILITIES: Final = 0x4 | 0x8 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000
UTF8: Final = 45
MORE_RESULTS: Final = 0x8


def query(
    address: tuple[str, int],
    statements: str,
    *,
    user: str,
    database: str,
    timeout: float = 30.0,
) -> list[Row]:
    """The rows of some statements as text, over a connection of their own.

    Raises:
        SqlError: the server refused the connection or a statement.
        OSError: it cannot be reached, or said nothing for `timeout` seconds.
    """
    with (
        socket.create_connection(address, timeout) as connection,
        connection.makefile("rb") as answers,
    ):
        number, _ = packet(answers)
        hello = struct.pack("<IIB23x", CAPABILITIES, 1 << 24, UTF8)
        words = (user.encode(), b"", database.encode(), b"mysql_native_password")
        # the second, the answer to the challenge, is empty, and its end is its length: 0
        connection.sendall(framed(number + 1, hello + b"\0".join(words) + b"\0"))
        number, body = packet(answers)
        if body[:1] == b"\xfe":  # another plugin: it gets no password either
            connection.sendall(framed(number + 1, b""))
            packet(answers)
        connection.sendall(framed(0, b"\x03" + statements.encode()))
        rows: list[Row] = []
        while results(answers, rows):
            pass
        connection.sendall(framed(0, b"\x01"))
        return rows


def framed(number: int, body: bytes) -> bytes:
    """A packet on the wire."""
    return struct.pack("<I", len(body))[:3] + bytes([number]) + body


def packet(answers: BinaryIO) -> tuple[int, bytes]:
    """The next packet: its number and what is in it. Raises SqlError, ConnectionError."""
    head = exactly(answers, 4)
    body = exactly(answers, int.from_bytes(head[:3], "little"))
    if body[:1] == b"\xff":
        text = body[3:].decode(errors="replace")
        # One that comes before the session has begun has no SQLSTATE.
        has_code = text.startswith("#")
        raise SqlError(text[1:6] if has_code else "08004", text[6:] if has_code else text)
    return head[3], body


def results(answers: BinaryIO, rows: list[Row]) -> bool:
    """Add the rows of the next result. True: there is another one."""
    _, body = packet(answers)
    if body[:1] == b"\0":
        _, at = length(body, 1)
        _, at = length(body, at)
        status = int.from_bytes(body[at : at + 2], "little")
        return bool(status & MORE_RESULTS)
    columns, _ = length(body, 0)
    assert columns is not None
    for _ in range(columns + 1):  # what they are called, and the end of that
        packet(answers)
    while True:
        _, body = packet(answers)
        if body[:1] == b"\xfe" and len(body) < 9:
            return bool(int.from_bytes(body[3:5], "little") & MORE_RESULTS)
        row: list[str | None] = []
        at = 0
        for _ in range(columns):
            size, at = length(body, at)
            row.append(None if size is None else body[at : at + size].decode(errors="replace"))
            at += size or 0
        rows.append(tuple(row))


def length(body: bytes, at: int) -> tuple[int | None, int]:
    """A length, and where what follows begins. None: there is nothing, not even of length 0."""
    first = body[at]
    if first < 0xFB:
        return first, at + 1
    if first == 0xFB:
        return None, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(body[at + 1 : at + 1 + size], "little"), at + 1 + size
