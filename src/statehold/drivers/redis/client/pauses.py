"""How long to wait before something is tried again."""

from __future__ import annotations

import random

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5


def pause(tries: int) -> float:
    """Seconds to wait after so many failures: growing to half a second, and never in step."""
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(tries, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
