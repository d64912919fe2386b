"""Commits that stand or fall together: what each is told, from what it would come to by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from statehold.commits import Commit, new_incarnation
from statehold.driver import Doubtful, Outcome, Reused, Undone, Written
from statehold.folding.lives import Life, step


def all_stand(outcomes: Sequence[Outcome]) -> bool:
    """Whether they are to be written."""
    return all(isinstance(one, Written) and not one.repeated for one in outcomes)


def undone(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """What they are told where they are not; see `CommitsTogether.commit_together`."""
    if any(isinstance(one, Written) and one.repeated for one in outcomes):
        return [one if _is_remembered(one) else Doubtful() for one in outcomes]
    return [Undone() if isinstance(one, Written) else one for one in outcomes]


def _is_remembered(outcome: Outcome) -> bool:
    return isinstance(outcome, Reused) or (isinstance(outcome, Written) and outcome.repeated)


def step_together(
    lives: Sequence[Life],
    commits: Sequence[Commit],
    now: float,
    born: Callable[[], int] = new_incarnation,
) -> tuple[Sequence[Life], list[Outcome]]:
    """The states after commits that stand or fall together, one to each, and what became of these."""
    steps = [step(life, commit, now, born) for life, commit in zip(lives, commits, strict=True)]
    outcomes = [outcome for _, outcome in steps]
    if all_stand(outcomes):
        return [life for life, _ in steps], outcomes
    return lives, undone(outcomes)
