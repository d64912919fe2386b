"""Which servers a URL names: one by itself, a master behind Sentinel, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult

from statehold.drivers.redis.address import Mode, Options, target_of
from statehold.drivers.redis.cluster import Clustered
from statehold.drivers.redis.nodes import Alone, Connected, Made
from statehold.drivers.redis.sentinel import Watched
from statehold.drivers.redis.servers import Script, Servers

_TOPOLOGIES: dict[Mode, Made] = {"alone": Alone, "sentinel": Watched, "cluster": Clustered}


def open_servers(url: SplitResult, options: Options, scripts: Sequence[Script]) -> Servers:
    """The servers that a URL names; nothing is connected yet. Raises `ConfigError`."""
    target = target_of(url, options)
    return Connected(target, options, scripts, _TOPOLOGIES[target.mode])
