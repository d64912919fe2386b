"""A docstring is read alone, in an editor's pop-up: none leans on the one before it."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "statehold"

LEANING = re.compile(
    r"\b[Ll]ikewise\b|\b[Tt]he other one\.|\A(Nor|Its)\b"
    r"|\AThe same\b( (for|if|in|of|through|where|with)\b|[,.])"
)


def leaning(text):
    """The names whose docstrings can be understood only after another one."""
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, documented) and LEANING.search(ast.get_docstring(node) or ""):
            yield getattr(node, "name", "the file")


def test_no_docstring_leans_on_another():
    files = list(SOURCE.rglob("*.py"))
    assert len(files) > 200
    found = {
        str(path.relative_to(SOURCE)): names
        for path in files
        if (names := list(leaning(path.read_text("utf-8"))))
    }
    assert found == {}


@pytest.mark.parametrize("text", ["The same for threads.", "Likewise.", "Its name.", "Nor that."])
def test_one_that_leans_is_found(text):
    assert list(leaning(f'def f():\n    """{text}"""')) == ["f"]
    assert list(leaning('def f():\n    """The name of a thread."""')) == []
