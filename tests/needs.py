"""What some tests need that may be missing."""

from statehold.testing.servers.finding import require

__all__ = ["require"]
