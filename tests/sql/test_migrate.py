"""`statehold migrate`: tables follow their class, and what is in them stays."""

import json

import pytest
from databases import KINDS, cells, database, done, migrate
from visits import (
    RENAMED,
    Aliased,
    Basket,
    Both,
    Changed,
    Floats,
    Renamed,
    Small,
    Versioned,
    Visit,
    edits,
)

from statehold import ConfigError, Store
from statehold.cli import main

TABLES = {
    "visit",
    "visit__ended",
    "visit__ops",
    "visit__history",
    "visit__chat",
    "visit__taste",
    "visit__clicks",
    "visit__spend",
    "visit__tags",
    "visit__also_about",
    "statehold_kinds",
}


@pytest.fixture(params=KINDS)
def backend(request, tmp_path):
    return database(request.param, request, tmp_path)


@pytest.fixture
def run(backend, monkeypatch, capsys):
    return lambda state, *options: migrate(monkeypatch, capsys, backend.url, state, *options)


def write(url, state, *what, id="ada"):
    with Store.open(url, create="never") as store:
        store.collection(state).apply(id, *what)


def unplaced(script):
    """Without the schema, which PostgreSQL's scripts name."""
    return script.replace("public.", "")


def test_a_fresh_database(backend, run):
    code, out, _ = run(Visit, "--plan")
    assert code == 6
    assert "-- visit: table visit is made\nCREATE TABLE visit (" in unplaced(out)
    assert not backend.has(), "a plan changes nothing"

    code, out, _ = run(Visit, "--apply")
    assert code == 0
    assert {step.split()[1] for step in done(out) if step.startswith("table ")} == TABLES
    assert set(backend.has()) >= TABLES

    write(backend.url, Visit, *edits(Visit))
    with Store.open(backend.url, create="never") as store:
        visit = store.collection(Visit).get("ada")
    assert (visit.turns, list(visit.chat), dict(visit.clicks)) == (
        2**53 + 1,
        ["what?", "that"],
        {"sku-1": 3, "sku-2": 1},
    )


def test_a_plan_makes_no_file(tmp_path, monkeypatch, capsys):
    url = f"sqlite+sql:///{tmp_path / 'new.db'}"
    assert migrate(monkeypatch, capsys, url, Visit, "--plan")[0] == 6
    assert not (tmp_path / "new.db").exists()


def test_what_is_done_is_done(backend, run):
    """Applying again does nothing, and there is nothing to plan."""
    run(Visit, "--apply")
    before = backend.has()
    assert run(Visit, "--plan")[:2] == (0, "")
    code, out, _ = run(Visit, "--apply")
    assert (code, done(out), backend.has()) == (0, [], before)


def test_what_open_makes_is_what_migrate_wants(backend, run):
    with Store.open(backend.url) as store:
        store.collection(Visit).get("ada")
    assert run(Visit, "--plan")[:2] == (0, "")


def test_the_plan_is_a_script_that_does_it(backend, run):
    """What `--plan` prints, run by hand, leaves nothing to do."""
    run(Small, "--apply")
    write(backend.url, Small, Small.turns.add(1))
    code, script, _ = run(Visit, "--plan")
    assert code == 6
    if backend.kind == "postgresql":
        backend.sql(script)
    else:
        for statement in script.split(";\n"):
            lines = [line for line in statement.splitlines() if not line.startswith("--")]
            if lines:
                backend.sql("\n".join(lines))
    assert run(Visit, "--plan")[0] == 0
    assert cells(backend.url, Visit, create="never") == {"turns": {"": 1}}


def test_fields_are_added(backend, run):
    """A table that lacks fields is refused at open; migrated, it has them, and its data."""
    run(Small, "--apply")
    write(backend.url, Small, Small.focus.put("x"), Small.turns.add(3), Small.history.append("a"))
    with (
        Store.open(backend.url) as store,
        pytest.raises(ConfigError, match=r"statehold migrate --.*apply"),
    ):
        store.collection(Visit).get("ada")
    code, out, _ = run(Visit, "--plan")
    assert code == 6
    assert "-- visit: column visit.page is added\nALTER TABLE visit ADD COLUMN page" in unplaced(
        out
    )
    assert run(Visit, "--apply")[0] == 0
    assert cells(backend.url, Visit) == cells(backend.url, Small)
    write(backend.url, Visit, *edits(Visit), id="bob")
    assert len(cells(backend.url, Visit, "bob")) == len(Visit.__schema__.fields)


