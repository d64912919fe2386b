"""Run the examples of a Markdown page, in order, as a reader would.

Every ```python block runs, top-level `await` included, and the blocks of a page share their names.
A ```console block runs where `<!-- run -->` stands above it; what follows a command is the output
that it must print, with `...` for what may vary. `<!-- not run: reason -->` leaves a block out.
"""

import ast
import asyncio
import doctest
import inspect
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(
    r"""(?:^<!--\s*(?P<note>(?:(?!-->).)*?)\s*-->\s*)?
    ^```(?P<kind>python|console)[ \t]*\n
    (?P<body>.*?)
    ^```[ \t]*$""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_NOT_RUN = re.compile(r"not run:\s*(\S.*)", re.DOTALL)


class Block(NamedTuple):
    """One fenced example: its language, text, first line, and the note above it."""

    page: Path
    line: int
    kind: str
    body: str
    note: str

    @property
    def where(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def reason(self) -> str | None:
        """Why it is not run, where it says so."""
        found = _NOT_RUN.fullmatch(self.note)
        return found[1] if found else None

    @property
    def runs(self) -> bool:
        return self.note == "run" if self.kind == "console" else self.reason is None


def blocks(page: Path) -> Iterator[Block]:
    """All examples of a page."""
    text = page.read_text("utf-8")
    for found in _BLOCK.finditer(text):
        line = text.count("\n", 0, found.start("body")) + 1
        yield Block(page, line, found["kind"], found["body"], found["note"] or "")


def run(page: Path) -> None:
    """Run the examples of a page in the current folder."""
    # A real module, so that annotations and pickles find its names.
    module = sys.modules["page"] = types.ModuleType("page")
    names = vars(module)
    with asyncio.Runner() as runner:
        try:
            for block in filter(lambda block: block.runs, blocks(page)):
                if block.kind == "python":
                    _finish(eval(_compiled(block), names), runner)
                else:
                    _console(block)
        finally:  # a page need not tidy up: with its last line its process would end
            for value in list(names.values()):
                if type(value).__name__ in {"Store", "AsyncStore"}:
                    _finish(value.close(), runner)


def _compiled(block: Block) -> types.CodeType:
    source = "\n" * (block.line - 1) + block.body  # tracebacks then name the page's own lines
    return compile(source, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _finish(result: object, runner: asyncio.Runner) -> None:
    if inspect.iscoroutine(result):
        runner.run(result)


def _console(block: Block) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for text in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, want = text.partition("\n")
        done = subprocess.run(
            command,
            shell=True,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "PATH": path, "NO_COLOR": "1", "COLUMNS": "100"},
            timeout=60,
        )
        assert done.returncode == 0, f"{block.where}: $ {command}\n{done.stdout}"
        same = doctest.OutputChecker().check_output(want, done.stdout, doctest.ELLIPSIS)
        assert not want or same, f"{block.where}: $ {command}\nwanted\n{want}\ngot\n{done.stdout}"
