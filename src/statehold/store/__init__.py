"""The sync and async API: `AsyncStore` and `AsyncCollection`, `Store` and `Collection` for synchronous callers."""

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
