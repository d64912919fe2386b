"""Vectors that ask to be searched: pgvector where PostgreSQL has it, the bytes elsewhere."""

import asyncio
import re
import time
import warnings
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from databases import cells, database, done, migrate
from sqlalchemy.ext.asyncio import create_async_engine
from sqlbackends import opened, portable

from statehold import AsyncStore, Register, State, Store, Vector
from statehold.changes import Put
from statehold.commits import Commit, Want
from statehold.drivers.sql import tables_of
from statehold.errors import ConfigError, Invalid

PAGE = Path(__file__).parent.parent.parent / "docs" / "sql.md"
AS_BYTES = "kept as bytes, which cannot be searched"


class Taste(State, kind="taste", ttl=None):
    taste = Vector(4, searchable=True)
    name = Register(str | None, default=None)


class Unsearched(State, kind="taste", ttl=None):
    taste = Vector(4)
    name = Register(str | None, default=None)


class Wider(State, kind="taste", ttl=None):
    taste = Vector(5, searchable=True)
    name = Register(str | None, default=None)


class Named(State, kind="taste", ttl=None):
    name = Register(str | None, default=None)


class Endless(State, kind="taste", ttl=None):
    taste = Vector(16_001, searchable=True)


LAYOUT = Taste.__schema__.layout()

EDGES = np.array(
    [
        [0.1, -0.1, 1 / 3, 123456.789],
        [0.0, -0.0, 1.0, -1.0],
        [1e-45, -1e-45, 1.1754942e-38, 1.17549435e-38],  # the smallest, with and without exponent
        [3.4028235e38, -3.4028235e38, 16777217, 5e-324],
        np.frombuffer(b"\x01\x00\x80\x3f\xff\xff\x7f\x3f\x00\x00\x00\x34\xcd\xcc\xcc\x3d", "<f4"),
    ],
    "<f4",
)


def some(count, dim=4):
    """Any finite float32, bit for bit."""
    bits = np.random.default_rng(7).integers(0, 2**32, (4 * count, dim), dtype=np.uint32)
    made = bits.view(np.float32)
    made = made[np.isfinite(made).all(axis=1)][:count]
    assert len(made) == count
    return made


@pytest.fixture
def backend(request, tmp_path):
    """An empty database of a server that has pgvector; it is not made there yet."""
    return database("pgvector", request, tmp_path)


@pytest.fixture(params=["postgresql", "pgvector"])
def denied(request, tmp_path):
    """An empty database whose user may make tables, but no extension, be there one or not."""
    backend = database(request.param, request, tmp_path)
    name = backend.url.rpartition("/")[2]
    backend.sql(f"CREATE ROLE user_{name} LOGIN")
    backend.sql(f"GRANT ALL ON SCHEMA public TO user_{name}")
    backend.url = backend.url.replace("postgres@", f"user_{name}@")
    return backend


def column(backend):
    """The type of the vector's column, as the database itself tells it."""
    ((kind,),) = backend.sql(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
        " WHERE attrelid = 'taste'::regclass AND attname = 'taste'"
    )
    return kind


def play(url, work, open_=opened, state=Taste):
    async def run():
        driver = open_(url)
        try:
            await driver.open(state.__schema__.layout())
            return await work(driver)
        finally:
            await driver.close()

    return asyncio.run(run())


@asynccontextmanager
async def engine_of(backend):
    """An engine as an application would have it."""
    driver = opened(backend.url)
    engine = create_async_engine(driver.engine.url)
    await driver.close()
    yield engine
    await engine.dispose()


def key(id):
    return ("", "taste", str(id))


def put(id, raw, **options):
    return Commit(key(id), (Put("taste", "", raw),), None, **options)


async def read(driver, count):
    found = await driver.read([key(id) for id in range(count)], Want(), time.time())
    return [one.fields["taste"][""] for one in found]


BOTH = pytest.mark.parametrize("open_", [opened, portable])


