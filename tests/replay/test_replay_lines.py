"""`statehold replay` line by line: what it takes, what it refuses, and that it does nothing twice."""

import gzip
import json

import pytest

from commands import contents, dump, inside
from statehold import Store
from statehold.config import Config

TOML = """
backend = "sqlite:///state.db"

[kinds.chat]
ttl = "never"

[kinds.chat.fields]
history = { type = "log", items = "string", keep = 1000, max_bytes = 20 }
turns = "counter"
facts = { type = "map", values = "string", keep = 2 }

[kinds.short]
ttl = "never"
ops = 4

[kinds.short.fields]
turns = "counter"
facts = { type = "map", values = "string", keep = 2 }
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "statehold.toml").write_text(TOML)
    return tmp_path


def line(id, changes=None, kind="chat", **more):
    return {"kind": kind, "id": id, **({} if changes is None else {"changes": changes}), **more}


def add(id, amount=1, **more):
    return line(id, {"turns": {"add": amount}}, **more)


def write(folder, *lines, name="in.jsonl"):
    texts = [text if isinstance(text, str) else json.dumps(text) for text in lines]
    path = folder / name
    path.write_text("\n".join(texts) + "\n")
    return path


def replay(folder, *arguments, code=0, **more):
    out, err = inside("replay", *arguments, cwd=folder, code=code, **more)
    return json.loads(out) if out else None, err


def states(folder, tenant=""):
    kinds = Config.load(folder / "statehold.toml", {}).kinds
    store = Store.open(f"sqlite:///{folder / 'state.db'}")
    return store, {kind: store.collection(cls, tenant=tenant) for kind, cls in kinds.items()}


def turns(folder, id, kind="chat", tenant=""):
    store, kinds = states(folder, tenant)
    with store:
        state = kinds[kind].get(id)
        return state.turns if state.meta.exists else None


def rejects(folder, name="in.jsonl.rejects.jsonl"):
    return [json.loads(row) for row in (folder / name).read_text().splitlines()]


def test_bad_lines_are_reported_and_kept(folder):
    bad = {
        2: ("not json", "invalid"),
        3: (json.dumps(line("a", {}, kind="nothing")), "invalid"),
        4: (json.dumps(line("a", {"moods": {"put": 1}})), "invalid"),
        5: (json.dumps(line("a", {"turns": {"multiply": 2}})), "invalid"),
        6: (json.dumps(line("a", {"turns": {"add": "one"}})), "invalid"),
        7: (json.dumps(line("a", {"history": {"append": ["x" * 21]}})), "too_large"),
        8: (json.dumps(line("a", {"facts": {"put": {"1": "", "2": "", "3": ""}}})), "too_large"),
        9: (json.dumps(line("a")), "invalid"),
        10: (json.dumps(add("a", delete=True)), "invalid"),
        11: (json.dumps(add("a", exepct="absent")), "invalid"),
        12: (json.dumps(add("a", expect="7")), "invalid"),
        13: (json.dumps(add("a", expect="absent")), "conflict"),
        14: (json.dumps(add("", op="o")), "invalid"),
        15: (json.dumps(add("a", op="o" * 200)), "invalid"),
        16: ("[1, 2]", "invalid"),
    }
    path = write(folder, add("a"), *(text for text, _ in bad.values()), "", add("a", 2))
    summary, err = replay(folder, path, code=1)
    assert (summary["lines"], summary["applied"], summary["rejected"]) == (17, 2, 15)
    assert turns(folder, "a") == 3
    rows = {row["line"]: row for row in rejects(folder)}
    assert {number: row["code"] for number, row in rows.items()} == {
        number: code for number, (_, code) in bad.items()
    }
    assert rows[2]["text"] == "not json"
    assert rows[4]["input"] == json.loads(bad[4][0])
    assert rows[7]["field"] == "history"
    assert all(row["reason"] for row in rows.values())
    assert "line 2: invalid: " in err
    assert "more bad lines are in" in err

    # Corrected, they can be replayed; without bad lines the file of an earlier run goes away.
    write(folder, add("a", 4), name="fixed.jsonl")
    replay(folder, "fixed.jsonl")
    assert turns(folder, "a") == 7
    replay(folder, write(folder, add("a")))
    assert not (folder / "in.jsonl.rejects.jsonl").exists()


def test_gzip_and_standard_input(folder):
    lines = [add(id) for id in "abcab"]
    text = "".join(json.dumps(entry) + "\n" for entry in lines).encode()
    (folder / "in.jsonl.gz").write_bytes(gzip.compress(text))
    summary, _ = replay(folder, "in.jsonl.gz")
    assert summary["applied"] == 5
    summary, _ = replay(folder, "-", stdin=text)  # the same lines: the same op ids
    assert (summary["applied"], summary["repeated"]) == (0, 5)
    assert [turns(folder, id) for id in "abc"] == [2, 2, 1]
    replay(folder, "-", "--rejects", "bad.jsonl", stdin=b"what?", code=1)
    assert rejects(folder, "bad.jsonl")[0]["text"] == "what?"


@pytest.mark.parametrize("cut", [20, -4])
def test_half_a_gzip_file_writes_nothing(folder, cut):
    text = "".join(json.dumps(add(str(n))) + "\n" for n in range(50)).encode()
    (folder / "in.jsonl.gz").write_bytes(gzip.compress(text)[:cut])
    _, err = replay(folder, "in.jsonl.gz", code=1)
    assert "in.jsonl.gz: line" in err
    assert turns(folder, "0") is None


def test_the_last_line_may_lack_its_end(folder):
    (folder / "in.jsonl").write_text(json.dumps(add("a")))
    assert replay(folder, "in.jsonl")[0]["applied"] == 1


def test_equal_lines_count_each(folder):
    path = write(folder, add("a"), add("a"), add("a", op="same"), add("a", op="same"))
    assert replay(folder, path)[0]["repeated"] == 1
    assert replay(folder, path)[0]["repeated"] == 4
    assert turns(folder, "a") == 3


def test_all_of_a_line_counts(folder):
    path = write(
        folder,
        add("a", tenant="t", subject="ada", epoch=3, time="2026-01-01", expect="absent"),
        add("a", tenant="t", epoch=2),
        add("a"),
        add("gone"),
        line("gone", delete=True),
    )
    summary, err = replay(folder, path, code=1)
    assert "line 2: fenced" in err
    assert summary["applied"] == 4
    assert turns(folder, "a", tenant="t") == 1
    assert turns(folder, "a") == 1
    assert turns(folder, "gone") is None
    store, kinds = states(folder, "t")
    with store:
        assert kinds["chat"].get("a").meta.epoch == 3
        assert list(kinds["chat"].find("ada")) == ["a"]
    write(folder, add("a"), name="more.jsonl")
    replay(folder, "more.jsonl", "--tenant", "t", code=1)  # unfenced, where an epoch was seen
    assert rejects(folder, "more.jsonl.rejects.jsonl")[0]["code"] == "fenced"


def test_order_within_a_key(folder):
    lines = [line(f"{n % 7}", {"history": {"append": [str(n)]}}) for n in range(700)]
    replay(folder, write(folder, *lines))
    store, kinds = states(folder)
    with store:
        for key in range(7):
            assert list(kinds["chat"].get(str(key)).history) == [str(n) for n in range(key, 700, 7)]


def test_more_lines_than_op_ids_twice(folder):
    """Four op ids are remembered, of 30 lines: the second run still changes nothing, and says so."""
    lines = [add(id, n, kind="short") for n in range(1, 31) for id in ("a", "b")]
    path = write(folder, *lines, add("c", kind="short"))
    replay(folder, path)
    before = dump(folder / "state.db")
    summary, err = replay(folder, path)
    assert (summary["applied"], summary["skipped"], summary["repeated"]) == (0, 60, 1)
    assert "2 keys have more lines than their kind remembers op ids" in err
    assert "60 lines skipped: 2 keys went on after the newest of their lines" in err
    assert dump(folder / "state.db") == before
    assert turns(folder, "a", "short") == sum(range(1, 31))


@pytest.mark.parametrize("applied", [1, 3, 4, 5, 17, 29])
def test_more_lines_than_op_ids_resumed(folder, applied):
    """However far an earlier run came, the next one does the rest."""
    lines = [add("a", n, kind="short") for n in range(1, 31)]
    replay(folder, write(folder, *lines[:applied]))
    replay(folder, write(folder, *lines))
    assert turns(folder, "a", "short") == sum(range(1, 31))


def test_refused_lines_in_a_long_history(folder):
    """A refused line is remembered by no state; the lines around it are."""
    too_many = line("a", {"facts": {"put": {"1": "", "2": "", "3": ""}}}, kind="short")
    lines = [add("a", n, kind="short") for n in range(1, 11)] + [too_many] * 6
    path = write(folder, *lines)
    replay(folder, path, code=1)
    before = dump(folder / "state.db")
    replay(folder, path, code=1)
    assert dump(folder / "state.db") == before
    assert turns(folder, "a", "short") == 55


def test_a_deletion_on_the_way(folder):
    path = write(folder, add("a", 5), line("a", delete=True), add("a", 2), add("a", 3))
    replay(folder, path)
    before = dump(folder / "state.db")
    replay(folder, path)
    assert turns(folder, "a") == 5
    assert dump(folder / "state.db") == before


def test_from_a_line(folder):
    lines = [add("a", 1), "bad", add("a", 10), add("a", 10), add("a", 100)]
    path = write(folder, *lines)
    replay(folder, path, "--from", 4)  # the second of two equal lines keeps its op id
    assert turns(folder, "a") == 110
    summary, _ = replay(folder, path, code=1)
    assert (summary["applied"], summary["repeated"], summary["rejected"]) == (2, 2, 1)
    assert turns(folder, "a") == 121


def test_onto_what_is_there(folder):
    """Another day's file goes onto the same states, long histories too."""
    replay(folder, write(folder, *[add("a", 1, kind="short", op=f"1-{n}") for n in range(9)]))
    replay(folder, write(folder, *[add("a", 1, kind="short", op=f"2-{n}") for n in range(9)]))
    assert turns(folder, "a", "short") == 18


def test_contents_of_many_keys_at_once(folder):
    path = write(folder, *[add(str(n % 500)) for n in range(2000)])
    one, many = folder / "one", folder / "many"
    for backend, jobs in ((one, 1), (many, 500)):
        backend.mkdir()
        replay(folder, path, "--backend", f"sqlite:///{backend / 'state.db'}", "--jobs", jobs)
    kinds = Config.load(folder / "statehold.toml", {}).kinds
    found = []
    for backend in (one, many):
        with Store.open(f"sqlite:///{backend / 'state.db'}") as store:
            found.append(contents(store, kinds))
    assert found[0] == found[1]
    assert len(found[0]) == 500


def test_an_empty_file(folder):
    (folder / "in.jsonl").write_text("\n\n")
    assert replay(folder, "in.jsonl")[0]["lines"] == 0


def test_no_file(folder):
    _, err = replay(folder, "nothing.jsonl", code=1)
    assert err == "statehold: invalid: nothing.jsonl: No such file or directory\n"


def test_rejects_that_cannot_be_kept(folder):
    path = write(folder, "bad", add("a"))
    _, err = replay(folder, path, "--rejects", "no/such/folder", code=5)
    assert "no/such/folder" in err
    assert "stopped at line 1" in err
