"""Where a server's program comes from: PATH, a wheel, Debian's packages, Docker; or a clear skip."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
import unittest
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, Protocol

import msgspec

# Debian keeps PostgreSQL's programs off the PATH, and servers where only root looks.
ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


class Missing(unittest.SkipTest):
    """Something that a test needs is not to be had: pytest and unittest skip the test."""


class Required(RuntimeError):
    """Something is not to be had although STATEHOLD_REQUIRE names it: the test fails."""


class Wheel(msgspec.Struct, frozen=True):
    """A package of PyPI that has programs in it."""

    name: str  # what pip calls it
    package: str  # what Python calls it
    folder: str  # where in it the programs are, a pattern


class Source(msgspec.Struct, frozen=True):
    """Where the programs of one kind of server can be had."""

    name: str  # what STATEHOLD_REQUIRE calls it
    packages: tuple[str, ...] = ()  # Debian's
    image: str | None = None  # Docker's
    wheel: Wheel | None = None  # PyPI's

    def how(self) -> str:
        """What to type to have it."""
        ways = [f"pip install {self.wheel.name}"] if self.wheel else []
        if self.packages:
            ways.append(f"Debian: apt-get install {' '.join(self.packages)}")
        return "; ".join(ways)


class Suits(Protocol):
    """Whether a program will do."""

    def __call__(self, path: str, /) -> bool:
        """Whether that at `path` will."""
        ...


def require(name: str, reason: str) -> NoReturn:
    """Skip the test that is running, or fail it where STATEHOLD_REQUIRE names what is missing.

    STATEHOLD_REQUIRE is a list with commas: `redis,postgres,mariadb`.

    Raises:
        Missing: which pytest and unittest take for a skip.
        Required: STATEHOLD_REQUIRE has `name` in it.
    """
    if name in map(str.strip, os.environ.get("STATEHOLD_REQUIRE", "").split(",")):
        raise Required(f"{name} is required: {reason}")
    raise Missing(f"{name}: {reason}")


def find(
    program: str,
    source: Source,
    *,
    docker: bool = True,
    suits: Suits | None = None,
) -> str | None:
    """The path of `program`, installed first if that is allowed; None: only Docker has it.

    Looks on PATH, in the places that servers are kept in, and in the wheel of `source` if it is
    installed. Then, if this is root on Debian and STATEHOLD_INSTALL is `1`, Debian's packages are
    installed. Then a Docker engine is asked, if `docker` says that it would do.

    Args:
        program: Its name.
        source: Where else to look.
        docker: Whether a container would do.
        suits: Whether the program at a path will do, the first that does is taken; None: any does.

    Raises:
        Missing, Required: it is nowhere, see `require`.
    """

    def found() -> str | None:
        return next(filter(suits, [*on_this_machine(program), *in_wheel(program, source)]), None)

    path = found() or (installed(source.packages) and found())
    if path:
        return path
    if docker and source.image is not None and docker_answers():
        return None
    require(source.name, f"no {program} that would do, and no Docker ({source.how()})")


def on_this_machine(program: str) -> Iterator[str]:
    """The paths of an installed program, as PATH has it first; of PostgreSQLs, the newest first."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=version_of, reverse=True)
    path = os.environ.get("PATH", "").split(os.pathsep)
    for folder in (*path, *map(str, versions), *ELSEWHERE):
        if found := shutil.which(program, path=folder):
            yield found


def version_of(folder: Path) -> tuple[int, ...]:
    """Of a folder of Debian's such as /usr/lib/postgresql/15/bin."""
    return tuple(int(part) for part in folder.parent.name.split(".") if part.isdecimal())


def in_wheel(program: str, source: Source) -> Iterator[str]:
    """The paths of a program in an installed wheel, whose code is not imported for that."""
    spec = importlib.util.find_spec(source.wheel.package) if source.wheel else None
    if spec is None or source.wheel is None:
        return
    for place in spec.submodule_search_locations or ():
        for folder in Path(place).glob(source.wheel.folder):
            if found := shutil.which(program, path=folder):
                yield found


@functools.cache  # once is enough, whether or not it works
def installed(packages: Sequence[str]) -> bool:
    """Install Debian's packages, if there are any, if asked to and able to. True: done."""
    asked = bool(packages) and os.environ.get("STATEHOLD_INSTALL") == "1"
    if not (asked and hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get")):
        return False
    # Runlevel 1 is where no service is started: the kit starts its own.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    for arguments in (
        ("update", "-qq"),
        ("install", "-qq", "--no-install-recommends", *packages),
    ):
        done = subprocess.run(
            ("apt-get", *arguments),  # noqa: S607
            env=environment,
            capture_output=True,
            check=False,
        )
    return done.returncode == 0


@functools.cache
def docker_answers() -> bool:
    """Whether a Docker engine can be used."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(
            ("docker", "info"),  # noqa: S607
            capture_output=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0
