"""The faces: `AsyncStore` and `AsyncCollection`, `Store` and `Collection` for synchronous callers."""

from holdfast.store.aio import AsyncStore
from holdfast.store.collection import AsyncCollection, Committed
from holdfast.store.session import AsyncSession
from holdfast.store.sync import Collection, Session, Store

__all__ = [
    "AsyncCollection",
    "AsyncSession",
    "AsyncStore",
    "Collection",
    "Committed",
    "Session",
    "Store",
]