def test_every_field_can_be_renamed(backend, run):
    """Columns and tables follow, and every byte with them."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    before = cells(backend.url, Visit)
    assert len(before) == len(RENAMED)

    renames = [f"--rename=visit.{old}={new}" for old, new in RENAMED.items()]
    code, out, _ = run(Renamed, "--plan", *renames)
    assert code == 6
    assert "DROP" not in out
    assert "CREATE TABLE" not in out
    code, out, _ = run(Renamed, "--apply", *renames)
    assert code == 0
    assert cells(backend.url, Renamed) == {RENAMED[name]: cell for name, cell in before.items()}
    with Store.open(backend.url) as store:
        states = store.collection(Renamed)
        states.apply("ada", *edits(Renamed))
        assert list(states.get("ada").past) == ["hello", "again"] * 2
        assert states.get("ada").backend is None

    code, out, _ = run(Renamed, "--apply", *renames)  # as in a pipeline that says it each time
    assert (code, done(out)) == (0, [])


def test_all_at_once(backend, run):
    """Fields renamed, their type changed, others dropped, orphans deleted: one command."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    write(backend.url, Visit, Visit.page.put(7), Visit.turns.add(-(2**53) + 1))
    backend.sql("DELETE FROM visit__clicks WHERE entry = 'sku-2'")
    backend.sql("INSERT INTO visit__clicks (state, entry, whole) VALUES (999999, 'sku-9', 1)")
    names = {"page": "backend", "turns": "rounds", "clicks": "taps"}
    options = ["--drop", *(f"--rename=visit.{old}={new}" for old, new in names.items())]
    code, out, _ = run(Both, "--plan", *options)
    assert code == 6
    assert "-- visit: rows of visit__taps that belong to no state are deleted" in out
    assert run(Both, "--apply", *options)[0] == 0
    assert cells(backend.url, Both) == {
        "backend": {"": b"7.0"},
        "rounds": {"": 2.0},
        "taps": {"sku-1": 3},
    }
    assert backend.sql("SELECT count(*) FROM visit__taps") == [("1",)]


def test_several_kinds(backend, monkeypatch, capsys, run):
    """All of them, or those that are named."""
    both = f"{Basket.__module__}:Basket"

    def migrated(state, *options):
        monkeypatch.setenv("STATEHOLD_KINDS", f"{state.__module__}:{state.__name__},{both}")
        monkeypatch.setenv("STATEHOLD_BACKEND", backend.url)
        capsys.readouterr()
        code = main(["migrate", *options])
        return code, capsys.readouterr().out

    assert unplaced(migrated(Small, "--plan")[1]).count("CREATE TABLE statehold_kinds") == 1
    code, out = migrated(Small, "--apply")
    assert (code, [json.loads(line)["kind"] for line in out.splitlines()]) == (
        0,
        ["visit", "basket"],
    )
    assert migrated(Visit, "--plan", "basket") == (0, "")
    assert migrated(Visit, "--plan")[0] == 6
    assert migrated(Visit, "--apply", "visit")[0] == 0
    assert migrated(Visit, "--plan")[0] == 0


def test_a_rename_on_a_fresh_database_is_nothing(backend, run):
    assert run(Renamed, "--apply", "--rename=visit.focus=topic")[0] == 0
    assert run(Renamed, "--plan")[0] == 0


def test_an_alias_needs_nothing(backend, run):
    """A field renamed with `stored_as` stays where it is."""
    run(Visit, "--apply")
    write(backend.url, Visit, Visit.focus.put("x"), Visit.history.append("a"))
    code, out, _ = run(Aliased, "--plan")
    if (
        backend.kind == "postgresql"
    ):  # there is a function for each layout, which open makes as well
        assert "ALTER TABLE" not in out
    else:
        assert code == 0
    with Store.open(backend.url) as store:
        visit = store.collection(Aliased).get("ada")
    assert (visit.topic, list(visit.past)) == ("x", ["a"])


@pytest.mark.parametrize(
    ("state", "rename", "why"),
    [
        (Renamed, "visit.focus", "say kind.old=new"),
        (Renamed, "shop.focus=topic", "no kind 'shop'"),
        (Renamed, "visit.focus=nothing", "has no field stored as 'nothing'"),
        (Visit, "visit.focus=page", "still has a field stored as 'focus'"),
    ],
)
def test_a_rename_that_cannot_be(backend, run, state, rename, why):
    run(Visit, "--apply")
    before = backend.has()
    code, _, error = run(state, "--apply", "--rename", rename)
    assert code == 2
    assert why in error
    assert backend.has() == before


def test_a_rename_that_would_lose(backend, run):
    """Where both names hold data already, one of them would be overwritten."""
    run(Visit, "--apply")
    run(Renamed, "--apply")
    before = backend.has()
    code, _, error = run(Renamed, "--apply", "--rename=visit.focus=topic")
    assert code == 2
    assert "'topic' is stored as well" in error
    assert backend.has() == before


