"""Other processes: with a driver of their own, made from a backend's recipe, or forked off."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, ClassVar, Final, Protocol, TypeVar

from statehold.commits import Key
from statehold.errors import StateholdError
from statehold.testing.backend import Backend, cook
from statehold.testing.rig import Runner, layout

REFUSED: Final = "refused"
"""What a forked process answers that may not use a driver of its parent's."""

PATIENCE: Final = 45.0
"""Seconds after which a forked process is taken to hang."""


RACE_SECONDS: Final = 300.0
"""Seconds after which children that race are taken to hang."""


class Job(Protocol):
    """What a child is told: a dataclass of JSON values."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


SomeJob = TypeVar("SomeJob", bound=Job)


def spawn(module: str, backend: Backend, job: Job) -> subprocess.Popen[bytes]:
    """Start `module` as a program in a process of its own, with pipes to it and from it.

    Raises ValueError when the backend has no recipe.
    """
    if backend.recipe is None:
        raise ValueError("a driver that is SHARED or DURABLE needs `Backend.recipe`")
    told = json.dumps(
        {"recipe": backend.recipe, "arguments": backend.arguments, "job": asdict(job)}
    )
    return subprocess.Popen(
        [sys.executable, "-m", module, told],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


def hear(told: str, job: type[SomeJob]) -> tuple[Runner, SomeJob]:
    """In the child: the driver, open, and the job that `spawn` was given."""
    message: dict[str, Any] = json.loads(told)
    run = Runner(lambda: cook(message["recipe"], tuple(message["arguments"])))
    heard = job(**message["job"])
    run(run.driver.open(layout()))
    return run, heard


def ready() -> None:
    """In the child: say so, and wait for `go`."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()


def await_ready(child: subprocess.Popen[bytes]) -> None:
    """In the parent: until the child is ready. Raises AssertionError if it ended instead."""
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line == b"ready\n", f"a child process did not start: {line!r}, exit {child.poll()}"


def go(child: subprocess.Popen[bytes]) -> None:
    """In the parent: let a ready child begin."""
    assert child.stdin is not None
    child.stdin.write(b"go\n")
    child.stdin.flush()


def at_once(module: str, backend: Backend, jobs: Sequence[Job]) -> list[bytes]:
    """What children say, in order, each with its job, that begin when all are ready.

    Raises AssertionError if one of them fails.
    """
    children: list[subprocess.Popen[bytes]] = []
    try:
        children += (spawn(module, backend, job) for job in jobs)
        for child in children:
            await_ready(child)
        for child in children:
            go(child)
        said: list[bytes] = []
        for child in children:
            said.append(child.communicate(timeout=RACE_SECONDS)[0])
            assert child.returncode == 0, f"a child process ended with {child.returncode}"
        return said
    finally:
        for child in children:
            if child.poll() is None:
                child.kill()
                child.communicate()


def as_key(words: list[str] | tuple[str, ...]) -> Key:
    """A key that went through JSON."""
    tenant, kind, id = words
    return (tenant, kind, id)


def in_fork(work: Callable[[], object]) -> Any:
    """What `work` returns (a JSON value) in a process forked off now; `REFUSED` where it may not.

    It may not where it raises an error of statehold's that is not retryable. Raises AssertionError
    for any other error, and if there is no answer in time.
    """
    hears, tells = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's, of threads: what is tried
        pid = os.fork()
    if pid == 0:
        os.close(hears)
        _tell(work, tells)
    os.close(tells)
    heard = b""
    try:
        while select.select([hears], [], [], PATIENCE)[0]:
            some = os.read(hears, 1 << 16)
            if not some:
                break
            heard += some
        else:
            os.kill(pid, signal.SIGKILL)
            raise AssertionError(f"a forked process does not answer within {PATIENCE:g} s")
    finally:
        os.close(hears)
        _, status = os.waitpid(pid, 0)
    assert heard, f"a forked process ended without an answer, with status {status}"
    told: dict[str, Any] = json.loads(heard)
    assert "error" not in told, f"in a forked process: {told.get('error')}"
    return told["answer"]


def _tell(work: Callable[[], object], pipe: int) -> None:
    """In the child: do the work, say what came of it, and end without any of the parent's ends."""
    told: dict[str, object]
    try:
        told = {"answer": work()}
    except StateholdError as error:
        told = {"error": repr(error)} if error.retryable else {"answer": REFUSED}
    except BaseException as error:  # noqa: BLE001  it is the answer
        told = {"error": repr(error)}
    try:
        os.write(pipe, json.dumps(told).encode())
    finally:
        os._exit(0)