@BOTH
def test_every_bit_comes_back(backend, open_):
    """Alone, many at once, and what the other path wrote."""
    vectors = [row.tobytes() for row in np.concatenate([EDGES, some(200)])]

    async def write(driver):
        for id, raw in enumerate(vectors[:20]):
            await driver.commit([put(id, raw, op=f"op{id}")], time.time())
        rest = [put(id, raw, op=f"op{id}") for id, raw in enumerate(vectors)][20:]
        await driver.commit(rest, time.time())
        assert await read(driver, len(vectors)) == vectors

    play(backend.url, write, open_)
    assert column(backend) == "vector(4)"
    for other in (opened, portable):
        assert play(backend.url, lambda driver: read(driver, len(vectors)), other) == vectors


def test_the_fast_path_is_taken(backend):
    """Or the other tests would prove nothing of it."""

    async def work(driver):
        await driver.commit([put(0, EDGES[0].tobytes(), op="a")], time.time())
        await driver.commit([put(n, EDGES[0].tobytes(), op="b") for n in range(5)], time.time())
        await read(driver, 5)
        stats = driver.stats()
        assert (stats["fast_commits_total"], stats["fast_handed_back_total"]) == (6, 0)
        assert stats["fast_reads_total"] == 1

    play(backend.url, work)


@BOTH
def test_returned_absent_first_wins_and_dropped(backend, open_):
    one, two = EDGES[0].tobytes(), EDGES[1].tobytes()

    async def work(driver):
        async def commit(change, **options):
            (out,) = await driver.commit(
                [Commit(key("a"), (change,), None, returning=Want(), **options)], time.time()
            )
            return out.returned.fields.get("taste", {}).get("")

        assert await commit(Put("name", "", b'"ada"')) is None
        assert await commit(Put("taste", "", one, if_absent=True)) == one
        assert await commit(Put("taste", "", two, if_absent=True)) == one
        assert await commit(Put("taste", "", two)) == two
        assert await commit(Taste.taste.drop()) is None
        (found,) = await driver.read([key("a")], Want(), time.time())
        assert found.fields == {"name": {"": b'"ada"'}}

    play(backend.url, work, open_)


@BOTH
@pytest.mark.parametrize(
    "raw",
    [
        EDGES[0].tobytes()[:12],
        EDGES[0].tobytes() + b"\0\0\0\0",
        b"",
        b"abc",
        np.array([1, 2, np.nan, 4], "<f4").tobytes(),
        np.array([1, 2, np.inf, 4], "<f4").tobytes(),
    ],
)
def test_what_is_no_such_vector_is_invalid(backend, open_, raw):
    """The field refuses it before; a driver that is handed it all the same writes nothing."""

    async def work(driver):
        for some in (["a"], ["a", "b"]):
            found = await driver.commit([put(id, raw, op="1") for id in some], time.time())
            assert {(one.field, one.reason) for one in found} == {("taste", "value")}
        assert await driver.read([key("a"), key("b")], Want(), time.time()) == [None, None]

    play(backend.url, work, open_)


def test_the_field_refuses_before():
    for wrong in ([1, 2, 3], [1, 2, 3, np.nan], [1, 2, 3, 1e39]):
        with pytest.raises(Invalid, match="taste"):
            Taste.taste.put(wrong)


def test_more_numbers_than_pgvector_has(denied):
    """Whether or not it is there, so that nothing changes on the day that it is."""
    with pytest.raises(ConfigError, match=r"taste\.taste: .* at most 16000 .* 16001"):
        play(denied.url, None, state=Endless)


@BOTH
def test_without_the_right_it_is_bytes(denied, open_):
    """And told once; everything but the search works."""
    raw = EDGES[0].tobytes()

    async def work(driver):
        await driver.open(LAYOUT)
        await driver.commit([put(0, raw, op="a")], time.time())
        assert await read(driver, 1) == [raw]
        await driver.commit([Commit(key(0), (Taste.taste.drop(),), None)], time.time())

    with pytest.warns(RuntimeWarning, match="taste.taste: kept as bytes") as told:
        play(denied.url, work, open_)
    assert len(told) == 1
    assert column(denied) == "bytea"


