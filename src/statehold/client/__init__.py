"""Reaching states by the names and JSON of the outside: through the library, or through a server.

What the command line and `replay` do is the same either way. `Local` opens the backend itself and
knows the classes; `client.remote.Remote` speaks to a running server and knows neither.
"""

from statehold.client.base import Access, Applied
from statehold.client.local import Local

__all__ = ["Access", "Applied", "Local"]
