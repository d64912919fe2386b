"""Whether a server is spoken to with TLS that knows none, or without by one that knows nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

from statehold.drivers.redis.client.address import Address
from statehold.errors import ConfigError


async def check_scheme(
    address: Address, error: BaseException | None, *, secured: bool, seconds: float
) -> None:
    """Raise `ConfigError` if the server speaks as it was not spoken to.

    Asked when the first attempt to speak with it has failed with `error`, over a connection made for
    it that takes at most so many `seconds`.
    """
    if isinstance(error, ConnectionRefusedError | socket.gaierror):
        return
    found = False
    with contextlib.suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(seconds):
            found = await (_speaks_plainly(address) if secured else _speaks_tls(address))
    if not found:
        return
    means = (
        "it speaks without TLS; say redis:// instead of rediss://, or name its port for TLS"
        if secured
        else "it speaks TLS only; say rediss:// instead of redis://"
    )
    raise ConfigError(f"redis at {address}: {means}", field="url") from error


async def _speaks_plainly(address: Address) -> bool:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(b"PING\r\n")
        return await reader.read(1) in (b"+", b"-")
    finally:
        writer.transport.abort()


async def _speaks_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False  # nothing is said, and what is heard is not believed
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection(address.host, address.port, ssl=context)
    writer.transport.abort()
    return True
