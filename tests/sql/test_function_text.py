"""The text of the commit function: SQL files with named holes, each of which is filled."""

from importlib.resources import files
from string import Template

import pytest

from statehold.drivers.sql.postgres import function
from statehold.drivers.sql.schema.tables import Tables
from statehold.testing.rig import layout


@pytest.mark.parametrize("name", ["commit", "update"])
def test_each_hole_is_filled_and_nothing_else(monkeypatch, name):
    """What is given and is no hole would be lost without a word."""
    given = set()

    class Watched(Template):
        def substitute(self, **holes):
            given.update(holes)
            return super().substitute(**holes)

    text = (files("statehold.drivers.sql.postgres") / f"{name}.sql").read_text("utf-8")
    made_of = function.template
    monkeypatch.setattr(
        function, "template", lambda which: Watched(text) if which == name else made_of(which)
    )
    made = function.commit_function(Tables(layout()))
    assert given == set(Template(text).get_identifiers())
    assert "$main" not in made.create


def test_no_literal_hangs_on_how_a_server_reads_backslashes():
    """Behind a pooler nobody can say `standard_conforming_strings`; so there is none in a text."""
    kinds = Tables(layout())
    for text in (function.commit_function(kinds).create, function.read_function(kinds).text):
        assert "\\" not in text
