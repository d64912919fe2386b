"""States in the memory of this process.

driver       the contract: calls under one lock
committing   what commits, reads and whole lives do to the states
kept         the states, the byte budget, and all else that is kept beside them
slots        a stored state
layered      the entries of a large field, of which a commit copies few
past         what is remembered of op ids, and of lives that have ended
buckets      when states are due: to expire, or to be evicted
listing      the ids of a kind in order
before       states as they were, to be put back after an interrupt
forking      whole states and an open lock in a child process
"""

from statehold.drivers.memory.driver import SETTINGS, MemoryDriver, from_url

__all__ = ["SETTINGS", "MemoryDriver", "from_url"]
