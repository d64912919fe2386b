"""`Container`: a server out of a Docker image, where the machine has no program of its own."""

from __future__ import annotations

import secrets
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from statehold.testing.servers.finding import Source

DOCKER: Final = "docker"


class Container:
    """What `Process` is to a program, to an image; it listens at 127.0.0.1 of this machine.

    The container stays until `remove`, so a server that is started again finds its data. If this
    process is killed, the container is left behind: its name begins with `statehold-`.
    """

    def __init__(
        self, source: Source, command: Sequence[str], *, options: Sequence[str] = ()
    ) -> None:
        """Nothing is started yet; `options` are those of `docker create`."""
        assert source.image is not None
        self.name = f"statehold-{source.name}-{secrets.token_hex(4)}"
        self._create = ("--name", self.name, "--network", "host", *options, source.image, *command)
        self._is_created = False

    @property
    def pid(self) -> int:
        """The process id, as seen from the machine that Docker runs on."""
        found = int(docker("inspect", "--format", "{{.State.Pid}}", self.name))
        if found == 0:
            raise RuntimeError(f"{self.name} is not running")
        return found

    def start(self) -> None:
        """It runs."""
        if not self._is_created:
            docker("create", *self._create)
            self._is_created = True
        docker("start", self.name)

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        if not self._is_created:
            return False
        return docker("inspect", "--format", "{{.State.Running}}", self.name).strip() == "true"

    def stop(self, number: signal.Signals) -> None:
        """It has ended: on signal `number`, or after 10 seconds by SIGKILL."""
        if not self.is_running():
            return
        self.resume()
        docker("kill", "--signal", number.name, self.name)
        try:
            docker("wait", self.name, timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """It has ended by SIGKILL; the kernel ends the rest of its processes with the first."""
        if self.is_running():
            self.resume()
            docker("kill", self.name)
            docker("wait", self.name)

    def pause(self) -> None:
        """All its processes stand still."""
        docker("pause", self.name)

    def resume(self) -> None:
        """What was paused goes on."""
        with suppress(RuntimeError):  # it was not paused
            docker("unpause", self.name)

    def log(self) -> str:
        """What it has printed."""
        return docker("logs", self.name) if self._is_created else ""

    def remove(self) -> None:
        """It is gone, with its data."""
        if self._is_created:
            docker("rm", "--force", "--volumes", self.name)
            self._is_created = False


def docker(*arguments: str, timeout: float = 300) -> str:
    """What the command says (images are pulled meanwhile). Raises RuntimeError if it fails."""
    done = subprocess.run(
        (DOCKER, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments)} failed:\n{done.stdout}")
    return done.stdout
