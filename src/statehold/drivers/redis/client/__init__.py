"""A client for Redis and Valkey that knows nothing of states: commands in, replies out, nothing twice.

`open_client` makes it from a URL; `Client` in `contract` says what it does, and every error that it raises.
A command travels down this list, and its reply comes back the same way:

    opening      which topology a URL names; the one file that knows all of them
    loops        the client from any event loop: a topology for each, calls and their confirmations
    single · sentinel · cluster     the topologies: which link has the slot of a command, and where its server is
    topology     what these have in common, and what those of all event loops share
    link         one server that is reached whatever happens: what waits, what is sent again, what fails
    waiting      what waits for a connection, or for a pause to end
    leftover     lost connections, ended at the server before their requests are sent again
    handshake    a new connection: reach the server, say who one is, load the scripts
    connection   bytes out in batches, replies in, each to the request that waits for it

What all of them use: `contract` (the client as its users see it), `address` (what a URL and settings say),
`errors` (what an error reply means, and what helps), `clocks` (what time it is at a server), `stamps` (what a
command tells it of time), `schemes` (whether it speaks TLS), `pauses` (how long to wait before another try).
"""

from statehold.drivers.redis.client.address import CONNECTION, Options
from statehold.drivers.redis.client.contract import (
    UNSTAMPED,
    Ask,
    Client,
    Command,
    Script,
    slot_of,
)
from statehold.drivers.redis.client.opening import open_client

__all__ = [
    "CONNECTION",
    "UNSTAMPED",
    "Ask",
    "Client",
    "Command",
    "Options",
    "Script",
    "open_client",
    "slot_of",
]
