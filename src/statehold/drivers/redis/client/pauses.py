"""How long to wait before something is tried again."""

from __future__ import annotations

from typing import Final

from statehold import clock

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.5


def pause(tries: int) -> float:
    """Seconds to wait after so many failures: up to 0.01 at first, growing to 0.5, never less than half."""
    return clock.pause(tries, FIRST_PAUSE, LONGEST_PAUSE, least=0.5)
