"""Other processes with a driver of their own, made from a backend's recipe."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, TypeVar

from statehold.changes import Key
from statehold.testing.backend import Backend, cook
from statehold.testing.rig import Runner, layout


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


def as_key(words: list[str] | tuple[str, ...]) -> Key:
    """A key that went through JSON."""
    tenant, kind, id = words
    return (tenant, kind, id)
