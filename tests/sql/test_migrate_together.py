"""Migrations beside a service, beside each other, cut short, and without the rights to do it."""

import asyncio
from collections import Counter
from itertools import count
from urllib.parse import urlsplit

import pytest
from databases import KINDS, cells, database, migrate
from visits import RENAMED, Small, Visit, edits

from statehold import AsyncStore, Store
from statehold.backends import open_driver
from statehold.drivers.sql.migrating import applying, running
from statehold.drivers.sql.migrating.locking import locked
from statehold.errors import Busy, ReadOnly


@pytest.fixture(params=KINDS)
def backend(request, tmp_path):
    return database(request.param, request, tmp_path)


def functions(backend):
    query = "SELECT proname, prosrc FROM pg_proc WHERE proname LIKE 'statehold__%' ORDER BY 1"
    return dict(backend.sql(query))


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_functions(backend, run):
    """Those of an older release stay beside the newer ones until `--drop`; open makes the same."""
    run(Small, "--apply")
    older = functions(backend)
    run(Visit, "--apply")
    both = functions(backend)
    assert set(older) < set(both)
    run(Visit, "--apply", "--drop")
    newer = functions(backend)
    assert set(newer) == set(both) - set(older)
    backend.sql(
        "DROP TABLE visit, visit__ended, visit__ops, visit__history, visit__clicks, visit__chat"
    )
    backend.sql("DROP TABLE visit__taste, visit__spend, statehold_kinds")
    backend.sql(";".join(f"DROP FUNCTION {name}" for name in newer))
    with Store.open(backend.url) as store:
        store.collection(Visit).get("ada")
    assert functions(backend) == newer


@pytest.fixture
def run(backend, monkeypatch, capsys):
    return lambda state, *options: migrate(monkeypatch, capsys, backend.url, state, *options)


def asked(driver, state, **options):
    tables = [driver.tables_of(state.__schema__.layout())]
    return running.Request(tables, driver.dialect, driver.shown_url, **options)


async def applied(url, state):
    """As a replica does it when it starts."""
    driver = open_driver(url, timeout=60)  # SQLite is given to whoever asks first, not in turn
    try:
        done = await running.carry_out(driver.engine, asked(driver, state))
    finally:
        await driver.close()
    return [step.words for plan in done.plans for step in plan.steps]


@pytest.mark.parametrize("before", [None, Small])
def test_two_at_once(backend, run, before):
    """One does it all, the others find it done."""
    if before:
        run(before, "--apply")
        with Store.open(backend.url) as store:
            store.collection(before).apply("ada", before.turns.add(1))

    async def all_at_once():
        return await asyncio.gather(*(applied(backend.url, Visit) for _ in range(4)))

    done = asyncio.run(all_at_once())
    assert sorted(map(bool, done)) == [False, False, False, True]
    assert run(Visit, "--plan")[0] == 0
    assert cells(backend.url, Visit) == ({"turns": {"": 1}} if before else None)


def test_old_and_new_side_by_side(backend, run):
    """An old release, running or started anew, goes on beside the new one on the newer table."""
    run(Small, "--apply")
    with Store.open(backend.url) as running_since:
        old = running_since.collection(Small)
        old.apply("ada", Small.turns.add(1), Small.history.append("old"))
        assert run(Visit, "--apply")[0] == 0
        with Store.open(backend.url) as store, Store.open(backend.url) as restarted:
            new, again = store.collection(Visit), restarted.collection(Small)
            new.apply("ada", *edits(Visit))
            for states in (old, again):
                states.apply("ada", Small.turns.add(1), Small.history.append("still"))
                assert states.get("ada").turns == 2**53 + (3 if states is old else 4)
                with states.session("ada", exclusive=True) as state:
                    state.focus = "old"
                states.apply("bob", Small.turns.add(1))
            ada = new.get("ada")
            assert (ada.focus, dict(ada.clicks)) == ("old", {"sku-1": 3, "sku-2": 1})
            assert list(ada.history) == ["old", "hello", "again", "still", "still"]
            assert new.get("bob").turns == 2

            old.delete("ada")
            again.apply("ada", Small.turns.add(1))
            assert cells(backend.url, Visit) == {"turns": {"": 1}}, "nothing of the deleted one"
            new.apply("ada", *edits(Visit))
            assert len(cells(backend.url, Visit)) == len(RENAMED)


def test_under_load(backend, run):
    """Commits and reads of an old release go on while the tables change; each has its effect."""
    run(Small, "--apply")
    written = Counter()

    async def main():
        enough = asyncio.Event()

        async def write(states, id):
            while not enough.is_set():
                await states.apply(id, Small.turns.add(1), Small.history.append("x"))
                written[id] += 1
                least = written[id]
                assert (await states.get(id)).turns >= least

        async with AsyncStore.open(backend.url) as store, asyncio.TaskGroup() as tasks:
            states = store.collection(Small)
            for id in "abcd":
                tasks.create_task(write(states, id))
                tasks.create_task(write(states, id))
            await asyncio.sleep(0.2)
            done = await applied(backend.url, Visit)
            await asyncio.sleep(0.2)
            enough.set()
        return done

    assert "column visit.page is added" in asyncio.run(main())
    found = {id: cells(backend.url, Visit, id)["turns"][""] for id in written}
    assert found == written
    assert len(written) == 4


def test_a_life_begun_by_the_old_release(backend, run):
    """What a new release wrote to an expired state is not in the life that an old one begins."""
    run(Small, "--apply")
    with Store.open(backend.url) as running_since:
        old = running_since.collection(Small)
        old.apply("bob", Small.turns.add(1))
        run(Visit, "--apply")
        with Store.open(backend.url) as store:
            store.collection(Visit).apply("ada", *edits(Visit))
        backend.sql(f"UPDATE visit SET expires_at = {PAST[backend.kind]}")
        old.apply("ada", Small.turns.add(1))
    assert cells(backend.url, Visit) == {"turns": {"": 1}}


