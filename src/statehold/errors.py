"""The errors of statehold: one root, one leaf for each thing that a caller can decide about.

Every error carries what it is about (`key`, `field`, `expected`, `found`), a stable `code` that the
server uses too, and `retryable`: whether the same call may succeed later without being changed.
Leaves also subclass the builtin that people expect.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeVar

E = TypeVar("E", bound=BaseException)


class StateholdError(Exception):
    """The root. `str(error)` is one sentence that names the field, what was found and the limit."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        key: Any = None,
        field: str | None = None,
        expected: Any = None,
        found: Any = None,
    ) -> None:
        super().__init__(message)
        self.key = key
        self.field = field
        self.expected = expected
        self.found = found


def own(error: E) -> E:
    """The same error as an object of its own, for one of several callers whom it concerns.

    Each adds to the object that it gets: a traceback, a note, the key it asked for. An error of
    third parties that cannot be copied stays the same object.
    """
    import copy

    try:
        made = copy.copy(error)
    except Exception:  # noqa: BLE001  its class needs to be told more, which only it knows
        return error
    if type(made) is not type(error):
        return error
    if hasattr(error, "__notes__"):
        made.__notes__ = list(error.__notes__)
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made.with_traceback(error.__traceback__)


class SchemaError(StateholdError, TypeError):
    """A state class cannot be: no ttl, a bound missing, worst-case size over its limit."""

    code = "schema"


class ConfigError(StateholdError, ValueError):
    """A setting, a URL or a configuration file is wrong; the message names it."""

    code = "config"


class Invalid(StateholdError, ValueError):
    """A value, id, op id or argument is not acceptable; nothing was written."""

    code = "invalid"


class TooLarge(StateholdError, ValueError):
    """A bound would be broken: bytes of a value, entries of a field, range of a number."""

    code = "too_large"


class Conflict(StateholdError, RuntimeError):
    """The state was not at the expected revision; `found` is the one it is at.

    Or a list had not the items that were to be replaced, or none in that position.
    """

    code = "conflict"


class Fenced(StateholdError, RuntimeError):
    """A newer epoch (fencing token) has written this state; `found` is that epoch."""

    code = "fenced"


class Leased(StateholdError, RuntimeError):
    """Another holds the lease: `found` is its epoch, and `left` for how many seconds more."""

    code = "leased"
    retryable = True

    def __init__(self, message: str, *, left: float = 0.0, **about: Any) -> None:
        super().__init__(message, **about)
        self.left = left


class Reused(StateholdError, ValueError):
    """The idempotency key (`op`) stands for something else already; nothing was written."""

    code = "reused"


class Repeated(StateholdError, RuntimeError):
    """What the idempotency key (`op`) stands for was done before; `found` is the revision it made.

    Raised by `transact`, which cannot say again what its function returned then.
    """

    code = "repeated"


class Corrupted(StateholdError, ValueError):
    """What is stored cannot be read as what it should be."""

    code = "corrupted"


class Unsupported(StateholdError, NotImplementedError):
    """The driver does not declare this feature."""

    code = "unsupported"


class Closed(StateholdError, RuntimeError):
    """The store was closed."""

    code = "closed"


class WrongThread(StateholdError, RuntimeError):
    """A synchronous call from the thread of the event loop that would have to answer it.

    Nothing was done: it would have waited for itself. Await the asynchronous API there.
    """

    code = "wrong_thread"


class Unavailable(StateholdError, ConnectionError):
    """The store cannot answer. Never the same as absent."""

    code = "unavailable"
    retryable = True


class Timeout(Unavailable, TimeoutError):
    """The store did not answer in time; whether it wrote is not known (retry with the op id)."""

    code = "timeout"


class InDoubt(Timeout):
    """It was sent before, and the state has forgotten too much to say whether it was written.

    Nothing was written now, and repeating it will not tell: read the state to decide.
    """

    code = "in_doubt"
    retryable = False


class Busy(Unavailable):
    """Another writer held the store for longer than the busy timeout; nothing was written."""

    code = "busy"


class Full(Unavailable):
    """The store has no room left; nothing was written."""

    code = "full"


class ReadOnly(Unavailable, PermissionError):
    """The store may be read but not written."""

    code = "read_only"
    retryable = False


NOTHING_WRITTEN: Final = (Busy, Full, ReadOnly, ConfigError, Invalid)
"""Errors that say that nothing was written."""


class NotAStore(StateholdError, ValueError):
    """What was opened is not a statehold store, or one of a newer version; it was left untouched."""

    code = "not_a_store"


class Tampered(StateholdError, ValueError):
    """A token is not to be trusted: altered, cut, moved here, of an unknown key, of the future."""

    code = "tampered"


class Stale(StateholdError, ValueError):
    """A token is genuine, but newer ones were issued since, or what vouches for it is gone."""

    code = "stale"


class Revoked(StateholdError, ValueError):
    """A token is genuine, but its session, or everything issued so early, was revoked."""

    code = "revoked"


class Newer(StateholdError, ValueError):
    """A token was written by a newer version of the class, which this one cannot read."""

    code = "newer"
