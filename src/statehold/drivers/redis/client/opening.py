"""Which servers a URL names: one by itself, a master behind Sentinel, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult

from statehold.drivers.redis.client.address import Mode, Options, target_of
from statehold.drivers.redis.client.cluster import Clustered
from statehold.drivers.redis.client.contract import Client, Script
from statehold.drivers.redis.client.loops import Connected
from statehold.drivers.redis.client.sentinel import Watched
from statehold.drivers.redis.client.single import Alone
from statehold.drivers.redis.client.topology import Made

_TOPOLOGIES: dict[Mode, Made] = {"alone": Alone, "sentinel": Watched, "cluster": Clustered}


def open_client(url: SplitResult, options: Options, scripts: Sequence[Script]) -> Client:
    """The servers that a URL names; nothing is connected yet. Raises `ConfigError`."""
    target = target_of(url, options)
    return Connected(target, options, scripts, _TOPOLOGIES[target.mode])
