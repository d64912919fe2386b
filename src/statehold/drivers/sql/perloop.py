"""What belongs to one event loop: see `statehold.perloop`."""

from statehold.perloop import PerLoop, hang_up, let_go, nothing

__all__ = ["PerLoop", "hang_up", "let_go", "nothing"]
