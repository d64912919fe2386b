"""Requests a second: FastAPI appending one message against the same server's empty route.

Beside them stand a route that only reads and decodes the body, one that appends in memory, and the
same work written by hand with `sqlite3`, a transaction for each message.

The server has a process and a core of its own; the client is a
plain socket loop over connections that are kept alive, so that it is not what is measured. Rounds
alternate between the routes. Besides the rates it reads how much processor time the server took
for a request, which says the same where other programs share the machine.
"""

import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BODY = b'{"role":"user","content":"' + b"x" * 172 + b'"}'  # 200 bytes
CONNECTIONS = 32
CHATS = 1_000
SECONDS = 2.0
ROUNDS = 7


def measure(
    *, rounds: int = ROUNDS, seconds: float = SECONDS, connections: int = CONNECTIONS
) -> list[dict[str, Any]]:
    """A row for each route: its median rate, the spread, and its share of the empty route's."""
    routes = ("empty", "body", "memory", "append", "by_hand")
    rates: dict[str, list[float]] = {route: [] for route in routes}
    costs: dict[str, list[float]] = {route: [] for route in routes}
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with tempfile.TemporaryDirectory(prefix="statehold-bench-") as folder:
        server, port = _serve(folder, cores[:1])
        try:
            if len(cores) > 1:
                os.sched_setaffinity(0, cores[1:])
            for route in routes:
                _load(port, route, seconds / 4, connections)
            for at in range(rounds):
                for route in routes if at % 2 else routes[::-1]:
                    before = _cpu_seconds(server.pid)
                    done, took = _load(port, route, seconds, connections)
                    rates[route].append(done / took)
                    costs[route].append((_cpu_seconds(server.pid) - before) / done * 1e6)
        finally:
            if len(cores) > 1:
                os.sched_setaffinity(0, cores)
            server.terminate()
            server.wait()
    return [
        {
            "route": route,
            "requests_per_second": statistics.median(rates[route]),
            "lowest": min(rates[route]),
            "highest": max(rates[route]),
            "share_of_empty": statistics.median(
                rate / empty for rate, empty in zip(rates[route], rates["empty"], strict=True)
            ),
            "server_cpu_us": statistics.median(costs[route]),
            "share_by_cpu": statistics.median(costs["empty"]) / statistics.median(costs[route]),
        }
        for route in routes
    ]


def _serve(folder: str, cores: list[int]) -> tuple[subprocess.Popen[bytes], int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    arguments = ["bench.http_app:app", "--app-dir", str(ROOT), "--port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", *arguments, "--no-access-log", "--log-level", "warning"],
        env={
            **os.environ,
            "BENCH_BACKEND": f"sqlite:///{folder}/bench.db?synchronous=NORMAL",
            "BENCH_BY_HAND": f"{folder}/by-hand.db",
        },
    )
    if cores:
        os.sched_setaffinity(server.pid, cores)
    until = time.monotonic() + 30
    while time.monotonic() < until and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return server, port
    server.send_signal(signal.SIGKILL)
    server.wait()
    raise RuntimeError("the server did not start")


def _cpu_seconds(pid: int) -> float:
    """Processor time that a process has taken; NaN where /proc does not tell."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return float("nan")
    user, system = stat.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _load(port: int, route: str, seconds: float, connections: int) -> tuple[int, float]:
    """(answers, seconds) over so many connections, each with one request under way at a time."""
    requests = [
        f"POST /{route}/chat-{at} HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(BODY)}\r\n"
        "Content-Type: application/json\r\n\r\n".encode()
        + BODY
        for at in range(CHATS)
    ]
    done = 0
    with selectors.DefaultSelector() as selector:
        sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(connections)]
        try:
            for at, connection in enumerate(sockets):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                selector.register(connection, selectors.EVENT_READ)
                connection.sendall(requests[at % CHATS])
            begun = time.perf_counter()
            until = begun + seconds
            while time.perf_counter() < until:
                for key, _ in selector.select(1):
                    connection = key.fileobj
                    answer = connection.recv(4096)
                    if not answer.startswith(b"HTTP/1.1 204") or not answer.endswith(b"\r\n\r\n"):
                        raise RuntimeError(f"/{route}: {answer[:200]!r}")
                    done += 1
                    connection.sendall(requests[(done + connections) % CHATS])
            return done, time.perf_counter() - begun
        finally:
            for connection in sockets:
                connection.close()
