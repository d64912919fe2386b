"""Reading from a server that may hang up half-way."""

from __future__ import annotations

from typing import BinaryIO


def exactly(answers: BinaryIO, size: int) -> bytes:
    """The next `size` bytes. Raises ConnectionError if the server closes before they are there."""
    found = answers.read(size)
    if len(found) < size:
        raise ConnectionError("the server closed the connection")
    return found
