"""No file needs, directly or by others, one that needs it: also not in functions, nor for types alone."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"


def modules(source):
    """The modules below this folder by name, each with its path."""
    found = {}
    for path in source.rglob("*.py"):
        name = ".".join(path.relative_to(source).with_suffix("").parts)
        found[name.removesuffix(".__init__")] = path
    return found


def imported(path, package, known):
    """Which of the known modules the file imports anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            parts = [*(above if node.level else []), *filter(None, [node.module])]
            base = ".".join(parts)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if whole in known or base in known:
                    yield whole if whole in known else base


def graph(source):
    """Module → the modules that it imports."""
    known = modules(source)
    return {
        name: set(
            imported(path, name if path.stem == "__init__" else name.rpartition(".")[0], known)
        )
        - {name}
        for name, path in known.items()
    }


def circles(imports):
    """A list of circles, enough to open them all: each is cut where it was found."""
    imports = {name: set(others) for name, others in imports.items()}
    while True:
        try:
            TopologicalSorter(imports).prepare()
        except CycleError as error:
            path = error.args[1]  # each is imported by the next, and the last is the first
            yield path[::-1]
            imports[path[1]].discard(path[0])
        else:
            return


def test_there_are_no_circles():
    imports = graph(SOURCE)
    assert len(imports) > 300
    assert "statehold.changes" in imports["statehold.driver"]
    assert [" → ".join(path) for path in circles(imports)] == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("from pack.b import x", "from pack import a"),
        ("import pack.b", "def f():\n    from .a import y"),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from . import b",
            "import pack.a",
        ),
    ],
    ids=["plain", "in a function", "for types"],
)
def test_a_circle_is_found(tmp_path, first, second):
    pack = tmp_path / "pack"
    pack.mkdir()
    for name, text in {
        "__init__": "",
        "a": first,
        "b": second,
        "c": "from pack import a, b",
    }.items():
        (pack / f"{name}.py").write_text(text)
    (path,) = circles(graph(tmp_path))
    assert set(path) == {"pack.a", "pack.b"}
    (pack / "b.py").write_text("")
    assert list(circles(graph(tmp_path))) == []
