"""States in the memory of this process."""

from statehold.drivers.memory.driver import SETTINGS, MemoryDriver, from_url

__all__ = ["SETTINGS", "MemoryDriver", "from_url"]
