"""Running the real `statehold` command, and looking into the store that it leaves."""

import io
import os
import re
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from statehold import cli

COMMAND = str(Path(sys.executable).with_name("statehold"))
ROOT = Path(__file__).parent.parent


def environment(**more):
    """The environment without settings of statehold's, but for these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STATEHOLD_")}
    return {**clean, **more}


def statehold(*arguments, cwd, code=0, stdin=b"", **env):
    """Run a command, which must end with this exit code; its output and its diagnostics."""
    done = subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=110,
        env=environment(**env),
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == code, f"{arguments}: {done.returncode}\n{out}\n{err}"
    assert "Traceback" not in err
    return out, err


def inside(*arguments, cwd, code=0, stdin=b"", **env):
    """Like `statehold`, in this process: many times faster."""
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(cwd),
        redirect_stdout(out),
        redirect_stderr(err),
        patch.dict(os.environ, environment(**env), clear=True),
        patch("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin))),
    ):
        try:
            returned = cli.main([*map(str, arguments)])
        except SystemExit as stop:
            returned = stop.code
    assert returned == code, f"{arguments}: {returned}\n{out.getvalue()}\n{err.getvalue()}"
    return out.getvalue(), err.getvalue()


def start(*arguments, cwd, **env):
    """Start a command in the background."""
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(**env),
    )


@contextmanager
def serving(cwd, *, port=0, **env):
    """`statehold serve` in this folder; yields its URL and its process, which is ended at the end."""
    log = cwd / "serve.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", str(port)],
            cwd=cwd,
            stdout=file,
            stderr=file,
            env=environment(**env),
        )
    try:
        while not (found := re.search(r"running on (http://\S+)", log.read_text())):
            assert process.poll() is None, log.read_text()
            time.sleep(0.01)
        yield found[1], process
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(20)


def dump(path):
    """Every row of an SQLite store, as SQL text."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def contents(store, kinds):
    """Every state by kind and id: its fields as they would be printed."""
    return {
        (kind, id): repr(states.get(id))
        for kind, cls in kinds.items()
        for states in [store.collection(cls)]
        for id in states.scan()
    }
