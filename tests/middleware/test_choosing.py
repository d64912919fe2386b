"""Middleware that a URL or a configuration names, and drivers inside drivers."""

import asyncio
import functools
from datetime import timedelta
from importlib.metadata import EntryPoint, EntryPoints
from typing import ClassVar

import pytest

from statehold import AsyncStore, ConfigError, Counter, State, Store
from statehold.backends import open_driver, open_for_tasks
from statehold.config import Config
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sqlite import SqliteDriver
from statehold.drivers.token import TokenDriver
from statehold.middleware.choosing import layer
from statehold.middleware.coalesce import Coalesce
from statehold.middleware.metrics import Metrics
from statehold.middleware.wrapper import Wrapper
from statehold.server.service import Service
from statehold.settings import Settings, duration, within
from statehold.tokens import Key


def in_a_loop(test):
    @functools.wraps(test)
    def run(**given):
        asyncio.run(test(**given))

    return run


class Seen(State, ttl=timedelta(hours=1)):
    times = Counter()


class Noting(Wrapper):
    """Notes who is called, and when nothing of that."""

    called: ClassVar = []

    def __init__(self, inner, name, pause):
        super().__init__(inner)
        self.name = name
        self.pause = pause

    async def commit(self, commits, now):
        self.called.append(self.name)
        return await self.inner.commit(commits, now)


def noting(name):
    known = Settings(name, {"pause": (duration, 0.0, "Unused.")})
    return lambda driver, settings: Noting(driver, name, **known.complete(settings))


outer, inner = noting("outer"), noting("inner")


def nothing(_driver, _settings):
    return None


@within("first", "second")
def pair(_url, settings):
    made = MemoryDriver()
    made.inside = (settings.get("first"), settings.get("second"))
    return made


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """Middleware and a backend of others, as if they were installed."""
    Noting.called = []
    names = ["outer", "inner", "nothing"]
    points = [EntryPoint(name, f"{__name__}:{name}", "statehold.middleware") for name in names]
    points += [
        EntryPoint("lacking", "tests.kernel.lacking_plugin:make", "statehold.middleware"),
        EntryPoint("pair", f"{__name__}:pair", "statehold.drivers"),
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda **which: EntryPoints(points).select(**which)
    )


def test_what_is_named_first_is_called_first():
    with Store.open("memory://?middleware=outer,inner") as store:
        store.collection(Seen).apply("a", Seen.times.add(1))
        assert store.collection(Seen).get("a").times == 1
    assert Noting.called == ["outer", "inner"]


def test_settings_are_given_in_a_table():
    driver = open_driver("memory://", middleware=["outer", {"name": "inner", "pause": "5s"}])
    assert (driver.name, driver.inner.name) == ("outer", "inner")
    assert (driver.pause, driver.inner.pause) == (0.0, 5.0)
    with pytest.raises(ConfigError, match="inner: no setting 'speed'; there are pause"):
        open_driver("memory://", middleware=[{"name": "inner", "speed": 1}])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("metric", "no middleware 'metric'; there are metrics, inner, lacking, nothing, outer"),
        ("lacking", "lacking: needs no_such_client"),
        ("nothing", "nothing: made no driver, but NoneType"),
        (7, "not a list of names: 7"),
        ([7], "neither a name nor a table with a name: 7"),
        ([{"pause": 1}], "neither a name nor a table"),
    ],
)
def test_what_cannot_be_is_refused(asked, message):
    with pytest.raises(ConfigError, match=message):
        open_driver("memory://", middleware=asked)


@in_a_loop
async def test_it_lies_over_what_gathers(tmp_path):
    url = f"sqlite:///{tmp_path}/m.db?synchronous=FULL&middleware=outer,metrics"
    async with AsyncStore.open(url) as store:
        seen = store.collection(Seen)
        await seen.apply("a", Seen.times.add(1))
        async with store.asynchronous() as other:
            await other.collection(Seen).apply("a", Seen.times.add(1))
        assert (await seen.get("a")).times == 2
        metrics = layer(store.driver, Metrics)
        assert isinstance(store.driver, Noting)
        assert metrics.outcomes["written"] == 2
        assert isinstance(metrics.inner, Coalesce)
        assert layer(store.driver, MemoryDriver) is None


@in_a_loop
async def test_drivers_inside_a_driver_are_gathered_for_tasks_and_closed_with_it(tmp_path):
    url = f"token:?spill=sqlite:///{tmp_path}/spill.db&registry=memory://"
    keys = {"keys": [Key.new()]}
    plain = open_driver(url, **keys)
    assert isinstance(plain, TokenDriver)
    assert [type(each) for each in plain._within] == [MemoryDriver, SqliteDriver]
    assert not plain.suspends
    tasks = open_for_tasks(url, **keys)
    gathered = layer(tasks, TokenDriver)
    assert [type(each) for each in gathered._within] == [MemoryDriver, Coalesce]
    assert gathered.suspends
    for driver in (plain, tasks):
        await driver.close()
    assert gathered._within[1]._closed


def test_a_factory_of_others_declares_what_is_inside():
    driver = open_driver("pair:?first=memory://&second=memory://")
    assert [type(each) for each in driver.inside] == [MemoryDriver, MemoryDriver]
    assert open_driver("pair:").inside == (None, None)
    with pytest.raises(ConfigError, match="not a backend: 'pear:'"):
        open_driver("pear:")
    with pytest.raises(ConfigError, match="no backend 'nowhere'"):
        open_driver("pair:?first=memory://&second=nowhere://")


@pytest.mark.parametrize("asked", ["", 'middleware = ["outer", "metrics"]'])
@in_a_loop
async def test_a_configuration_names_it_and_the_server_counts_once(tmp_path, asked):
    file = tmp_path / "statehold.toml"
    file.write_text(
        f'[backend]\nurl = "memory://"\n{asked}\n[kinds.seen.fields]\ntimes = "counter"\n'
        '[kinds.seen]\nttl = "1h"\n'
    )
    config = Config.load(file, env={})
    store = config.open()
    service = Service(store, config.kinds, config.server)
    cls = config.kinds["seen"]
    await service.collection("seen", "").apply("a", cls.times.add(1))
    assert service.metrics.outcomes["written"] == 1
    assert Noting.called == (["outer"] if asked else [])
    depth, driver = 0, service.store.driver
    while isinstance(driver, Wrapper):
        depth, driver = depth + isinstance(driver, Metrics), driver.inner
    assert depth == 1
    await service.store.close()


@in_a_loop
async def test_a_wrapper_sees_every_write_in_one_place():
    """Those that stand together come by there as well; the two calls need not both be written."""

    class Audit(Wrapper):
        seen: ClassVar = []

        async def passed(self, commits, now, on):
            outcomes = await on(commits, now)
            self.seen += [
                (commit.key[2], type(one).__name__)
                for commit, one in zip(commits, outcomes, strict=True)
            ]
            return outcomes

    async with AsyncStore(Audit(MemoryDriver())) as store:
        states = store.collection(Seen)
        await states.apply("a", Seen.times.add(1))
        await store.apply_together(
            states.step("a", Seen.times.add(1)), states.step("b", Seen.times.add(1))
        )
        async with states.session("c") as state:
            state.times += 1
    assert Audit.seen == [(id, "Written") for id in "aabc"]
