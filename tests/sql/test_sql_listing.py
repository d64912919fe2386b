"""How listings are looked up: by an index that has the page's rows in their order, wherever these are."""

import re
import time

import pytest
from msgspec.structs import replace
from sqlalchemy import event, text

from statehold.driver import Scan
from tests.sql.sqlbackends import commit, database, play, portable

OTHERS, SUBJECTS, PAGE = 20_000, 2_000, 100

SERIES = {
    "postgresql": "generate_series({}, {}) AS s(n)",
    "mariadb": "(SELECT seq AS n FROM seq_{}_to_{}) AS s",
}
AT = {"postgresql": "now()", "mariadb": "utc_timestamp(6)"}
ID = {"postgresql": "'{}' || lpad(n::text, 6, '0')", "mariadb": "concat('{}', lpad(n, 6, '0'))"}


async def fill(connection, kind, prefix, first, last, subject):
    """Rows as commits leave them, many at once."""
    rows, at, id = SERIES[kind].format(first, last), AT[kind], ID[kind].format(prefix)
    await connection.execute(
        text(
            "INSERT INTO basket (tenant, id, incarnation, number, created_at, updated_at, epoch, ops, subject)"
            f" SELECT 't', {id}, 1, 1, {at}, {at}, 0, 0, {subject} FROM {rows}"
        )
    )


ASKED = {
    "all": Scan("t", "basket", limit=PAGE),
    "all, by prefix": Scan("t", "basket", prefix="b01", limit=PAGE),
    "a subject's": Scan("t", "basket", subject="ann", limit=PAGE),
    "a subject's, by prefix": Scan("t", "basket", subject="ann", prefix="z001", limit=PAGE),
}


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_page_looks_at_no_more_rows_than_it_has(request, kind):
    """Told by the database: the first page and the next, by an index in its order, with the subject's last of all."""

    async def work(driver):
        await driver.commit([commit(id="zz", subject=("bob", "ann"))], time.time())
        async with driver.engine.begin() as connection:
            await fill(connection, kind, "a", 1, OTHERS, "NULL")
            await fill(connection, kind, "b", 1, OTHERS, ID[kind].format("s"))
            await fill(connection, kind, "z", 1, SUBJECTS, "'ann'")
        async with driver.engine.begin() as connection:
            for table in ("basket", "basket__also_about"):
                word = "ANALYZE" if kind == "postgresql" else "ANALYZE TABLE"
                await connection.execute(text(f"{word} {table}"))
        return {name: await pages(driver, kind, asked) for name, asked in ASKED.items()}

    url = database(request, kind, None)
    found = play(url, work, open_=portable, settings={"sweep": "off"})
    for name, (keys, counts) in found.items():
        assert keys, name
        assert len(counts) == 2, name
        assert max(counts) <= 2 * PAGE + 10, (name, counts)


async def pages(driver, kind, asked):
    """How many keys the second page of a listing has, and how many rows were looked at for each."""
    sent = []

    def note(_connection, _cursor, statement, given, _context, _many):
        sent.append((statement, given))

    listened = driver.engine.sync_engine
    event.listen(listened, "before_cursor_execute", note)
    page = await driver.scan(asked, time.time())
    page = await driver.scan(replace(asked, cursor=page.cursor), time.time())
    event.remove(listened, "before_cursor_execute", note)
    async with driver.engine.connect() as connection:
        counts = [await looked_at(connection, kind, *one) for one in sent if "LIMIT" in one[0]]
    return len(page.keys), counts


async def looked_at(connection, kind, statement, given):
    """How many rows of the tables a statement looked at."""
    if kind == "postgresql":
        rows = await connection.exec_driver_sql(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}", given)
        plan = [row[0] for row in rows]
        scans = [line for line in plan if "Scan" in line and "Subquery" not in line]
        found = sum(int(n) for line in scans for n in re.findall(r"rows=(\d+)", line))
        dropped = [line for line in plan if "Removed by" in line]
        return found + sum(int(n) for line in dropped for n in re.findall(r": (\d+)", line))
    await connection.exec_driver_sql("FLUSH STATUS")
    await connection.exec_driver_sql(statement, given)
    rows = await connection.exec_driver_sql(
        "SHOW SESSION STATUS WHERE variable_name IN ('Handler_read_next', 'Handler_read_key')"
    )
    counted = {name: int(value) for name, value in (tuple(row) for row in rows)}
    return counted["Handler_read_next"] + counted["Handler_read_key"]