def test_a_new_version_is_an_addition(backend, run):
    """Both versions are kept side by side, and read as one."""
    run(Small, "--apply")
    write(backend.url, Small, Small.focus.put("x"), Small.history.append("a"))
    assert run(Versioned, "--apply")[0] == 0
    columns = {column for column, _ in backend.has()["visit"]}
    assert {"focus", "focus__2", "history__end", "history__2__end"} <= columns
    write(backend.url, Versioned, Versioned.history.append({"text": "b"}))
    with Store.open(backend.url) as store:
        visit = store.collection(Versioned).get("ada")
    assert (visit.focus, list(visit.history)) == (["x"], [{"text": "a"}, {"text": "b"}])
    run(Versioned, "--apply", "--drop")
    assert {"focus", "history__end"} <= {column for column, _ in backend.has()["visit"]}, (
        "--drop leaves what the class reads as an older version"
    )


def test_whole_numbers_become_fractions(backend, run):
    run(Small, "--apply")
    run(Visit, "--apply")
    write(backend.url, Visit, Visit.page.put(7), Visit.turns.add(2**50))
    assert run(Floats, "--apply")[0] == 0
    found = cells(backend.url, Floats)
    assert (found["page"], found["turns"]) == ({"": b"7.0"}, {"": 2.0**50})
    write(backend.url, Floats, Floats.turns.add(-(2.0**50) + 0.5))
    assert cells(backend.url, Floats)["turns"] == {"": 0.5}


def test_whole_numbers_that_no_fraction_holds(backend, run):
    run(Visit, "--apply")
    write(backend.url, Visit, Visit.turns.add(2**53 + 1))
    before = backend.has()
    code, _, error = run(Floats, "--apply")
    assert code == 2
    assert "numbers beyond 2^53" in error
    assert backend.has() == before
    assert cells(backend.url, Visit)["turns"] == {"": 2**53 + 1}


def test_what_may_lose_values_is_refused(backend, run):
    """The answer says what to do, and nothing was done, not even what could have been."""
    run(Small, "--apply")
    write(backend.url, Small, Small.focus.put("x"), Small.turns.add(1))
    before = backend.has()
    code, out, _ = run(Changed, "--plan")
    assert code == 2
    assert "-- visit: CANNOT BE DONE: visit.focus holds text and is to hold int" in out
    code, _, error = run(Changed, "--apply")
    assert code == 2
    assert "visit.focus holds text and is to hold int" in error
    assert "version=2 and an upcast from 1" in error
    assert "visit.turns holds a sum of int and is to hold a list of json" in error
    assert backend.has() == before
    assert cells(backend.url, Small) == {"focus": {"": b'"x"'}, "turns": {"": 1}}


def test_the_plan_of_what_cannot_be_done_does_nothing(backend, run, tmp_path, monkeypatch, capsys):
    """Who runs it by hand all the same has what there was, and nothing is written as a revision."""
    run(Small, "--apply")
    write(backend.url, Small, Small.focus.put("x"))
    before = backend.has()
    run(Changed, "--plan")
    monkeypatch.setenv(
        "STATEHOLD_KINDS", f"{Changed.__module__}:Changed,{Basket.__module__}:Basket"
    )
    assert main(["migrate", "--plan"]) == 2
    script, error = capsys.readouterr()
    assert "visit.focus holds text and is to hold int" in error
    assert "-- visit: would be done: table visit__turns is made" in unplaced(script)
    assert "-- basket: would be done: table basket is made" in unplaced(script)
    assert all(line.startswith("-- ") for line in script.splitlines())

    if backend.kind != "mariadb":  # which has an error for what holds no statement
        backend.sql(script)
    assert backend.has() == before
    write(backend.url, Small, Small.turns.add(1))
    assert cells(backend.url, Small) == {"focus": {"": b'"x"'}, "turns": {"": 1}}

    (tmp_path / "versions").mkdir()
    assert run(Changed, "--write", str(tmp_path / "versions"))[0] == 2
    assert not list((tmp_path / "versions").iterdir())


def test_who_opens_what_migrate_will_not_change_is_told_so(backend, run):
    """And of what it will change, that it does."""
    run(Small, "--apply")
    found = {}
    for state in (Changed, Visit):
        with Store.open(backend.url) as store, pytest.raises(ConfigError) as caught:
            store.collection(state).get("ada")
        found[state] = str(caught.value)
    assert "run: statehold migrate --plan, then --apply" in found[Visit]
    assert "statehold migrate will not change it: visit.focus holds text" in found[Changed]
    assert "version=2 and an upcast from 1" in found[Changed]
    assert "--apply" not in found[Changed]


