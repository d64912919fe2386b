"""Nothing of the command line is left out of docs/cli.md, nor of `replay`'s lines of docs/replay.md."""

import argparse
import re

import pytest

from commands import ROOT
from statehold.cli.exits import MEANINGS
from statehold.cli.parser import KEY_VARIABLE, parser
from statehold.replay import lines
from statehold.replay.report import Counts

PAGE = (ROOT / "docs" / "cli.md").read_text("utf-8")
REPLAY = (ROOT / "docs" / "replay.md").read_text("utf-8")


def commands():
    (found,) = (a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


def section(name):
    return re.split(r"^## ", PAGE.split(f"## `statehold {name}`\n")[1], flags=re.MULTILINE)[0]


@pytest.mark.parametrize("name", commands())
def test_every_command_and_option(name):
    shared = PAGE.split("## Where the states are")[1].split("\n## ")[0]
    for action in commands()[name]._actions:
        for option in action.option_strings:
            if option not in {"-h", "--help"}:
                assert option in section(name) + shared, f"{name} {option}"


def test_no_command_that_is_not():
    assert set(re.findall(r"^## `statehold (\w+)`", PAGE, re.MULTILINE)) == set(commands())


def test_every_exit_code():
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == MEANINGS


def test_the_key():
    assert KEY_VARIABLE in PAGE


def test_every_name_in_a_line():
    table = REPLAY.split("## A line")[1].split("\n## ")[0]
    for name in lines._Written.__struct_fields__:
        assert f"`{name}`" in table
    for name in set(Counts.__struct_fields__) - {"lines"}:
        assert f"`{name}`" in REPLAY
