"""States on Redis or Valkey: a state is a hash and some lists, a commit is one script.

`driver` is what a store calls. What it is asked becomes commands, which travel down this list, and the
replies become outcomes and cells on the way back (`docs/redis-commits.md` follows one):

    driver       the contract: opens, reads, commits, lists, and tells how far the server's clock is ahead
    check        whether the servers keep what they hold, and permit what is needed
    commands     commits as commands, and the replies as outcomes
    lives        whole lives as commands, and the replies as lives
    listing      pages of ids, bucket by bucket
    sweeping     what the indexes list that no longer lives
    cells        what a reader wants as an argument, and the replies as cells
    keys         what the keys of a state are called, and the fields of its hash
    values       values as they are stored; what the 64 bytes of a state's "." say
    failover     what was acknowledged, and what of it a new master lacks
    lua/         the scripts: what is done at the server
    client/      a Redis client that knows nothing of states: one server, Sentinel, Cluster
"""

from statehold.drivers.redis.driver import SETTINGS, RedisDriver, from_url

__all__ = ["SETTINGS", "RedisDriver", "from_url"]
