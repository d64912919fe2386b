"""`Server`: what all real servers of the kit have in common."""

from __future__ import annotations

import atexit
import os
import pwd
import random
import shutil
import signal
import socket
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar, Final, Protocol, Self

from statehold.testing.servers.finding import require
from statehold.testing.servers.processes import group_of, run

HOST: Final = "127.0.0.1"
# Below the range that systems take the ports of outgoing connections from: the port of a server
# that is down for a while is still free when it comes back.
PORTS: Final = range(15_000, 32_000)

_taken: set[int] = set()
_open: weakref.WeakSet[Server] = weakref.WeakSet()


class Runs(Protocol):
    """A process of this machine, or a container."""

    @property
    def pid(self) -> int:
        """The id of the first process."""
        ...

    def start(self) -> None:
        """It runs."""

    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        ...

    def stop(self, number: signal.Signals) -> None:
        """It has ended, told by a signal."""

    def kill(self) -> None:
        """It and its children have ended by SIGKILL."""

    def pause(self) -> None:
        """It stands still."""

    def resume(self) -> None:
        """It goes on."""

    def log(self) -> str:
        """What it has printed."""
        ...

    def remove(self) -> None:
        """It has ended, and nothing of it is left but its folder."""


class DidNotStart(RuntimeError):
    """A server ended, or did not answer in time, while it was being started; with its log."""


class Opened(ABC):
    """What is there until its `with` block is left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.url}>"

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients reach it."""

    @abstractmethod
    def close(self) -> None:
        """It is gone, with its data. Again: nothing happens."""


class Server(Opened):
    """A real server on a port of its own at 127.0.0.1, with its data in a temporary folder.

    Started by the class method `start` of each kind, and ended by `close`, by leaving its `with`
    block, or with this process. All methods block; none needs an event loop or a client library.
    Use it from one thread at a time.
    """

    ends_on: ClassVar[signal.Signals] = signal.SIGTERM
    start_timeout: ClassVar[float] = 30.0

    def __init__(self, runs: Runs, *, port: int, folder: Path) -> None:
        """Use `start`."""
        self.host = HOST
        self.port = port
        self.folder = folder
        self.is_paused = False
        self._runs = runs
        self._owner = os.getpid()
        _open.add(self)

    @property
    def pid(self) -> int:
        """The id of its (first) process. Raises RuntimeError if it is down."""
        return self._runs.pid

    def is_running(self) -> bool:
        """Whether its process is there, paused or not."""
        return self._runs.is_running()

    def stop(self) -> None:
        """It has ended in good order, and kept its data; see `restart`."""
        self._runs.stop(self.ends_on)
        self.is_paused = False

    def kill(self) -> None:
        """It is gone, with all its processes, by SIGKILL: what it had not written is lost."""
        self._runs.kill()
        self.is_paused = False

    def restart(self) -> None:
        """It answers again, on the same port and with the data in its folder.

        One that runs is stopped in good order first.
        """
        self.stop()
        self.begin()

    def pause(self) -> None:
        """It stands still (SIGSTOP to all its processes): connections stay up, nothing answers."""
        if not self.is_paused:
            self._runs.pause()
            self.is_paused = True

    def resume(self) -> None:
        """It goes on after `pause`."""
        if self.is_paused:
            self._runs.resume()
            self.is_paused = False

    @contextmanager
    def full_disk(self) -> Generator[None]:
        """Inside, its disk is full: what it has not reserved already cannot be written.

        Raises:
            RuntimeError: it was started without `disk_bytes`; this would fill the machine's disk.
        """
        if not self.folder.is_mount():
            raise RuntimeError("full_disk() needs a server that was started with disk_bytes=…")
        ballast = self.folder / "ballast"
        try:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):  # ENOSPC is the aim
                while True:
                    file.write(bytes(1 << 16))
            yield
        finally:
            ballast.unlink()

    def log(self) -> str:
        """What it has logged so far."""
        return self._runs.log()

    def close(self) -> None:
        """It is gone, and so are its folder and its data. Again: nothing happens."""
        _open.discard(self)
        self._runs.remove()
        discard(self.folder)

    def begin(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            DidNotStart: it ended or stayed silent; what it logged is in the message.
        """
        self._runs.start()
        deadline = time.monotonic() + self.start_timeout
        while not self._is_ready():
            ended = not self._runs.is_running()
            if ended or time.monotonic() > deadline:
                how = "ended" if ended else f"was silent for {self.start_timeout:g} s"
                said = self.log()[-4000:]
                raise DidNotStart(f"{type(self).__name__} {how} while it was started:\n{said}")
            time.sleep(0.005)

    def begun(self) -> Self:
        """The server itself, once it has begun; closed if it does not."""
        try:
            self.begin()
        except BaseException:
            self.close()
            raise
        return self

    def _is_ready(self) -> bool:
        try:
            return self._answers()
        except OSError:
            return False

    @abstractmethod
    def _answers(self) -> bool:
        """Ask it a question. False or OSError: not ready yet."""


def close_all() -> None:
    """Close the servers that this process has open (and not those of a process it was forked from)."""
    for server in list(_open):
        if server._owner == os.getpid():  # noqa: SLF001
            with suppress(Exception):
                server.close()


atexit.register(close_all)


def own_ports() -> range:
    """The ports of this process: with pytest-xdist, a part of them that no other worker has."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    return PORTS[int(worker) % workers :: workers] if worker.isdecimal() else PORTS


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at and that was not handed out before."""
    ports = own_ports()
    for port in random.SystemRandom().sample(ports, min(len(ports), 1_000)):
        if port in _taken:
            continue
        with socket.socket() as trying:
            try:
                trying.bind((HOST, port))
            except OSError:
                continue
        _taken.add(port)
        return port
    raise RuntimeError(f"no free port in {PORTS}")


@contextmanager
def new_folder(
    kind: str, *, user: str | None = None, disk_bytes: int | None = None
) -> Generator[Path]:
    """A new temporary folder, owned by `user`; with a size, on a disk of its own, in memory.

    It stays, unless the block ends with an error.

    Raises:
        Missing, Required: this user may not mount a disk.
    """
    # The short name matters: the path of a Unix socket in it has at most about 100 bytes.
    folder = Path(tempfile.mkdtemp(prefix=f"statehold-{kind}-"))
    try:
        if disk_bytes is not None:
            mount_memory(folder, disk_bytes)
        if user is not None:
            shutil.chown(folder, user, group_of(user))
        yield folder
    except BaseException:
        discard(folder)
        raise


def mount_memory(folder: Path, size_bytes: int) -> None:
    """A folder is a disk of its own. Raises `Missing` or `Required` if this user may not do that."""
    options = f"size={size_bytes},mode=700"
    try:
        run(("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)), folder)
    except (RuntimeError, OSError) as problem:
        require("disk", f"no disk of limited size can be mounted: {problem}")


def discard(folder: Path) -> None:
    """A folder is gone, and with it the disk that it may be."""
    if folder.is_mount():
        run(("umount", "-l", str(folder)), Path("/"))
    shutil.rmtree(folder, ignore_errors=True)


def unprivileged(user: str) -> str | None:
    """If this is root, as whom some servers refuse to run: `user`, or nobody. None: as who this is."""
    if os.geteuid() != 0:
        return None
    return user if any(known.pw_name == user for known in pwd.getpwall()) else "nobody"
