"""The client as its users see it: what it takes, what it answers, and every error that it raises."""

from __future__ import annotations

import binascii
import hashlib
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

import msgspec

Command: TypeAlias = tuple[bytes | str | int, ...]
SLOTS = 16384


STAMP = struct.Struct("<ddB")
"""The last argument of a script that is `stamped`: until when it may be executed, and since when it
may have been (microseconds by the server's clock, 0 for none); and whether the server is a node of a
cluster (1), and the slot said to be on its way there (2)."""
UNSTAMPED = bytes(STAMP.size)
"""What stands in the place of a `STAMP` until the command is sent."""


class Script(msgspec.Struct, frozen=True):
    """A Lua script that each server is given when a connection is made."""

    name: str
    text: str
    sha: str
    writes: bool
    """Whether replicas are to confirm it (`wait_replicas`)."""

    @classmethod
    def of(cls, name: str, text: str, *, writes: bool) -> Script:
        """The script with its digest."""
        return cls(name, text, hashlib.sha1(text.encode()).hexdigest(), writes)  # noqa: S324  Redis's name for it


Ask: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Ask one server these things at once; an error takes the place of a reply. Raises `Timeout`."""
Newcomer: TypeAlias = Callable[[Ask, Callable[[int], bool]], Awaitable[None]]
"""Called with a means to ask a server that was none of the masters, and whether it has a slot."""


class Client(ABC):
    """One server, a master that sentinels watch, or a cluster.

    May be used from any event loop, one after the other or at once; each has connections of its
    own. They end with their loop at the latest.
    """

    clustered: bool
    """Whether slots may move between servers."""

    @property
    @abstractmethod
    def generation(self) -> int:
        """Goes up whenever slots may have another master than before, in a cluster."""

    @abstractmethod
    def before_newcomers(self, look: Newcomer) -> None:
        """From now on `look` is awaited before anything else is sent to another master than before."""

    @abstractmethod
    def ahead(self) -> float | None:
        """Seconds by which the masters' clocks are ahead of the monotonic one, at least, if known."""

    @abstractmethod
    async def call(
        self, slot: int, command: Command, *, repeatable: bool, stamped: bool = False
    ) -> Any:
        """The reply: bytes, int, None, or a list of these.

        What the tasks of one tick send leaves in one write per connection, in order. `slot` is that
        of the command's keys, which only a cluster looks at.

        A reply that means "not executed" (a script that must be loaded, a slot that has moved, a
        server that is loading, a replica where a master was) is followed or the command repeated,
        with growing pauses, until `timeout`. So is a command that was never written. One whose
        connection is lost before the reply is sent again only if `repeatable`.

        With `stamped` the command's last argument is `UNSTAMPED`, and says at each sending until
        when the script may be executed, which is when this call ends, and since when it may have
        been, by the clock of the server that it is sent to. The script answers what comes too late
        with the error LATE and its time, and what it finds elsewhere with TRYAGAIN.

        Raises:
            Timeout: Sent, and no answer in time; or it stands on the master, but fewer than
                `wait_replicas` have confirmed it. It may have been executed.
            Unavailable: No server could be reached in time; or the connection was lost and the
                command is not `repeatable`, or was refused when it was sent again. Where it may
                have been executed the text says so.
            Busy: `max_pending` commands wait already; it was not sent.
            Full: The server is out of memory or disk; nothing was written.
            ReadOnly: It is a replica, and no master was found in time.
            ConfigError: The server refuses the credentials, or does not permit the command.
            Corrupted: A key holds something of another type.
            Invalid: A part of the command cannot be encoded; nothing was sent.
            Closed: After `close`; the text says if the command may have been executed.
        """

    @abstractmethod
    async def call_many(
        self,
        commands: Sequence[tuple[int, Command]],
        *,
        repeatable: bool,
        stamped: bool = False,
    ) -> list[Any]:
        """The replies to several commands, each with its slot: they leave together, and each as `call` says.

        More of them than may wait go out in waves, each with the whole `timeout`, until one fails.
        The replies come in order. When all are settled, the first error, if any, is raised.
        """

    @abstractmethod
    async def ask_all(self, command: Command) -> list[tuple[str, Any]]:
        """The address of each master and its reply. Raises as `call` does."""

    @abstractmethod
    async def ask_master(self, number: int, command: Command) -> Any:
        """The reply of one of the masters, which are in some order; None beyond the last. Raises as `call` does."""

    @abstractmethod
    async def close(self) -> None:
        """Release everything. Calls that wait fail with `Closed`; closing twice is fine."""

    @abstractmethod
    def stats(self) -> dict[str, int | float]:
        """Counters of all connections since the beginning, and how many commands wait now."""


def slot_of(tag: bytes) -> int:
    """The slot of a key whose hash tag (what stands between the braces) is this."""
    return binascii.crc_hqx(tag, 0) % SLOTS