def test_nothing_goes_unless_it_is_said(backend, run):
    """Removed fields stay; `--drop` takes them, and the plan lists each."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    before = backend.has()
    kept = cells(backend.url, Small)
    code, out, _ = run(Small, "--plan")
    assert "-- visit: no class uses column visit.page; it is kept" in out
    assert "-- visit: no class uses table visit__clicks; it is kept" in out
    assert run(Small, "--apply")[0] == 0
    assert backend.has() == before
    assert cells(backend.url, Visit) == kept

    code, out, _ = run(Small, "--plan", "--drop")
    assert code == 6
    assert "-- visit: column visit.page is DROPPED with all that is in it" in out
    assert "-- visit: table visit__clicks is DROPPED with all that is in it" in out
    assert backend.has() == before
    assert run(Small, "--apply", "--drop")[0] == 0
    assert set(backend.has()) & TABLES == {
        "visit",
        "visit__also_about",
        "visit__ended",
        "visit__ops",
        "visit__history",
        "statehold_kinds",
    }
    wanted = {name: cell for name, cell in kept.items() if name in {"focus", "turns", "history"}}
    assert cells(backend.url, Small) == wanted
    assert run(Small, "--plan")[:2] == (0, "")


def test_orphans_go_with_drop(backend, run):
    """Rows that an old release left in tables that it did not know of."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    backend.sql("INSERT INTO visit__history (state, seq, value) VALUES (999999, 1, '\"x\"')")
    assert run(Visit, "--plan")[0] == 0
    _, out, _ = run(Visit, "--apply", "--drop")
    assert "rows of visit__history that belong to no state are deleted" in done(out)
    assert backend.sql("SELECT count(*) FROM visit__history") == [("2",)]
    assert len(cells(backend.url, Visit)) == len(RENAMED)


def test_nothing_else_is_touched(backend, run):
    """Tables, columns and indexes of the users' own, in the same database and the same table."""
    backend.sql("CREATE TABLE customers (id INTEGER PRIMARY KEY, page VARCHAR(10))")
    backend.sql("CREATE TABLE visit__notes (id INTEGER PRIMARY KEY)")
    backend.sql("INSERT INTO customers VALUES (1, 'x')")
    run(Visit, "--apply")
    backend.sql("ALTER TABLE visit ADD COLUMN note VARCHAR(10)")
    backend.sql("CREATE INDEX by_turns ON visit (turns)")
    assert run(Visit, "--plan")[0] == 0
    write(backend.url, Visit, *edits(Visit))
    backend.sql("UPDATE visit SET note = 'mine'")
    assert run(Small, "--apply", "--drop")[0] == 0
    found = backend.has()
    assert "note" in {column for column, _ in found["visit"]}
    assert backend.sql("SELECT note FROM visit") == [("mine",)]
    assert backend.sql("SELECT * FROM customers") == [("1", "x")]
    assert "visit__notes" in found


def test_a_table_of_somebody_else(backend, run):
    """Where a table of that name exists, it is not made to fit."""
    backend.sql("CREATE TABLE visit (id INTEGER PRIMARY KEY, name VARCHAR(10))")
    before = backend.has()
    code, _, error = run(Visit, "--apply")
    assert code == 2
    assert "a table visit that statehold did not make" in error
    assert backend.has() == before


def test_a_child_table_of_somebody_else(backend, run):
    backend.sql("CREATE TABLE visit__clicks (id INTEGER PRIMARY KEY, name VARCHAR(10))")
    before = backend.has()
    code, _, error = run(Visit, "--apply")
    assert code == 2
    assert "visit__clicks is of something else" in error
    assert backend.has() == before


