"""The docstring of a package is a map: it names every file beside it."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "statehold"


def packages():
    """All but the first, whose map is in docs/design.md."""
    for path in sorted(SOURCE.rglob("__init__.py")):
        folder = path.parent
        if folder != SOURCE:
            yield pytest.param(folder, id=str(folder.relative_to(SOURCE)))


def missing(folder):
    """The files of the package, and its packages, that its docstring does not name."""
    told = ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
    files = {path.stem for path in folder.glob("*.py") if not path.stem.startswith("__")}
    files |= {path.parent.name for path in folder.glob("*/__init__.py")}
    return sorted(files - set(re.findall(r"\w+", told)))


@pytest.mark.parametrize("folder", list(packages()))
def test_a_package_names_its_files(folder):
    assert missing(folder) == []


def test_a_file_that_is_not_named_is_found(tmp_path):
    (tmp_path / "__init__.py").write_text('"""One `here`."""')
    (tmp_path / "here.py").touch()
    (tmp_path / "there.py").touch()
    assert missing(tmp_path) == ["there"]