PAST = {
    "postgresql": "now() - interval '1 s'",
    "mariadb": "utc_timestamp(6) - interval 1 second",
    "sqlite": "1.0",
}


def test_running_through_a_drop(backend, run):
    """A service that was open before `--drop` goes on: it looks again at what there is."""
    run(Visit, "--apply")
    with Store.open(backend.url) as store:
        small = store.collection(Small)
        small.apply("ada", Small.turns.add(1))
        assert run(Small, "--apply", "--drop")[0] == 0
        assert small.get("ada").turns == 1
        small.apply("ada", Small.turns.add(1), Small.history.append("a"))
        assert small.get("ada").turns == 2


def test_cut_short(backend, run, monkeypatch):
    """Stopped after any step, it is as if it had not begun, or goes on where it stopped."""
    run(Small, "--apply")
    with Store.open(backend.url) as store:
        store.collection(Small).apply("ada", Small.turns.add(1), Small.history.append("a"))
    before, data = backend.has(), cells(backend.url, Small)
    operations = applying.Operations.invoke

    class Cut(Exception):
        pass

    for stop in count():
        calls = count()

        def invoke(self, op, stop=stop, calls=calls):
            if self.migration_context.as_sql:
                return operations(self, op)
            if next(calls) == stop:
                raise Cut
            return operations(self, op)

        with monkeypatch.context() as patch:
            patch.setattr(applying.Operations, "invoke", invoke)
            try:
                asyncio.run(applied(backend.url, Visit))
                break
            except Cut:
                pass
        if backend.kind != "mariadb":
            assert backend.has() == before, f"after {stop} operations"
        assert cells(backend.url, Small, create="never") == data, f"after {stop} operations"
    assert stop > (3 if backend.kind == "mariadb" else 10)
    assert run(Visit, "--plan")[0] == 0
    assert cells(backend.url, Visit) == data


def test_a_fresh_one_cut_short(backend, run, monkeypatch):
    """A half-made kind is finished the next time, not taken for somebody else's."""
    operations = applying.Operations.invoke
    calls = count()

    def invoke(self, op):
        if not self.migration_context.as_sql and next(calls) == 10:
            raise KeyboardInterrupt
        return operations(self, op)

    with monkeypatch.context() as patch:
        patch.setattr(applying.Operations, "invoke", invoke)
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(applied(backend.url, Visit))
    assert run(Visit, "--apply")[0] == 0
    assert run(Visit, "--plan")[0] == 0
    with Store.open(backend.url, create="never") as store:
        store.collection(Visit).apply("ada", *edits(Visit))


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"], indirect=True)
def test_another_migration_takes_too_long(backend):
    """Whoever waits for another migration says so after a while (SQLite has but its own lock)."""

    async def both():
        driver = open_driver(backend.url)
        try:
            async with driver.engine.begin() as first, driver.engine.connect() as second:
                held = []
                await first.run_sync(lambda c: held.append(locked(c)) or held[0].__enter__())
                with pytest.raises(Busy, match="another migration"):
                    await second.run_sync(lambda c: locked(c, patience=0.2).__enter__())
                await first.run_sync(lambda _: held[0].__exit__(None, None, None))
        finally:
            await driver.close()

    asyncio.run(both())


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"], indirect=True)
def test_a_long_transaction_in_the_way(backend, run, monkeypatch):
    """It gives up before everybody waits behind it, and can be run again."""
    run(Small, "--apply")
    before = backend.has()
    monkeypatch.setattr(applying, "WAIT_SECONDS", 1)

    async def in_the_way():
        driver = open_driver(backend.url)
        try:
            async with driver.engine.begin() as reader:
                await reader.exec_driver_sql("SELECT * FROM visit")
                with pytest.raises(Busy):
                    await applied(backend.url, Visit)
        finally:
            await driver.close()

    asyncio.run(in_the_way())
    if backend.kind == "postgresql":
        assert backend.has() == before
    assert run(Visit, "--apply")[0] == 0
    assert run(Visit, "--plan")[0] == 0


@pytest.mark.parametrize("backend", ["postgresql", "mariadb"], indirect=True)
def test_without_the_rights(backend, run, monkeypatch, capsys):
    """A user who may read and write but change no table is told so."""
    run(Small, "--apply")
    before = backend.has()
    database_name = urlsplit(backend.url).path[1:]
    name = f"service_{database_name}"[:30]
    if backend.kind == "postgresql":
        backend.sql(f"CREATE ROLE {name} LOGIN PASSWORD 'pw'")
        backend.sql(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"
        )
    else:
        backend.sql(f"CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'pw'")
        backend.sql(
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON {database_name}.* TO {name}@'127.0.0.1'"
        )
    parts = urlsplit(backend.url)
    url = parts._replace(netloc=f"{name}:pw@{parts.hostname}:{parts.port}").geturl()
    code, out, _ = migrate(monkeypatch, capsys, url, Visit, "--plan")
    assert code == 6, "looking is allowed"
    assert "ADD COLUMN page" in out
    code, _, error = migrate(monkeypatch, capsys, url, Visit, "--apply")
    assert code == 5, error
    assert "statehold: read_only: " in error
    assert "the user may not do this" in error
    assert "pw@" not in error
    with pytest.raises(ReadOnly):
        asyncio.run(applied(url, Visit))
    assert backend.has() == before
