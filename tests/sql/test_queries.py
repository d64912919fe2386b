"""The queries of docs/sql.md, as they stand there, on real shopping sessions in real databases."""

import ast
import asyncio
import gzip
import json
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from databases import KINDS, database
from sqlalchemy.ext.asyncio import create_async_engine

from statehold import Store
from statehold.backends import open_driver

PAGE = Path(__file__).parent.parent.parent / "docs" / "sql.md"

HOURS = {0: "night", 1: "morning", 2: "afternoon", 3: "evening"}


def sections():
    """By heading, what stands in its Python and SQL blocks; "" is before the first one."""
    text = PAGE.read_text("utf-8").split("\n## Queries\n")[1].split("\n## ")[0]
    first, *rest = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)
    found = {"": first, **dict(zip(rest[::2], rest[1::2], strict=True))}
    return {heading: blocks(part) for heading, part in found.items()}


def blocks(text):
    return {
        kind: re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for kind in ("python", "sql")
    }


def names(page):
    """What the page's Python defines, without running what it does to its own little store."""
    space = {"__name__": "queries"}
    doing = ("Store.open", "shoppers", "create_engine", "create(engine)", "dispose")
    for part in page.values():
        for block in part["python"]:
            for node in ast.parse(block).body:
                text = ast.unparse(node)
                if isinstance(node, ast.Assert | ast.With) or any(one in text for one in doing):
                    continue
                exec(compile(ast.Module([node], []), str(PAGE), "exec"), space)
    return space


@pytest.fixture(scope="module")
def page():
    return sections()


@pytest.fixture(scope="module")
def sessions(data_dir):
    with gzip.open(data_dir / "otto_sessions.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(params=KINDS)
def backend(request, tmp_path):
    return database(request.param, request, tmp_path)


def moment(event):
    return datetime.fromtimestamp(event["ts"] / 1000, UTC)


def told(session):
    """What is remembered of a session: its usual time of day, its score and its events."""
    events = session["events"]
    times = Counter(HOURS[moment(event).hour // 6] for event in events)
    kinds = Counter(event["type"] for event in events)
    return {
        "preference": times.most_common(1)[0][0],
        "score": kinds["orders"] / len(events),
        "clicks": [event["aid"] for event in events if event["type"] == "clicks"],
        "feedback": [event for event in events if event["type"] != "clicks"],
        "steps": [step for step in ("cart", "order") if kinds[step + "s"]],
        "cohort": "long" if len(events) > 20 else "short",
    }


@pytest.fixture
def known(backend, page, sessions):
    """What is remembered of each, by id; all of it written through statehold."""
    space = names(page)
    state, feedback = space["Shopper"], space["Feedback"]
    out = {}
    with Store.open(backend.url) as store:
        shoppers = store.collection(state)
        for session in sessions:
            id, what = str(session["session"]), told(session)
            out[id] = what
            shoppers.apply(
                id,
                state.preference.put(what["preference"]),
                state.score.put(what["score"]),
                *(state.clicks.add(item) for item in what["clicks"]),
                *(
                    state.feedback.append(
                        feedback(moment(one), one["aid"], one["type"] == "orders")
                    )
                    for one in what["feedback"]
                ),
                *(state.checkout.put(step, "done") for step in what["steps"]),
            )
        shoppers.apply("gone", state.preference.put("evening"), state.clicks.add(1, 10**6))
    expire = {
        "postgresql": "now() - interval '1 s'",
        "mariadb": "utc_timestamp(6) - interval 1 second",
        "sqlite": "1.0",
    }
    backend.sql(f"UPDATE shopper SET expires_at = {expire[backend.kind]} WHERE id = 'gone'")
    backend.sql("CREATE TABLE customers (id VARCHAR(64) PRIMARY KEY, cohort VARCHAR(64))")
    for id, what in out.items():
        backend.sql(f"INSERT INTO customers VALUES ('{id}', '{what['cohort']}')")
    return out


def through_sqlalchemy(backend, query):
    """Through an engine of one's own."""

    async def run():
        driver = open_driver(backend.url)
        engine = create_async_engine(driver.engine.url)
        try:
            async with engine.connect() as connection:
                return [tuple(row) for row in await connection.execute(query)]
        finally:
            await engine.dispose()
            await driver.close()

    return asyncio.run(run())


@pytest.fixture
def asks(backend, page, known):
    """The answers to a section's query: through SQLAlchemy and, on PostgreSQL, its SQL as well."""
    space = names(page)

    def answers(heading, name):
        found = through_sqlalchemy(backend, space[name])
        yield found
        if backend.kind == "postgresql":
            (statement,) = page[heading]["sql"]
            yield backend.sql(statement)

    return answers


def same(found, expected):
    """Whether rows are these, whatever numbers look like."""
    assert [tuple(map(plain, row)) for row in found] == [tuple(map(plain, row)) for row in expected]
    assert expected, "or it would prove nothing"


def plain(value):
    try:
        return round(float(value), 9)
    except ValueError:
        return value


def test_there_are_five(page):
    assert len(page) - 1 >= 5
    assert all(len(part["sql"]) == 1 for heading, part in page.items() if heading)


def test_preference(asks, known):
    expected = sorted(id for id, what in known.items() if what["preference"] == "evening")
    for found in asks("Users whose preference is X", "evening"):
        same(found, [(id,) for id in expected])


def test_most_clicked(asks, known):
    """The state that has expired had clicked far more than all others."""
    total = Counter(item for what in known.values() for item in what["clicks"])
    expected = sorted(total.items(), key=lambda one: (-one[1], str(one[0])))[:10]
    for found in asks("What is clicked most, over all users", "most_clicked"):
        same(found, expected)


def test_by_day(asks, known):
    days = defaultdict(list)
    for what in known.values():
        for event in what["feedback"]:
            days[moment(event).date().isoformat()].append(event["type"] == "orders")
    expected = [(day, len(bought), sum(bought)) for day, bought in sorted(days.items())]
    for found in asks("Feedback by day", "by_day"):
        same(found, expected)


def test_stuck(asks, backend, known):
    """Some of them were last seen two hours ago."""
    stuck = sorted(id for id, what in known.items() if what["steps"] == ["cart"])
    before = {
        "postgresql": "now() - interval '2 hours'",
        "mariadb": "utc_timestamp(6) - interval 2 hour",
        "sqlite": "updated_at - 7200",
    }
    backend.sql(f"UPDATE shopper SET updated_at = {before[backend.kind]} WHERE id = '{stuck[0]}'")
    for found in asks("Active in the last hour, and stuck at a step", "stuck"):
        same(found, [(id,) for id in stuck[1:]])


def test_by_cohort(asks, known):
    cohorts = defaultdict(list)
    for what in known.values():
        cohorts[what["cohort"]].append(what["score"])
    expected = [(name, len(all_), sum(all_) / len(all_)) for name, all_ in sorted(cohorts.items())]
    for found in asks("The mean score of a cohort", "by_cohort"):
        same(found, expected)


@pytest.mark.parametrize("backend", ["postgresql"], indirect=True)
def test_indexes_for_them(backend, known, page):
    """Those that the page speaks of can be made."""
    text = " ".join(PAGE.read_text("utf-8").split())
    made = re.findall(r"`(CREATE INDEX ON shopper [^`]+)`", text)
    assert len(made) == 2
    for statement in made:
        backend.sql(statement)
