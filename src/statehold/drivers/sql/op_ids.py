"""How long op ids are kept at least, and a commit as it is sent again: the same on every way to commit."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from statehold.commits import Commit

MARGIN: Final = 0.01
"""Seconds by which it is taken to have been sent earlier, since clocks are known only so well."""

RECENT_SECONDS: Final = 10.0
"""Op ids that were applied so short a time ago are not forgotten, …"""

MOST_OPS: Final = 512
"""… unless there are more of them, and more than a commit asks for."""

FORGET_EVERY: Final = 256
"""Op ids are forgotten when so many new ones have come, or half as many as a commit asks for."""


def sent_before(commit: Commit, since: float) -> Commit:
    """The commit as it is sent again. `since` is when it was first, by the database's clock."""
    since -= MARGIN
    return replace(commit, since=since if commit.since is None else min(since, commit.since))
