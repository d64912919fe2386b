"""A few synchronous words with PostgreSQL: enough to run a statement, no client library.

The messages are those of the protocol's version 3, the simple query. There is no password: the
servers of the kit trust whoever can reach 127.0.0.1.
"""

from __future__ import annotations

import socket
import struct
from typing import BinaryIO

from statehold.testing.servers.database import Row, SqlError
from statehold.testing.servers.exactly import exactly


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
    with socket.create_connection(address, timeout) as connection:
        words = b"\0".join(word.encode() for word in ("user", user, "database", database, "", ""))
        connection.sendall(framed(b"", struct.pack("!i", 196608) + words))
        with connection.makefile("rb") as answers:
            until_ready(answers)
            connection.sendall(framed(b"Q", statements.encode() + b"\0"))
            rows = until_ready(answers)
        connection.sendall(framed(b"X", b""))
    return rows


def framed(kind: bytes, body: bytes) -> bytes:
    """A message on the wire."""
    return kind + struct.pack("!i", len(body) + 4) + body


def until_ready(answers: BinaryIO) -> list[Row]:
    """The rows that come before the server is ready for the next query. Raises SqlError."""
    rows: list[Row] = []
    problem: SqlError | None = None
    while True:
        try:
            head = exactly(answers, 5)
        except ConnectionError as end:
            # What goes wrong before the session has begun is not followed by "ready".
            raise problem or end from None
        body = exactly(answers, struct.unpack("!i", head[1:])[0] - 4)
        match head[:1]:
            case b"Z":
                break
            case b"D":
                rows.append(columns(body))
            case b"E":
                said = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
                problem = SqlError(said[b"C"], said[b"M"])
            case b"R" if body != b"\0\0\0\0":
                raise SqlError("28000", "the server asks for a password")
            case _:
                pass
    if problem is not None:
        raise problem
    return rows


def columns(body: bytes) -> Row:
    """The columns of a DataRow message."""
    row: list[str | None] = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        length = struct.unpack_from("!i", body, at)[0]
        at += 4
        if length < 0:
            row.append(None)
        else:
            row.append(body[at : at + length].decode())
            at += length
    return tuple(row)
