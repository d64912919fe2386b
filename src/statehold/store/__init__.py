"""The sync and async API: `AsyncStore` and `AsyncCollection`, `Store` and `Collection` for synchronous callers.

A call goes down this list to the driver:

    stores       `AsyncStore` and `Store`: a backend, opened
    sync         `Collection` and `Session`: the calls of `collection`, for synchronous callers
    collection   `AsyncCollection`: the states of one class; the one core of both APIs
    session      `AsyncSession`: one read and one commit around a block
    lease        `AsyncLease` and `Lease`: the right to be the only writer of a state, for a while
    together     `apply_together`: one commit over several states
    base         what all of these go through to the driver
    opened       what is opened once for all of these: kinds, doubts, leases, until it is closed

What they use: `asking` (what callers say, as commits and wants), `names` (what may be said), `outcomes` (what
callers are told), `doubts` (which op ids may have been applied), `turns` (turns for other tasks), `sharing`
(one driver under a store of either API).
"""

from statehold.store.collection import AsyncCollection
from statehold.store.lease import AsyncLease, Lease
from statehold.store.names import hashed_id
from statehold.store.outcomes import Committed
from statehold.store.session import AsyncSession
from statehold.store.stores import AsyncStore, Store
from statehold.store.sync import Collection, Session
from statehold.store.together import Step

__all__ = [
    "AsyncCollection",
    "AsyncLease",
    "AsyncSession",
    "AsyncStore",
    "Collection",
    "Committed",
    "Lease",
    "Session",
    "Step",
    "Store",
    "hashed_id",
]
