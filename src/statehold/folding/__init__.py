"""One commit on one life of a state: what every place that folds commits does alike.

`admit` says what bars a commit, `advance` what the head of a life is after it, `cut` what of the
cells is wanted. A driver that keeps states in rows puts them together around what it loads, and gives
`Change.into` a `Part` of the entries and the `Ends` of the lists; who keeps a state whole (a journal,
an owner, a cache, a simulation) runs `step`, which is all of it. Of several commits that stand or fall
together `all_stand` says whether they do, and `undone` what each is told if not; `step_together` is
`step` for them. A whole life that comes from elsewhere is judged by `admit_life`; `install` is all of it.

Everything here is pure: the time is given, and so is the number of a new life, if it matters.

    admission    what bars a commit, and what the head of a life is after it
    fencing      what outlives a state of its epochs
    parts        cells of which only a part is loaded, and what of a state's cells is wanted
    together     commits that stand or fall together
    lives        states in one piece: `step`, and lives as bytes
    whole        whole lives that come from elsewhere
"""

from statehold.folding.admission import (
    Applied,
    Head,
    Headed,
    Look,
    Past,
    admit,
    advance,
    ended_at,
    is_over,
    looking,
    recalled,
    refused,
    remember,
    revision_of,
    written,
)
from statehold.folding.fencing import (
    NO_FENCE,
    Fence,
    claimed,
    fenced,
    left_behind,
    seen,
)
from statehold.folding.lives import NEVER_LIVED, Life, install, pack, step, unpack
from statehold.folding.parts import Ends, Part, cut
from statehold.folding.together import all_stand, step_together, undone
from statehold.folding.whole import (
    INSTALLED,
    NOT_COUNTED,
    admit_life,
    cells_within,
    fence_with,
    forgets,
    head_of,
    whole,
)

__all__ = [
    "INSTALLED",
    "NEVER_LIVED",
    "NOT_COUNTED",
    "NO_FENCE",
    "Applied",
    "Ends",
    "Fence",
    "Head",
    "Headed",
    "Life",
    "Look",
    "Part",
    "Past",
    "admit",
    "admit_life",
    "advance",
    "all_stand",
    "cells_within",
    "claimed",
    "cut",
    "ended_at",
    "fence_with",
    "fenced",
    "forgets",
    "head_of",
    "install",
    "is_over",
    "left_behind",
    "looking",
    "pack",
    "recalled",
    "refused",
    "remember",
    "revision_of",
    "seen",
    "step",
    "step_together",
    "undone",
    "unpack",
    "whole",
    "written",
]
