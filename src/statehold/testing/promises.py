"""The sixteen promises of a driver by number, and the mark that ties a case to one of them.

It knows no cases; `statehold.testing.contract` lists them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

import pytest

Failed: Final = pytest.fail.Exception
"""Where `pytest.raises` was not raised what it looks for."""

PROMISES: Final = {
    1: "atomic: no reader sees half a commit, a refused one leaves nothing",
    2: "exactly once: the same op id (idempotency key) twice has one effect and the same answer",
    3: "nothing is lost: racing writers leave every effect, `expect` has one winner, a life moves whole",
    4: "expiry is exact on read, and a late commit never resurrects",
    5: "bounded: `keep` and bounds hold exactly, order is commit order",
    6: "revisions never repeat: a new life is a new incarnation",
    7: "fencing: an older epoch (fencing token) than was seen is refused, and one holds a claim",
    8: "names are safe, and neighbours do not overlap",
    9: "down is not absent: a store that cannot answer raises Unavailable",
    10: "cancel-safe: applied or not, never half, and usable afterwards",
    11: "corruption is contained: reported, and the other fields are served",
    12: "delete deletes all of a state and nothing else",
    13: "no aliasing: what was read or written is never what is stored",
    14: "what is not declared is refused",
    15: "bulk calls answer for each key; closed is closed",
    16: "numbers, empty values and odd iterables are kept as they are",
}

Case = TypeVar("Case", bound=Callable[..., Any])


class promised:  # noqa: N801  it reads as a statement
    """What fails inside is about this promise, whatever the case is about: `with promised(4): ...`.

    Of several, one inside the other, the innermost says it.
    """

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is not None and broken(error) is None:
            vars(error)["promise"] = self.number


def broken(error: BaseException) -> int | None:
    """The promise that a failure is about, where it says so itself."""
    number = vars(error).get("promise")
    return number if isinstance(number, int) else None


def promise(number: int) -> Callable[[Case], Case]:
    """Mark a case as one of a promise; when it fails, the failure names the promise.

    What is raised and is no failed assertion, as where a hook does not work, breaks no promise that the
    case could tell: then it says which one it is about.
    A case that checks many things says by `promised` what each of them is about.
    """

    def mark(case: Case) -> Case:
        about = (case.__doc__ or "").strip().partition("\n")[0]

        @functools.wraps(case)
        def told(*args: Any, **kwargs: Any) -> Any:
            try:
                return case(*args, **kwargs)
            except (Exception, Failed) as error:
                failed = broken(error) or number
                said = "Broken promise"
                if broken(error) is None and not isinstance(error, AssertionError | Failed):
                    said = "An error that this case does not expect. It is about promise"
                error.add_note(f"{said} {failed}, {PROMISES[failed]}.\n{about}")
                raise

        vars(told)["promise"] = number
        return cast("Case", told)

    return mark
