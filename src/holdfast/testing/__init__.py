"""The kit that proves drivers, and the tools to test a service that uses holdfast.

A driver's test file is a class and one fixture, which returns the driver's `Place`:

```python
import pytest
from holdfast.testing import DriverConformance, Place

class TestMyDriver(DriverConformance):
    @pytest.fixture
    def place(self, tmp_path):
        path = str(tmp_path / "state.db")
        return Place(
            open=lambda: MyDriver(path),          # a fresh driver on the same data, each time
            recipe="my_package:MyDriver",         # for other processes: an importable callable …
            arguments=(path,),                    # … and what it is called with (JSON)
        )
```

`place` is asked for once per case, so each case has data of its own (`tmp_path`, a random prefix).
All hooks of a `Place`, and when they are needed:

| hook | what it does | needed |
|---|---|---|
| `open()` | returns a new, open driver. Called again, it returns one on the same data if the driver is `SHARED` or `DURABLE` | always |
| `recipe`, `arguments` | `"module:callable"` and its positional arguments, JSON values: the same as `open`, for a process that has nothing but these | `SHARED` or `DURABLE` |
| `own_clock` | None: the driver believes the `now` that it is given. Seconds (0.25, say): it has a clock of its own, and this is the unit of time in which the kit really waits; a state lives for 2 to 10 units | stores with a clock |
| `outage()` | a context manager; while it is open the store cannot answer | if it can be arranged |
| `corrupt(key, field)` | makes what is stored for that field unreadable to the driver, behind its back | if the driver itself decodes anything |

A case whose feature the driver does not declare, or whose optional hook the place does not have, is
skipped and says which. The rounds of races and crashes are modest; `HOLDFAST_ROUNDS=20` in the
environment makes them twenty times as many (and lets Hypothesis look twenty times as long).

The names here are imported on first use, so that the pytest plugin costs a session nothing.

* `DriverConformance` (`holdfast.testing.conformance`): every line of the contract, see
  `docs/contract.md` for the list;
* `Place`, `Rig`: the hooks above, and a driver in the hands of a test (synchronous, whatever the
  driver is), for cases of a driver's own;
* `Model`: a store in plain dicts, the oracle;
* `FaultyDriver`: a driver that fails, hangs and answers late as a script says: for testing a
  service with its store down;
* the plugin's fixtures: `holdfast_clock`, `holdfast_driver`, `holdfast_store`;
* `Proxy` (`holdfast.testing.proxy`): breaks the connections to a real server on demand;
* `Trial` (`holdfast.testing.trial`): writers at work while that happens, and what became of each
  write;
* real servers (`holdfast.testing.servers`), as classes to start one's own, and as fixtures that
  the tests of a session share:

| class | fixture |
|---|---|
| `RedisServer`, `ValkeyServer` | `holdfast_redis`, `holdfast_valkey` |
| `RedisSentinel`, `RedisCluster` | `holdfast_redis_sentinel`, `holdfast_redis_cluster` |
| `PostgresServer`, `MariadbServer` | `holdfast_postgres`, `holdfast_mariadb` |
| `Pgbouncer` | |
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from holdfast.testing.conformance import DriverConformance
    from holdfast.testing.faults import FaultyDriver
    from holdfast.testing.model import Model
    from holdfast.testing.place import Place
    from holdfast.testing.proxy import Proxy
    from holdfast.testing.rig import Rig
    from holdfast.testing.trial import Trial

__all__ = ["DriverConformance", "FaultyDriver", "Model", "Place", "Proxy", "Rig", "Trial"]

_HOMES: Final = {
    "DriverConformance": "conformance",
    "FaultyDriver": "faults",
    "Model": "model",
    "Place": "place",
    "Proxy": "proxy",
    "Rig": "rig",
    "Trial": "trial",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