def test_prefixes_and_schemas(backend, run, monkeypatch, capsys):
    """Services that share a database have tables of their own, each migrated by itself."""
    other = f"{backend.url}?table_prefix=other_"
    if backend.kind == "postgresql":
        backend.sql("CREATE SCHEMA elsewhere")
        other += "&schema=elsewhere"
    run(Small, "--apply")
    assert migrate(monkeypatch, capsys, other, Small, "--apply")[0] == 0
    with Store.open(other, create="never") as store:
        store.collection(Small).apply("ada", Small.turns.add(5), Small.history.append("a"))
    ours = backend.has()
    assert migrate(monkeypatch, capsys, other, Visit, "--plan")[0] == 6
    assert migrate(monkeypatch, capsys, other, Visit, "--apply")[0] == 0
    assert cells(other, Visit)["turns"] == {"": 5}
    write(other, Visit, *edits(Visit))
    found = backend.has()
    assert {name: found[name] for name in ours if not name.startswith("other_")} == {
        name: columns for name, columns in ours.items() if not name.startswith("other_")
    }
    if backend.kind == "postgresql":
        assert found == ours, "all of it is in the other schema"
    assert run(Small, "--plan")[0] == 0
    options = ("--rename=visit.turns=rounds", "--rename=visit.history=past")
    assert migrate(monkeypatch, capsys, other, Renamed, "--apply", *options)[0] == 0
    assert list(cells(other, Renamed)["past"]) == [b'"a"', b'"hello"', b'"again"']
    assert migrate(monkeypatch, capsys, other, Renamed, "--apply", "--drop")[0] == 0
    assert set(cells(other, Renamed)) == {"rounds", "past"}
    assert run(Small, "--plan")[0] == 0


def test_done_by_hand_and_mended(backend, run):
    """A column and an index that went missing are noticed at open, and come back."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    backend.sql("ALTER TABLE visit DROP COLUMN filters")
    on = " ON visit" if backend.kind == "mariadb" else ""
    backend.sql(f"DROP INDEX visit__subject{on}")
    with (
        Store.open(backend.url) as store,
        pytest.raises(ConfigError, match=r"column visit\.filters is missing"),
    ):
        store.collection(Visit).get("ada")
    _, out, _ = run(Visit, "--apply")
    assert done(out) == [
        "column visit.filters is added",
        "index visit__subject on visit is made",
    ]
    assert len(cells(backend.url, Visit)) == len(RENAMED) - 1


def test_an_index_that_covers_less_is_made_anew(backend, run):
    """That of an earlier layout, under the same name: by it a page of a subject would be looked for in all of them."""
    run(Visit, "--apply")
    on = " ON visit" if backend.kind == "mariadb" else ""
    backend.sql(f"DROP INDEX visit__subject{on}")
    backend.sql("CREATE INDEX visit__subject ON visit (tenant, subject)")
    with (
        Store.open(backend.url) as store,
        pytest.raises(ConfigError, match=r"index visit__subject on visit is missing"),
    ):
        store.collection(Visit).get("ada")
    _, out, _ = run(Visit, "--apply")
    assert done(out) == ["index visit__subject on visit is made anew"]
    assert run(Visit, "--plan")[0] == 0


def test_the_command_line(run, monkeypatch, capsys):
    code, _, error = run(Visit, "--plan", "shop")
    assert (code, "no kind 'shop'; there are visit" in error) == (2, True)
    code, _, error = migrate(monkeypatch, capsys, "memory://", Visit, "--plan")
    assert (code, "has no tables to be migrated" in error) == (2, True)


def test_tables_from_before_epochs_were_claimed(backend, run):
    """They lack one column, which is said, and added; then leases can be had."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    backend.sql("ALTER TABLE visit DROP COLUMN epoch_claim")
    with pytest.raises(ConfigError, match="epoch_claim"):
        write(backend.url, Visit)
    _, out, _ = run(Visit, "--apply")
    assert done(out)[0] == "column visit.epoch_claim is added"
    with Store.open(backend.url, create="never") as store:
        visits = store.collection(Visit)
        before = visits.get("ada").meta.revision
        with visits.lease("ada", ttl=30):
            assert visits.get("ada").meta.revision == before


def test_tables_from_before_a_state_was_about_several(backend, run):
    """They lack a column and a table, which is said, and added; the description says so."""
    run(Visit, "--apply")
    write(backend.url, Visit, *edits(Visit))
    described = "REPLACE(description, '\"format\":2', '\"format\":1')"
    if backend.kind == "postgresql":
        described = f"{described.replace('(description', '(CAST(description AS text)')}::json"
    for statement in (
        "ALTER TABLE visit DROP COLUMN also_about",
        "DROP TABLE visit__also_about",
        f"UPDATE statehold_kinds SET format = 1, description = {described}",
    ):
        backend.sql(statement)
    with pytest.raises(ConfigError, match="also_about"):
        write(backend.url, Visit)
    _, out, _ = run(Visit, "--apply")
    assert {"table visit__also_about is made", "column visit.also_about is added"} <= set(done(out))
    assert "statehold_kinds says what there is of visit" in done(out)
    assert run(Visit, "--plan")[:2] == (0, "")
    with Store.open(backend.url, create="never") as store:
        visits = store.collection(Visit)
        assert visits.get("ada").meta.revision.number == 1
        visits.apply("ada", subject=["ann", "run 7"])
        assert list(visits.find("run 7")) == ["ada"]
