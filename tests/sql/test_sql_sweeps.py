"""When and how expired states are deleted: in pieces, by whoever comes by, and of kinds that nobody has any more."""

import asyncio
from itertools import pairwise

import pytest

from statehold import AsyncStore
from statehold.changes import Add, Append
from statehold.commits import EVERYTHING
from statehold.driver import Swept
from statehold.drivers.sql import driver as driver_module
from statehold.drivers.sql.portable import sweep as sweeping
from statehold.drivers.sql.portable import sweeps
from statehold.errors import Invalid
from statehold.testing.rig import layout, plain
from tests.sql.sqlbackends import NOW, commit, database, key, opened, play, portable, rows

OFF = {"sweep": "off"}
TABLES = ("basket", "basket__sum", "basket__log", "basket__ops", "basket__also_about")


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def url(request, tmp_path):
    return database(request, request.param, tmp_path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """What has ended is swept without delay."""
    monkeypatch.setattr(sweeping, "HOLD_SECONDS", 0.0)


async def die(driver, count, items=1, kind="basket", ttl=0.05):
    """States that are over, with rows in each table."""
    log = Append("log", tuple(b"%d" % n for n in range(items)), 10_000)
    for n in range(0, count, 200):
        batch = [
            commit(
                log, Add("sum", "k", 1), id=f"{m}", op="o", ttl=ttl, kind=kind, subject=("a", "b")
            )
            for m in range(n, min(count, n + 200))
        ]
        await driver.commit(batch, NOW)
    await asyncio.sleep(ttl + 0.02)


async def pieces(driver):
    """What each piece of a round removed."""
    removed, after = [], ""
    while True:
        swept = await driver.sweep(NOW + 1, after)
        removed.append(swept.removed)
        if swept.after is None:
            return removed
        assert swept.after != after or swept.removed == 0
        after = swept.after


def test_a_round_sweeps_kinds_that_nobody_has_any_more(url):
    """By what the database says of them; what lives stays, and a commit need never come."""

    async def before(driver):
        for kind in ("basket", "retired"):
            await driver.open(layout(kind))
            await die(driver, 20, kind=kind)
            await driver.commit([commit(id="live", kind=kind, ttl=1000.0)], NOW)

    async def after(driver):
        return await pieces(driver)

    play(url, before, settings=OFF)
    assert play(url, after, settings=OFF) == [20, 20]
    for table in (*TABLES, *(name.replace("basket", "retired") for name in TABLES)):
        assert rows(url, table) == (1 if "__" not in table else 0), table


def test_an_empty_database_has_an_empty_round(url):
    """Nothing was opened here, ever."""

    async def run():
        driver = opened(url)
        assert await driver.sweep(NOW) == Swept(0, None)
        await driver.close()

    asyncio.run(run())


def test_a_place_that_no_piece_gave_is_refused(tmp_path):
    """As a cursor of another listing is."""

    async def work(driver):
        for after in ("x", "x:basket", ":basket"):
            with pytest.raises(Invalid):
                await driver.sweep(NOW, after)

    play(database(None, "sqlite", tmp_path), work)


def test_a_piece_deletes_few_rows(url, monkeypatch):
    """However many each state has: those that go together have no more than that in any table."""
    monkeypatch.setattr(sweeping, "SWEEP_ROWS", 30)

    async def work(driver):
        await die(driver, 25, items=7)
        return await pieces(driver)

    removed = play(url, work, settings=OFF)
    assert sum(removed) == 25
    assert max(removed) == 4
    assert [rows(url, table) for table in TABLES] == [0] * len(TABLES)


def test_a_large_state_goes_in_pieces_and_does_not_come_back(url, monkeypatch):
    """Half of it is never seen, even if the clock is set back; its neighbours are swept as ever."""
    monkeypatch.setattr(sweeping, "SWEEP_ROWS", 50)

    async def work(driver):
        await die(driver, 3, items=220)
        left, after = [], ""
        while after is not None:
            swept = await driver.sweep(NOW + 1, after)
            left.append(await asyncio.to_thread(rows, url, "basket__log"))
            after = swept.after
            for n in range(3):  # by a clock that is set back, where it is the caller's
                (cells,) = await driver.read([key(f"{n}")], EVERYTHING, NOW)
                assert cells is None or len(plain(cells)["log"]) == 220
        return left

    left = play(url, work, settings=OFF)
    assert all(0 <= a - b <= 50 for a, b in pairwise(left))
    assert left[-1] == 0
    assert [rows(url, table) for table in TABLES] == [0] * len(TABLES)


def test_a_large_state_is_begun_anew_while_it_is_swept(url, monkeypatch):
    """A commit between two pieces: a new life, with nothing of the old one."""
    monkeypatch.setattr(sweeping, "SWEEP_ROWS", 50)

    async def work(driver):
        await die(driver, 1, items=120)
        swept = await driver.sweep(NOW + 1)
        await driver.commit([commit(Append("log", (b"7",), 9), id="0", ttl=1000.0)], NOW + 1)
        while swept.after is not None:
            swept = await driver.sweep(NOW + 1, swept.after)
        return (await driver.read([key("0")], EVERYTHING, NOW + 1))[0]

    cells = play(url, work, settings=OFF)
    assert plain(cells) == {"log": [b"7"]}
    assert cells.revision.number == 1


@pytest.mark.parametrize("open_", [opened, portable])
def test_processes_of_one_commit_sweep(url, open_, monkeypatch):
    """The first commit counts as many, and closing waits for what it began."""
    monkeypatch.setattr(driver_module, "SWEEP_PATIENCE", 60.0)

    async def before(driver):
        await die(driver, 300)

    async def one(driver):
        await driver.commit([commit(id="live")], NOW + 1)

    play(url, before, settings=OFF)
    for _ in range(3):
        play(url, one, open_=open_)
    assert rows(url, "basket") == 1


def test_it_goes_on_when_nobody_writes_any_more(url, monkeypatch):
    """As long as there is anything to be deleted, and then no more."""
    monkeypatch.setattr(sweeping, "SWEEP_STATES", 20)
    monkeypatch.setattr(sweeps, "SWEEP_STATES", 20)
    monkeypatch.setattr(sweeps, "SWEEP_SECONDS", 0.01)

    async def before(driver):
        await die(driver, 200)

    async def one(driver):
        await driver.commit([commit(id="live")], NOW + 1)
        await driver.sweeps.task
        return driver.stats()["swept_total"]

    play(url, before, settings=OFF)
    # In a file a writer keeps all others out, so none goes on beside whoever may stop its event loop.
    assert play(url, one) == (20 if url.startswith("sqlite") else 200)


def test_a_file_is_not_kept_from_others_by_who_stops_its_loop(tmp_path):
    """A commit there comes back when the sweep that it began has ended."""
    url = database(None, "sqlite", tmp_path)

    async def work(driver):
        await driver.commit([commit(id="live")], NOW)
        return driver.sweeps.task.done()

    assert play(url, work)


@pytest.mark.parametrize(("made", "least", "most"), [(0, 50, 70), (1, 200, 480)])
def test_what_expires_all_at_once_is_not_deleted_all_at_once(
    tmp_path, monkeypatch, made, least, most
):
    """For each commit to a state that lives a quarter of one is; for each that makes one, two."""
    url = database(None, "sqlite", tmp_path)
    monkeypatch.setattr(sweeping, "SWEEP_STATES", 8)
    monkeypatch.setattr(sweeps, "SWEEP_STATES", 8)

    async def before(driver):
        await die(driver, 1000)
        await driver.commit([commit(id="live")], NOW)

    async def work(driver):
        driver.sweeps.due = float("inf")
        batch = [commit(id=f"new {n}" if made else "live", op=f"{n}") for n in range(200)]
        await driver.commit(batch, NOW + 1)
        await driver.sweeps._round(NOW + 1)
        return driver.stats()["swept_total"]

    play(url, before, settings=OFF)
    assert least <= play(url, work) <= most


def test_two_processes_sweep_at_once(url):
    """Each goes its own way through the rows: all is deleted once, nothing that lives."""

    async def before(driver):
        await die(driver, 600)
        await driver.commit([commit(id=f"live {n}", ttl=1000.0) for n in range(50)], NOW)

    async def run():
        drivers = [opened(url) for _ in range(2)]
        for driver in drivers:
            await driver.open(layout())
        removed = await asyncio.gather(*(pieces(driver) for driver in drivers))
        for driver in drivers:
            await driver.close()
        return sum(map(sum, removed))

    play(url, before, settings=OFF)
    assert asyncio.run(run()) >= 300
    play(url, pieces)
    assert rows(url, "basket") == 50


def test_what_is_kept_for_a_minute_goes_after_it(url, monkeypatch):
    """Nobody commits any more: the process that made it looks once more. Where one writer has the database to
    itself, with the next commit, however few come."""
    for module in (sweeping, sweeps):
        monkeypatch.setattr(module, "HOLD_SECONDS", 1.0)

    async def work(driver):
        await driver.commit([commit(id="live", ttl=1000.0)], NOW)  # the first one sweeps
        await die(driver, 100)
        assert await asyncio.to_thread(rows, url, "basket") == 101
        now = NOW
        async with asyncio.timeout(30):
            while await asyncio.to_thread(rows, url, "basket") > 1:
                await asyncio.sleep(0.1)
                now += 0.1
                if url.startswith("sqlite"):
                    await driver.commit([commit(Add("sum", "k", 1), id="live", ttl=1000.0)], now)

    play(url, work)


def test_a_sweep_that_is_to_come_does_not_outlive_its_driver(statehold_postgres):
    """It is put off for good when that is closed."""

    async def work(driver):
        await driver.commit([commit()], NOW)
        await driver.sweeps.task
        return driver.sweeps

    assert play(statehold_postgres.new_database(), work)._later is None


def test_a_sweep_may_begin_with_none(url):
    """As the one before ended."""

    async def run():
        async with AsyncStore(opened(url)) as store:
            assert await store.sweep(after=None) == Swept(0, None)

    asyncio.run(run())
