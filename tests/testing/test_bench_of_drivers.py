"""`python -m statehold.testing.bench` measures any driver, and leaves nothing in it."""

import pytest

from statehold.testing.bench import _argument, main, measure
from tests.testing.toys import ToyDriver


def test_it_prints_what_each_call_takes(tmp_path, capsys):
    main(["statehold.drivers.sqlite:SqliteDriver", str(tmp_path / "a.db"), "--seconds", "0.02"])
    head, *lines = capsys.readouterr().out.splitlines()
    assert "p50" in head
    names = ["commit, alone", "read, alone", "commit, 64 at once", "read, 64 at once"]
    assert [line[:24].strip() for line in lines] == names
    assert all(float(figure) > 0 for line in lines for figure in line[24:].split())


def test_it_leaves_nothing_behind():
    toy = ToyDriver()
    toy.close = _nothing
    found = measure(lambda: toy, 0.02)
    assert not toy.states
    assert all(took.p50 <= took.p99 for took in found.values())


async def _nothing():
    pass


def test_a_driver_that_refuses_is_told():
    class Refuses(ToyDriver):
        async def commit(self, commits, now):
            return [None for _ in commits]

    with pytest.raises(RuntimeError, match="not written"):
        measure(Refuses, 0.02)


def test_arguments_are_json_or_text():
    assert [_argument(text) for text in ("3", '{"a": 1}', "/tmp/a.db", "true")] == [
        3,
        {"a": 1},
        "/tmp/a.db",
        True,
    ]
