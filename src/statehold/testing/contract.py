"""The page that lists every promise with its cases: `docs/contract.md`.

`python -m statehold.testing.contract` prints it.
"""

from __future__ import annotations

from typing import Final

from statehold.testing.conformance import DriverConformance, DriverLevel
from statehold.testing.promises import PROMISES

HEAD: Final = """\
# The contract of a driver

Every driver keeps these sixteen promises. They are the cases of
`statehold.testing.DriverConformance`, which ships with the package: a driver of your own is proved by
subclassing it (see `statehold.testing`). Cases run at the level of the driver, or through the async and
the sync API, `AsyncStore` and `Store`. A case that fails says which promise is broken.

This page is made from the cases by `python -m statehold.testing.contract`.
"""


def page() -> str:
    """Every promise with its cases, in Markdown."""
    cases: dict[int, list[str]] = {number: [] for number in PROMISES}
    for name in dir(DriverConformance):
        case = getattr(DriverConformance, name)
        number: int | None = getattr(case, "promise", None)
        if number is not None:
            level = "driver" if hasattr(DriverLevel, name) else "both APIs"
            about = " ".join((case.__doc__ or "").split()).replace("|", "\\|")
            cases[number].append(f"| `{name}` | {level} | {about} |")
    lines = [HEAD]
    for number, promised in PROMISES.items():
        title, _, rest = promised.partition(": ")
        lines += [f"## {number}. {title[0].upper()}{title[1:]}", ""]
        lines += [f"{rest[0].upper()}{rest[1:]}.", ""] if rest else []
        lines += ["| case | run at | what it protects |", "|---|---|---|"]
        lines += [*sorted(cases[number], key=lambda row: ("both APIs" in row, row)), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    print(page(), end="")  # noqa: T201