def test_in_a_schema_of_its_own(backend):
    async def work(driver):
        await driver.commit([put(0, EDGES[0].tobytes(), op="a")], time.time())
        await driver.commit([put(n, EDGES[0].tobytes(), op="b") for n in range(3)], time.time())
        assert await read(driver, 3) == [EDGES[0].tobytes()] * 3

    backend.sql("CREATE SCHEMA app")

    def open_(url):
        return opened(url, {"schema": "app"})

    play(backend.url, work, open_)


@BOTH
@pytest.mark.parametrize("found", [True, False])
def test_an_extension_in_another_schema(backend, open_, found):
    """As services that run databases have it: it is used if the search path finds it."""
    name = backend.url.rpartition("/")[2]
    backend.sql("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    if found:
        backend.sql(f"ALTER DATABASE {name} SET search_path = public, extensions")

    async def work(driver):
        await driver.commit([put(0, EDGES[0].tobytes(), op="a")], time.time())
        await driver.commit([put(n, EDGES[0].tobytes(), op="b") for n in range(3)], time.time())
        assert await read(driver, 3) == [EDGES[0].tobytes()] * 3

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        play(backend.url, work, open_)
    assert [AS_BYTES in str(one.message) for one in told] == ([] if found else [True])
    assert column(backend) == ("vector(4)" if found else "bytea")


@pytest.mark.parametrize("kind", ["sqlite", "mariadb"])
def test_other_databases_keep_the_bytes(kind, request, tmp_path):
    """Without a word, also where the class asked for nothing when the table was made."""
    backend = database(kind, request, tmp_path)
    raw = EDGES[0].tobytes()
    for state in (Unsearched, Taste):
        with Store.open(backend.url) as store:
            collection = store.collection(state)
            collection.apply("a", state.taste.put(EDGES[0]))
            assert collection.get("a").taste.tobytes() == raw


# ------------------------------------------------------------------------------------- migrations


def apply_all(state, backend, vectors):
    with Store.open(backend.url) as store:
        collection = store.collection(state)
        for id, vector in enumerate(vectors):
            collection.apply(str(id), state.taste.put(vector))


def test_a_field_is_added(backend, monkeypatch, capsys):
    with Store.open(backend.url) as store:
        store.collection(Named).apply("ada", Named.name.put("Ada"))
    code, out, _ = migrate(monkeypatch, capsys, backend.url, Taste, "--plan")
    assert code == 6
    assert "CREATE EXTENSION IF NOT EXISTS vector" in out
    assert "ADD COLUMN taste vector(4)" in out
    assert not backend.sql("SELECT FROM pg_extension WHERE extname = 'vector'")  # it was a plan
    code, out, _ = migrate(monkeypatch, capsys, backend.url, Taste, "--apply")
    assert code == 0
    assert done(out)[:2] == ["extension vector is made", "column taste.taste is added"]
    assert column(backend) == "vector(4)"
    apply_all(Taste, backend, EDGES[:1])
    assert migrate(monkeypatch, capsys, backend.url, Taste, "--plan")[0] == 0  # nothing is left


def test_bytes_become_a_vector(backend, monkeypatch, capsys):
    """Every bit of them, only when it is said, and with a driver that was open before."""
    vectors = np.concatenate([EDGES, some(300)])
    raws = [row.tobytes() for row in vectors]
    apply_all(Unsearched, backend, vectors)
    with pytest.warns(RuntimeWarning, match=f"{AS_BYTES}.*statehold migrate"):
        assert cells(backend.url, Taste, "3")["taste"] == {"": raws[3]}
    code, out, _ = migrate(monkeypatch, capsys, backend.url, Taste, "--apply")
    assert code == 0
    assert "column taste.taste becomes vector(4)" in done(out)
    assert column(backend) == "vector(4)"
    assert play(backend.url, lambda driver: read(driver, len(raws))) == raws
    assert migrate(monkeypatch, capsys, backend.url, Taste, "--plan")[0] == 0  # nothing is left


def test_the_plan_is_a_script_that_does_it(backend, monkeypatch, capsys):
    apply_all(Unsearched, backend, EDGES)
    _, script, _ = migrate(monkeypatch, capsys, backend.url, Taste, "--plan")
    backend.sql(script)
    assert column(backend) == "vector(4)"
    expected = [row.tobytes() for row in EDGES]
    assert play(backend.url, lambda driver: read(driver, len(EDGES))) == expected


@pytest.mark.parametrize("first", ["read", "commit"])
@BOTH
def test_a_driver_that_was_open_before(backend, monkeypatch, capsys, open_, first):
    """It finds the column changed under it, and goes on."""
    raw, new = EDGES[0].tobytes(), EDGES[1].tobytes()
    apply_all(Unsearched, backend, EDGES[:1])

    async def work(driver):
        assert await read(driver, 1) == [raw]
        await driver.commit([put(1, raw, op="a")], time.time())
        code, *_ = await asyncio.to_thread(
            migrate, monkeypatch, capsys, backend.url, Taste, "--apply"
        )
        assert code == 0
        if first == "read":
            assert await read(driver, 2) == [raw, raw]
        await driver.commit([put(1, new, op="b")], time.time())
        assert await read(driver, 2) == [raw, new]

    play(backend.url, work, open_, state=Unsearched)


def test_an_older_release_beside_a_newer(backend, monkeypatch, capsys):
    """It asks for no vector, works on with one, and its migration does not take it back."""
    apply_all(Taste, backend, EDGES)
    apply_all(Unsearched, backend, EDGES[:2])
    expected = [row.tobytes() for row in EDGES]
    assert play(backend.url, lambda d: read(d, len(EDGES)), state=Unsearched) == expected
    assert migrate(monkeypatch, capsys, backend.url, Unsearched, "--apply")[0] == 0
    assert column(backend) == "vector(4)"


def test_another_number_of_numbers_is_refused(backend, monkeypatch, capsys):
    apply_all(Taste, backend, EDGES)
    with pytest.raises(ConfigError, match=r"vector\(5\).*vector\(4\)"):
        play(backend.url, None, state=Wider)
    code, _, err = migrate(monkeypatch, capsys, backend.url, Wider, "--apply")
    assert code != 0
    assert "a field of another name" in err


def test_bytes_that_are_no_such_vector_stay(backend, monkeypatch, capsys):
    """Nothing is lost: a column with other bytes is left as it is."""
    apply_all(Unsearched, backend, EDGES)
    backend.sql(r"UPDATE taste SET taste = '\x0102' WHERE id = '0'")
    code, _, err = migrate(monkeypatch, capsys, backend.url, Taste, "--apply")
    assert code != 0
    assert "no such vector" in err
    assert column(backend) == "bytea"


def test_migrating_without_the_right(denied, monkeypatch, capsys):
    apply_all(Unsearched, denied, EDGES[:1])
    code, out, _ = migrate(monkeypatch, capsys, denied.url, Taste, "--apply")
    assert code == 0
    assert "taste: kept as bytes, since the database has no pgvector" in out
    assert column(denied) == "bytea"


@pytest.mark.parametrize("before", [None, Named, Unsearched])
def test_written_for_alembic(backend, monkeypatch, capsys, tmp_path, before):
    """The script needs neither statehold nor a client of pgvector's, and does all of it."""
    if before is not None:
        with Store.open(backend.url) as store:
            store.collection(before).apply("0", before.name.put("Ada"))
    folder = tmp_path / "versions"
    folder.mkdir()
    assert migrate(monkeypatch, capsys, backend.url, Taste, "--write", str(folder))[0] == 0
    (script,) = folder.glob("*.py")
    space = {}
    exec(compile(script.read_text(), script, "exec"), space)
    assert not re.search("import.*(statehold|pgvector)", script.read_text())

    def upgrade(connection):
        with Operations.context(MigrationContext.configure(connection)):
            space["upgrade"]()

    async def run():
        async with engine_of(backend) as engine, engine.begin() as connection:
            await connection.run_sync(upgrade)

    asyncio.run(run())
    assert column(backend) == "vector(4)"
    apply_all(Taste, backend, EDGES)
    assert migrate(monkeypatch, capsys, backend.url, Taste, "--plan")[0] == 0


# ---------------------------------------------------------------------------- nearest neighbours


def shown():
    """What the page shows: its Python's names, and its two statements."""
    part = PAGE.read_text("utf-8").split("\n## Nearest neighbours\n")[1].split("\n## ")[0]
    (python,) = re.findall(r"^```python\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    query, index = re.findall(r"^```sql\n(.*?)^```$", part, re.MULTILINE | re.DOTALL)
    space = {
        "__name__": "page",
        "State": State,
        "timedelta": timedelta,
        "tables_of": tables_of,
        "sa": sa,
        "time": time,
    }
    exec(compile(python, str(PAGE), "exec"), space)
    return space, query, index


def clusters(dim):
    """Forty readers around each of ten tastes."""
    random = np.random.default_rng(11)
    centres = random.normal(size=(10, dim))
    noise = random.normal(scale=0.2, size=(10, 40, dim))
    return centres, (centres[:, None] + noise).astype(np.float32)


def test_nearest_neighbours(backend):
    """As the page shows them: the same as numpy's, and those of the index are of the cluster."""
    space, plain, index = shown()
    reader, most_alike = space["Reader"], space["most_alike"]
    dim = reader.taste.dim
    centres, readers = clusters(dim)

    async def fill():
        async with AsyncStore.open(f"{backend.url}?timeout=30s") as store:
            collection = store.collection(reader)
            async with asyncio.TaskGroup() as group:
                for cluster, some_ in enumerate(readers):
                    for n, taste in enumerate(some_):
                        edit = reader.taste.put(taste)
                        group.create_task(collection.apply(f"{cluster}-{n}", edit))
            await collection.apply("gone", reader.taste.put(centres[3]))

    asyncio.run(fill())
    backend.sql("UPDATE reader SET expires_at = now() - interval '1 s' WHERE id = 'gone'")
    flat = readers.reshape(-1, dim).astype(float)
    names = [f"{cluster}-{n}" for cluster in range(10) for n in range(40)]

    def expected(query):
        norms = np.linalg.norm(flat, axis=1) * np.linalg.norm(query)
        distances = 1 - flat @ query / norms
        nearest = np.argsort(distances)[:10]
        return [names[n] for n in nearest], distances[nearest]

    async def ask(*queries):
        async with engine_of(backend) as engine, engine.connect() as connection:
            return [(await connection.execute(query)).all() for query in queries]

    for centre in centres[:4]:
        query = centre.astype(np.float32)
        ids, distances = expected(query.astype(float))
        forms = [query, query.tolist(), query.tobytes()]
        for found in asyncio.run(ask(*(most_alike(form) for form in forms))):
            assert [row.id for row in found] == ids
            assert np.allclose([row.distance for row in found], distances, atol=1e-5)
        written = f"'{query.tolist()}'"
        assert [row[0] for row in backend.sql(plain.replace(":query", written))] == ids

    backend.sql(index)
    for cluster, centre in enumerate(centres):
        written = plain.replace(":query", f"'{centre.tolist()}'")
        explained = backend.sql(f"SET enable_seqscan = off; EXPLAIN {written}")
        assert any("reader_taste_idx" in str(line) for line in explained)
        found = backend.sql(f"SET enable_seqscan = off; {written}")
        assert len(found) == 10
        assert {row[0].partition("-")[0] for row in found} == {str(cluster)}


def test_what_a_query_reads(backend):
    """The bytes, as everywhere; on an engine of one's own."""
    apply_all(Taste, backend, EDGES)
    main = tables_of(Taste).main

    async def ask():
        async with engine_of(backend) as engine, engine.connect() as connection:
            return (await connection.execute(sa.select(main.c.taste).order_by(main.c.id))).all()

    assert [row.taste for row in asyncio.run(ask())] == [row.tobytes() for row in EDGES]


def test_no_warning_where_it_is(backend):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply_all(Taste, backend, EDGES[:1])
