"""Processes that end with the tests: started in a session of their own, signalled as a whole tree.

A server that forks (PostgreSQL puts every backend into a session of its own) is more than its
process group, so what is killed or paused is the tree below it. Each process has a watcher, a
small shell that sits on a pipe from this process: the pipe closes when this process ends, however
it does, and the watcher then ends the server and removes its folder.
"""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

# $1 the server, $2 the signal that ends it and its children, $3 its folder. Children that were
# paused are woken first, or they would outlive it.
WATCH = """
read -r _
kill -CONT $(cat /proc/$1/task/*/children 2>/dev/null) 2>/dev/null
kill -CONT $1 2>/dev/null
kill -$2 $1 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 $1 2>/dev/null || break; sleep 0.1; done
kill -KILL $1 2>/dev/null
umount -l "$3" 2>/dev/null
rm -rf -- "$3"
"""

# The same for a folder alone, out of reach of what ends the children of this process.
SWEEP = """
exec 3<&0
(read -r _ <&3; rm -rf -- "$1") &
"""


class Process:
    """A program that can be started, stopped, killed, paused and started again."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        *,
        user: str | None = None,
        ends_on: signal.Signals = signal.SIGTERM,
    ) -> None:
        """Nothing is started yet.

        Args:
            command: The program and its arguments.
            folder: Its current folder; `log` in it is what the program prints.
            user: Whom to run it as; None: as this process.
            ends_on: The signal that makes it end at once, with its children.
        """
        self.command = tuple(command)
        self.folder = folder
        self.user = user
        self.ends_on = ends_on
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._paused: list[int] = []

    @property
    def pid(self) -> int:
        """The process id. Raises RuntimeError if it is not running."""
        if self._process is None:
            raise RuntimeError(f"{self.command[0]} is not running")
        return self._process.pid

    def start(self) -> None:
        """It runs; whether it is ready is for the caller to ask."""
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
                user=self.user,
                group=group_of(self.user),
                extra_groups=None if self.user is None else (),
            )
        self._watcher = subprocess.Popen(
            (
                "/bin/sh", "-c", WATCH, "watcher",
                str(self.pid), self.ends_on.name.removeprefix("SIG"), str(self.folder),
            ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, number: signal.Signals, *, timeout: float = 10) -> None:
        """It has ended: on signal `number`, or after `timeout` seconds by SIGKILL."""
        if self._process is None or not self.is_running():
            self._forget()
            return
        self.resume()
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def kill(self) -> None:
        """It and its children have ended by SIGKILL, without a chance to write anything."""
        if self._process is None or not self.is_running():
            # Its id may be another's by now.
            self._forget()
            return
        # Stopped first, so that it starts no further children while they are being counted.
        pids = self._freeze()
        for pid in pids:
            send(pid, signal.SIGKILL)
        self._process.wait()
        wait_for(lambda: not any(map(is_alive, pids)), "the killed processes to end")
        self._forget()

    def pause(self) -> None:
        """It and its children stand still, connections open, until `resume`."""
        if not self._paused and self.is_running():
            self._paused = self._freeze()

    def resume(self) -> None:
        """What was paused goes on."""
        for pid in reversed(self._paused):
            send(pid, signal.SIGCONT)
        self._paused = []

    def remove(self) -> None:
        """It has ended; its folder is for the caller to remove."""
        self.kill()

    def log(self) -> str:
        """What it has printed."""
        try:
            return (self.folder / "log").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _freeze(self) -> list[int]:
        """Stop the whole tree, the parents first. Returns its process ids."""
        frozen: list[int] = []
        found = [self.pid]
        while found:
            for pid in found:
                send(pid, signal.SIGSTOP)
            frozen += found
            found = [child for pid in found for child in children(pid)]
        return frozen

    def _forget(self) -> None:
        self._process = None
        self._paused = []
        if self._watcher is not None:
            # Killed rather than told: told, it would remove the folder.
            self._watcher.kill()
            self._watcher.communicate()
            self._watcher = None


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid: int) -> list[int]:
    """The process ids of the children of a process; of all that can be seen where there is /proc."""
    try:
        found = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return []
    if not found and not Path("/proc/self").exists():
        asked = subprocess.run(
            ("ps", "-A", "-o", "pid=,ppid="),  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
        pairs = (line.split() for line in asked.stdout.splitlines())
        return [int(child) for child, parent in pairs if int(parent) == pid]
    return [int(child) for text in found for child in text.split()]


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie, which holds on to nothing."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return not Path("/proc/self").exists()
    return state not in "ZX"


def run(command: Sequence[str], folder: Path, *, user: str | None = None) -> str:
    """What a program prints. Raises RuntimeError, with what it printed, if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        user=user,
        group=group_of(user),
        extra_groups=None if user is None else (),
    )
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def group_of(user: str | None) -> int | None:
    """The number of the first group of a user of this machine."""
    return None if user is None else pwd.getpwnam(user).pw_gid


def remove_at_end(folder: Path) -> None:
    """The folder goes when this process ends, however it does."""
    reading, _ = os.pipe()  # the other end is open until then
    subprocess.run(
        ("/bin/sh", "-c", SWEEP, "sweeper", str(folder)),
        stdin=reading,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        check=True,
    )
    os.close(reading)


def wait_for(condition: Callable[[], bool], what: str, *, timeout: float = 30) -> None:
    """`condition` holds. Raises TimeoutError if it does not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    pause = 0.002
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout:g} s for {what}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
