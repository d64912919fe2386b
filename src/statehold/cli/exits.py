"""What the command line's exit codes mean."""

from __future__ import annotations

from typing import Final, cast

from statehold.errors import ConfigError, Conflict, Fenced, NotAStore, Unavailable

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
ABSENT: Final = 3
CONFLICT: Final = 4
UNAVAILABLE: Final = 5
PENDING: Final = 6
INTERRUPTED: Final = 130

MEANINGS: Final[dict[int, str]] = {
    OK: "done",
    FAILED: "refused or failed; of a replay: lines were rejected",
    USAGE: "the command line or the configuration is wrong",
    ABSENT: "state not found",
    CONFLICT: "the state is not as expected, or a newer epoch has written it",
    UNAVAILABLE: "the store or the server cannot answer, or it is not a statehold store",
    PENDING: "of migrate --plan: there is something to do",
    INTERRUPTED: "interrupted",
}


def told(error: Exception) -> Exception:
    """The error to tell of: of several that came at once, the first."""
    found = error
    while isinstance(found, ExceptionGroup):
        found = cast("ExceptionGroup[Exception]", found).exceptions[0]
    return found


def exit_code(error: Exception) -> int:
    """The exit code for an error."""
    if isinstance(error, ConfigError):
        return USAGE
    if isinstance(error, Conflict | Fenced):
        return CONFLICT
    if isinstance(error, Unavailable | NotAStore):
        return UNAVAILABLE
    return FAILED


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
