"""What some tests need that may be missing."""

from holdfast.testing.servers.finding import require

__all__ = ["require"]
