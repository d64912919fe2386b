"""States by the names and JSON of the outside: through the library, or through a server.

What the command line and `replay` do is the same either way:

    base         what can be done with a state, whichever way it is reached
    local        through the library: `Local` opens the backend itself and knows the classes
    remote       through a running server: `Remote` speaks HTTP and knows neither backend nor classes
"""

from statehold.client.base import Access, Applied
from statehold.client.local import Local

__all__ = ["Access", "Applied", "Local"]
