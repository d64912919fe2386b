"""What all routes share: the store and its kinds, the settings, the hub, what is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from statehold.commits import Want
from statehold.config import ServerConfig
from statehold.driver import Cells
from statehold.errors import ConfigError
from statehold.middleware.choosing import layer
from statehold.middleware.metrics import Histogram, Metrics, Sample
from statehold.server.access import Access
from statehold.server.hub import Hub
from statehold.server.sweeping import Sweeping
from statehold.state import Home, State
from statehold.store import AsyncCollection, AsyncStore

COLLECTIONS: Final = 1024
"""How many tenants' collections are held at once."""


class Service:
    """A store as it is served."""

    def __init__(
        self, store: AsyncStore, kinds: Mapping[str, type[State]], config: ServerConfig
    ) -> None:
        if not kinds:
            raise ConfigError("kinds: none to serve", field="kinds")
        found = layer(store.driver, Metrics)  # the configuration may have asked for it
        self.metrics = found or Metrics(store.driver)
        self.store = AsyncStore(store.driver if found else self.metrics, clock=store.clock)
        self.kinds = dict(kinds)
        self.config = config
        self.access = Access(config)
        self.hub = Hub(config.max_watchers)
        self.sweeping = Sweeping(self.store, config.sweep_interval)
        self.requests: Counter[tuple[str, int]] = Counter()
        self.took: dict[str, Histogram] = {}
        self._homes = {kind: Home(store.clock, store.driver) for kind in kinds}
        self._collections: dict[tuple[str, str], AsyncCollection[Any]] = {}

    def collection(self, kind: str, tenant: str) -> AsyncCollection[Any]:
        """The states of a kind, for a tenant whose name was checked."""
        found = self._collections.get((kind, tenant))
        if found is None:
            if len(self._collections) >= COLLECTIONS:
                self._collections.clear()
            home = self._homes[kind]
            found = AsyncCollection(self.store, self.kinds[kind], tenant, home=home)
            self._collections[kind, tenant] = found
        return found

    async def peek(self, key: tuple[str, str, str]) -> Cells | None:
        """What is known of a state beside its fields, without renewing it."""
        want = Want(fields=())
        return (await self.store.driver.read([key], want, self.store.clock.now()))[0]

    def count(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self.requests[route, status] += 1
        took = self.took.get(route)
        if took is None:
            took = self.took[route] = Histogram()
        took.observe(seconds)

    def samples(self) -> Iterator[Sample]:
        """All metrics."""
        yield Sample(
            "statehold_http_requests_total",
            "counter",
            "Requests answered, by route and status.",
            {
                (("route", route), ("status", str(status))): count
                for (route, status), count in self.requests.items()
            },
        )
        yield Sample(
            "statehold_http_request_seconds",
            "histogram",
            "How long requests took, by route; watches are left out.",
            {(("route", route),): took for route, took in self.took.items() if route != "watch"},
        )
        yield Sample(
            "statehold_watchers", "gauge", "Watches at this time.", {(): self.hub.watchers}
        )
        yield Sample(
            "statehold_swept_states_total",
            "counter",
            "States that had ended and were cleared away by the server itself.",
            {(): self.sweeping.removed},
        )
        yield Sample(
            "statehold_sweep_failures_total",
            "counter",
            "Rounds of clearing away that ended with an error.",
            {(): self.sweeping.failed},
        )
        yield Sample(
            "statehold_corrupted_values_total",
            "counter",
            "Values met that could not be decoded, by kind.",
            {(("kind", kind),): home.corrupted for kind, home in self._homes.items()},
        )
        yield from self.metrics.samples()
