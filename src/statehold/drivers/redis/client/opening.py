"""Which servers a URL names: one by itself, a master behind Sentinel, or a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import SplitResult

from statehold.drivers.redis.client.address import Mode, Options, target_of
from statehold.drivers.redis.client.cluster import Cluster
from statehold.drivers.redis.client.contract import Client, Script
from statehold.drivers.redis.client.loops import LoopClients
from statehold.drivers.redis.client.sentinel import Sentinel
from statehold.drivers.redis.client.single import Single
from statehold.drivers.redis.client.topology import MakeTopology

_TOPOLOGIES: dict[Mode, MakeTopology] = {"single": Single, "sentinel": Sentinel, "cluster": Cluster}


def open_client(url: SplitResult, options: Options, scripts: Sequence[Script]) -> Client:
    """The servers that a URL names; nothing is connected yet. Raises `ConfigError`."""
    target = target_of(url, options)
    return LoopClients(target, options, scripts, _TOPOLOGIES[target.mode])
