"""The servers' error replies: what to do about each, and what it is in the words of statehold."""

from __future__ import annotations

import enum

from statehold.errors import (
    Busy,
    Closed,
    ConfigError,
    Corrupted,
    Full,
    Invalid,
    ReadOnly,
    StateholdError,
    Timeout,
    Unavailable,
)


class ErrorReply(Exception):
    """An error that a server answered."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text
        self.code, _, self.rest = text.partition(" ")


class Remedy(enum.Enum):
    """What helps. All but NONE mean that the command was not executed, so that it may be repeated."""

    NONE = "raise it"
    LOAD = "load the scripts and send it again"
    LATER = "send it again a little later"
    MASTER = "look for the master and send it there"
    MOVED = "send it to the node that the reply names, and learn the map anew"
    ASK = "send it to the node that the reply names, this once"
    LATE = "send it again with the server's time in the reply"


_REMEDIES = {
    "NOSCRIPT": Remedy.LOAD,
    "LOADING": Remedy.LATER,
    "BUSY": Remedy.LATER,
    "TRYAGAIN": Remedy.LATER,
    "CLUSTERDOWN": Remedy.LATER,
    "NOREPLICAS": Remedy.LATER,
    "READONLY": Remedy.MASTER,
    "MASTERDOWN": Remedy.MASTER,
    "MOVED": Remedy.MOVED,
    "ASK": Remedy.ASK,
    "LATE": Remedy.LATE,
}
_AWAY = "non local key"
"""What a script says that came upon a key at another node; none of ours has written by then."""

_LOGIN = "wrong user name or password"
_NO_LOGIN = "it asks for a password: say redis://:password@host or redis://name:password@host, or password_file"
_NOT_ALLOWED = "its access list does not allow this"
_LEAVES: dict[str, tuple[type[StateholdError], str]] = {
    "OOM": (Full, "no memory is left (maxmemory); nothing was written"),
    "MISCONF": (Full, "it cannot write to its disk and takes no commits; nothing was written"),
    "READONLY": (ReadOnly, "it is a replica, which may be read but not written"),
    "BUSY": (Busy, "somebody's script held it for longer than the timeout; nothing was written"),
    "LOADING": (Unavailable, "it is still reading its data from the disk"),
    "MASTERDOWN": (Unavailable, "it is a replica that has lost its master"),
    "CLUSTERDOWN": (Unavailable, "the cluster does not serve the slot of this key"),
    "TRYAGAIN": (Unavailable, "the slot of this key is being moved between nodes"),
    "NOREPLICAS": (Unavailable, "too few replicas are connected (min-replicas-to-write)"),
    "MOVED": (Unavailable, "the nodes of the cluster name each other as the owner of a slot"),
    "ASK": (Unavailable, "the nodes of the cluster name each other as the owner of a slot"),
    "LATE": (Timeout, "it came after its time was over, and was not executed then"),
    "NOSCRIPT": (Unavailable, "it forgets its scripts as soon as they are loaded"),
    "WRONGPASS": (ConfigError, _LOGIN),
    "NOAUTH": (ConfigError, _NO_LOGIN),
    "NOPERM": (ConfigError, _NOT_ALLOWED),
    "DENIED": (ConfigError, "it is in protected mode and takes no connections from here"),
    "WRONGTYPE": (Corrupted, "what is stored under one of the keys is of another kind"),
}


def remedy(reply: ErrorReply) -> Remedy:
    """What helps against this reply."""
    found = _REMEDIES.get(reply.code, Remedy.NONE)
    return Remedy.LATER if found is Remedy.NONE and _AWAY in reply.text else found


def time_in(reply: ErrorReply) -> float:
    """The server's time in a LATE, epoch seconds."""
    return int(reply.rest) / 1e6


_IN_WORDS: tuple[tuple[str, type[StateholdError], str], ...] = (
    ("unauthenticated", ConfigError, _NO_LOGIN),
    ("without any password configured", ConfigError, "it asks for no password, and one was given"),
    (_AWAY, Unavailable, "the slot of this key is being moved between nodes"),
    ("ACL failure", ConfigError, _NOT_ALLOWED),  # of a command within a script
    ("AUTH", ConfigError, _LOGIN),
    ("invalid password", ConfigError, _LOGIN),
    ("DB index", ConfigError, "database not found"),
    ("cluster support disabled", ConfigError, "it is no node of a cluster"),
    ("unknown command", ConfigError, "it does not know a command that is needed"),
    ("max number of clients", Unavailable, "it takes no more connections"),
)
"""What the servers tell apart in words only."""


def translated(reply: ErrorReply, where: object, user: str | None = None) -> StateholdError:
    """The reply as a leaf of `StateholdError` that names the server and, if it matters, the user."""
    kind, meaning = _LEAVES.get(reply.code, (Unavailable, "it answered with an error"))
    if reply.code not in _LEAVES:
        for words, its, means in _IN_WORDS:
            if words in reply.text:
                kind, meaning = its, means
                break
    who = f" for user {user or 'default'!r}" if meaning in (_LOGIN, _NOT_ALLOWED) else ""
    error = kind(f"redis at {where}: {meaning}{who} ({_quotable(reply.text)})")
    error.__cause__ = reply
    return error


NOT_DONE = (Busy, Full, ReadOnly, ConfigError, Invalid, Closed)
"""Errors that say, or are taken to say, that nothing was written."""


def in_doubt(error: Exception, what: str = "whether it was executed is not known") -> Exception:
    """The error of a request that may have been executed, whatever was said of its last sending."""
    if not isinstance(error, NOT_DONE):
        return error
    found: StateholdError
    if isinstance(error, Closed):
        found = Closed(f"{error}; {what}")
    else:
        refusal = error.__cause__ if isinstance(error.__cause__, ErrorReply) else None
        code = error.code if refusal is None else refusal.code
        found = Unavailable(f"redis: it was not executed this time ({code}); {what}")
    found.__cause__ = error
    return found


def _quotable(text: str) -> str:
    """The reply without what it quotes of the command, which may be a user's data."""
    text = text.partition(", with args beginning")[0].replace("\n", " ")
    return text if len(text) <= 200 else text[:200] + "…"


def redirect(reply: ErrorReply) -> tuple[int, str, int] | None:
    """Slot, host and port of a MOVED or ASK; None if it cannot be read. An empty host: the same."""
    parts = reply.rest.split(" ")
    host, _, port = parts[-1].rpartition(":")
    if len(parts) < 2 or not parts[0].isdecimal() or not port.isdecimal():
        return None
    return int(parts[0]), host.strip("[]"), int(port)
