"""The kit that proves drivers, and the tools to test a service that uses statehold.

It needs pytest and Hypothesis: `pip install 'statehold[testing]'`.

A driver's test file is a class and one fixture, which returns the driver's `Backend`:

```python
import pytest
from statehold.testing import DriverConformance, Backend

class TestMyDriver(DriverConformance):
    @pytest.fixture
    def backend(self, tmp_path):
        path = str(tmp_path / "state.db")
        return Backend(
            open=lambda: MyDriver(path),          # a fresh driver on the same data, each time
            recipe="my_package:MyDriver",         # for other processes: an importable callable …
            arguments=(path,),                    # … and what it is called with (JSON)
        )
```

`backend` is asked for once per case, so each case has data of its own (`tmp_path`, a random prefix).
All hooks of a `Backend`, and when they are needed:

| hook | what it does | needed |
|---|---|---|
| `open()` | returns a new, open driver. Called again, it returns one on the same data if the driver is `SHARED` or `DURABLE` | always |
| `recipe`, `arguments` | `"module:callable"` and its positional arguments, JSON values: the same as `open`, for a process that has nothing but these | `SHARED` or `DURABLE` |
| `own_clock` | None: the driver believes the `now` that it is given. Seconds (0.25, say): it has a clock of its own, and this is the unit of time in which the kit really waits; a state lives for 2 to 10 units | stores with a clock |
| `outage()` | a context manager; while it is open the store cannot answer | if it can be arranged |
| `corrupt(key, field)` | makes what is stored for that field unreadable to the driver, behind its back; `LookupError` says why that field cannot be | if the driver itself decodes anything |
| `raw()` | the bytes of all that is stored, behind the driver's back | if it can be arranged: what is erased or has expired must not be among them, however many live beside it |
| `held()` | a context manager; while it is open another writer holds the store. Open drivers with a short time to wait | if one writer can keep others waiting |
| `set_back` | whether a repetition is known for one, or in doubt, also where the clock was set back since it was first sent. It is not asked for otherwise: of the drivers here those of memory, of SQLite files and of the example on LMDB keep it | drivers that believe the `now` that they are given |

`Backend.by_url` opens by a URL, through the driver's entry point; `Backend.gathered()` is the same
backend as `AsyncStore.open` runs it, with concurrent commits gathered above the driver.

A case whose feature the driver does not declare, or whose optional hook the backend does not have, is
skipped and says which. The rounds of races and crashes are modest; `STATEHOLD_ROUNDS=20` in the
environment makes them twenty times as many (and lets Hypothesis look twenty times as long).

The names here are imported on first use, so that the pytest plugin costs a session nothing.

* `DriverConformance` (`statehold.testing.conformance`): every line of the contract, see
  `docs/contract.md` for the list;
* `Backend`, `Rig`: the hooks above, and a driver in the hands of a test (synchronous, whatever the
  driver is), for cases of a driver's own;
* `Model`: a store in plain dicts, the oracle;
* `FaultyDriver`: a driver that fails, hangs and answers late as a script says: for testing a
  service with its store down;
* `simulated`: the same run again, from a seed and a clock that is moved by hand;
* the plugin's fixtures: `statehold_clock`, `statehold_driver`, `statehold_store`;
* `python -m statehold.testing.bench my_package:MyDriver` measures a driver;
* `Commits` (`statehold.testing.commits`): keys and commits of a tenant, for who has a driver at hand;
* `Proxy` (`statehold.testing.proxy`): breaks the connections to a real server on demand;
* `Trial` (`statehold.testing.trial`): writers at work while that happens, and what became of each
  write;
* real servers (`statehold.testing.servers`), as classes to start one's own, and as fixtures that
  the tests of a session share:

| class | fixture |
|---|---|
| `RedisServer`, `ValkeyServer` | `statehold_redis`, `statehold_valkey` |
| `RedisSentinel`, `RedisCluster` | `statehold_redis_sentinel`, `statehold_redis_cluster` |
| `PostgresServer`, `PgvectorServer` | `statehold_postgres`, `statehold_pgvector` |
| `MariadbServer` | `statehold_mariadb` |
| `Pgbouncer` | |

Where what lies: `conformance/` has the cases, `servers/` the servers, and beside them

    backend · by_url · rig · face · commits     a driver, or a store over it, in the hands of a case
    model · naive · stateful                    the oracle, and the machine that compares a driver with it
    promises · contract · matrix                the promises, and the pages made of them
    racing · transfers · installing · crash     writers that race, or are killed
    children · lives · twins                    other processes, and two drivers in one
    trial · proxy · piping                      writers while a server is cut off, and what cuts it off
    faults · simulation · plugin                for tests of a service: faults, a seed, fixtures
    bench                                       what the calls of a driver take
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from statehold.testing.backend import Backend
    from statehold.testing.conformance import DriverConformance
    from statehold.testing.faults import FaultyDriver
    from statehold.testing.model import Model
    from statehold.testing.proxy import Proxy
    from statehold.testing.rig import Rig
    from statehold.testing.simulation import simulated
    from statehold.testing.trial import Trial

__all__ = [
    "Backend",
    "DriverConformance",
    "FaultyDriver",
    "Model",
    "Proxy",
    "Rig",
    "Trial",
    "simulated",
]

_HOMES: Final = {
    "DriverConformance": "conformance",
    "FaultyDriver": "faults",
    "Model": "model",
    "Backend": "backend",
    "Proxy": "proxy",
    "Rig": "rig",
    "Trial": "trial",
    "simulated": "simulation",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
