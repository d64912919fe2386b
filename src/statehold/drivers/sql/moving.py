"""Whether a server that takes no writes is news: another one may be at its address by now."""

from __future__ import annotations

import time
from typing import Any, Final

SETTLED_SECONDS: Final = 5.0
"""For so long nobody looks again."""


class Moves:
    """What is known of where the server is.

    A primary that was demoted stays up and takes no writes; what is connected to it goes on reading
    old states, while new connections lead to the new primary. So a refusal to write is a reason to
    connect anew, unless that was done just now, and led to where nothing may be written either.
    """

    def __init__(self) -> None:
        self._settled = -SETTLED_SECONDS

    def is_news(self) -> bool:
        """Whether it is worth while to connect anew."""
        return time.monotonic() - self._settled > SETTLED_SECONDS

    def settle(self) -> None:
        """New connections lead to a server that takes no writes either."""
        self._settled = time.monotonic()


def takes_writes(connection: Any) -> bool:
    """Whether the server takes writes, as it tells its clients by itself from PostgreSQL 14 on."""
    said = connection.get_settings()
    return "on" not in (
        getattr(said, "in_hot_standby", None),
        getattr(said, "default_transaction_read_only", None),
    )
