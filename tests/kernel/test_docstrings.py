"""What an editor's pop-up shows: every call on a field, its view and its edits tells of itself."""

import inspect
import re

import pytest

import statehold
from statehold.fields import Field
from statehold.fields.log import LogView
from statehold.fields.maps import MapView
from statehold.fields.sets import SetView
from statehold.fields.tally import TallyView
from statehold.fields.turns import TurnsView
from statehold.fields.vector import Decayed
from statehold.fields.window import WindowView

FIELDS = [
    value
    for value in vars(statehold).values()
    if isinstance(value, type) and issubclass(value, Field) and value is not Field
]
VIEWS = [Decayed, LogView, MapView, SetView, TallyView, TurnsView, WindowView]


def calls(cls):
    """What of the class is public and called, or a property; none of it is plain data."""
    for name in dir(cls):
        value = inspect.getattr_static(cls, name)
        value = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property)):
            yield name, value


@pytest.mark.parametrize("cls", [*FIELDS, *VIEWS], ids=lambda cls: cls.__name__)
def test_every_call_tells_of_itself(cls):
    own = [name for name, value in calls(cls) if not value.__doc__]
    assert own == []


@pytest.mark.parametrize("cls", [statehold.Collection, statehold.Store], ids=lambda it: it.__name__)
def test_the_sync_api_is_told_where_it_is_called(cls):
    """Each call says what its options are and what it raises, without a look at the async one."""
    silent = []
    for name, value in calls(cls):
        if isinstance(value, property) or not value.__doc__:
            continue
        options = inspect.signature(value).parameters.values()
        given = {one.name for one in options if one.kind is one.KEYWORD_ONLY}
        silent += [(name, one) for one in given if not re.search(rf"`{one}\b", value.__doc__)]
        if given and "aise" not in value.__doc__:
            silent.append((name, "raises"))
    assert silent == []


def test_edits_say_what_they_raise():
    """Whoever makes an edit learns from it what the call, and what its commit, may raise."""

    def told(call):
        return " ".join((call.__doc__ or "").split())

    silent = [
        f"{cls.__name__}.{name}"
        for cls in FIELDS
        for name in ("put", "add", "append", "edit")
        if (call := getattr(cls, name, None)) and "Raises `Invalid`" not in told(call)
    ]
    assert silent == []
    assert len(FIELDS) >= 11
