"""Where a server's program comes from: PATH, Debian's packages, a Docker image; or a clear skip."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import unittest
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

# Debian keeps PostgreSQL's programs off the PATH, and servers where only root looks.
ELSEWHERE = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


class Missing(unittest.SkipTest):
    """Something that a test needs is not to be had: pytest and unittest skip the test."""


class Required(RuntimeError):
    """Something is not to be had although STATEHOLD_REQUIRE names it: the test fails."""


class Source(msgspec.Struct, frozen=True):
    """Where the programs of one kind of server can be had."""

    name: str  # what STATEHOLD_REQUIRE calls it
    packages: tuple[str, ...]  # Debian's
    image: str | None = None  # Docker's


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


def find(program: str, source: Source, *, docker: bool = True) -> str | None:
    """The path of `program`, installed first if that is allowed; None: only Docker has it.

    Looks on PATH, then in the places that servers are kept in. Then, if this is root on Debian and
    STATEHOLD_INSTALL is `1`, Debian's packages are installed. Then a Docker engine is asked, if
    `docker` says that it would do.

    Raises:
        Missing, Required: it is nowhere, see `require`.
    """
    path = on_this_machine(program) or (installed(source.packages) and on_this_machine(program))
    if path:
        return path
    if docker and source.image is not None and docker_answers():
        return None
    packages = " ".join(source.packages)
    require(source.name, f"no {program} on PATH, no Docker (Debian: apt-get install {packages})")


def on_this_machine(program: str) -> str | None:
    """The path of an installed program; of several PostgreSQLs, the newest."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name, reverse=True
    )
    folders = [os.environ.get("PATH", ""), *map(str, versions), *ELSEWHERE]
    return shutil.which(program, path=os.pathsep.join(folders))


@functools.cache  # once is enough, whether or not it works
def installed(packages: Sequence[str]) -> bool:
    """Install Debian's packages, if asked to and able to. True: done."""
    asked = os.environ.get("STATEHOLD_INSTALL") == "1"
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
