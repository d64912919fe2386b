"""A lease passed between eight processes, its holders stopped (SIGSTOP) and killed: one writes at a time."""

import itertools
import math
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from statehold import Fenced, Log, State, Store, Unavailable
from statehold.testing.backend import rounds

HOLDERS = 8
TTL = 0.4
HANDOVERS = 40
"""A thousand, if STATEHOLD_ROUNDS is 25."""

EVERY = 5
"""How many handovers are between two faults."""

WRITES = 3


class Ledger(State, ttl=3600, limit_bytes=1 << 24):
    """Who wrote what, in the order in which it stands."""

    lines = Log(str, keep=100_000, max_bytes=80)


# -------------------------------------------------------------------- what the other processes do


def hold(url, name):
    """Take the lease, write, and give it back, for ever; say so, after each write that stands."""
    with Store.open(url) as store:
        ledgers = store.collection(Ledger)
        while True:
            try:
                with ledgers.lease("a", ttl=TTL, wait=math.inf) as lease:
                    epoch = lease.epoch
                    say("holds", epoch)
                    for number in range(WRITES):
                        line = f"{name} {epoch} {number}"
                        ledgers.apply("a", Ledger.lines.append(line), epoch=epoch)
                        say("wrote", line)
                        time.sleep(0.005)
            except Fenced:
                say("fenced")
            except Unavailable as error:  # such as behind one who was stopped with a file's lock
                say("unavailable", error)


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


# ------------------------------------------------------------------------------- what the test does


class Holders:
    """Eight processes at a time, and what they say."""

    def __init__(self, url):
        self.url = url
        self.said = queue.Queue()
        self.names = itertools.count()
        self.chance = random.Random(7)
        self.listening = {}
        self.stopped = {}
        self.wrote, self.held, self.fenced = set(), [], 0
        for _ in range(HOLDERS):
            self.start()

    def start(self):
        child = subprocess.Popen(
            [sys.executable, __file__, self.url, f"p{next(self.names)}"],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        self.listening[child] = threading.Thread(target=self.listen, args=[child], daemon=True)
        self.listening[child].start()

    def listen(self, child):
        with child.stdout as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    self.said.put((child, line.decode().strip().partition(" ")))

    def kill(self, child):
        child.kill()
        child.wait()
        self.stopped.pop(child, None)
        self.listening.pop(child).join()

    def hear(self, timeout):
        """Take down what one of them says. Returns it if it holds the lease now."""
        try:
            child, (what, _, rest) = self.said.get(timeout=timeout)
        except queue.Empty:
            return None
        self.fenced += what == "fenced"
        if what == "wrote":
            self.wrote.add(rest)
        if what != "holds":
            return None
        self.held.append(int(rest))
        return child

    def harm(self, child):
        """Kill whoever holds it, and start another; or stop it until others have held it."""
        if child not in self.listening or child in self.stopped:
            return
        if self.chance.random() < 0.3:
            self.kill(child)
            self.start()
        elif len(self.stopped) < HOLDERS // 2:
            child.send_signal(signal.SIGSTOP)
            self.stopped[child] = time.monotonic() + TTL * self.chance.uniform(1.5, 4)

    def wake(self, now):
        """Let those go on whose time has come."""
        for child in [one for one, until in self.stopped.items() if until <= now]:
            del self.stopped[child]
            child.send_signal(signal.SIGCONT)

    def end(self):
        for child in list(self.listening):
            self.kill(child)


def passed_on(url, handovers):
    """Play until it was passed on so often and a writer was fenced off; check what stands."""
    holders = Holders(url)
    try:
        ends = time.monotonic() + 60 + handovers
        while len(holders.held) < handovers or not holders.fenced:
            now = time.monotonic()
            assert now < ends, (
                f"it was passed on {len(holders.held)} times, and {holders.fenced} writers fenced off"
            )
            holders.wake(now)
            child = holders.hear(0.1)
            if child is not None and len(holders.held) % EVERY == 0:
                holders.harm(child)
        holders.wake(math.inf)
        time.sleep(3 * TTL)  # those who were stopped try to write what they had in mind
    finally:
        holders.end()
    while not holders.said.empty():
        holders.hear(0)
    with Store.open(url) as store:
        lines = list(store.collection(Ledger).get("a").lines)
    check(lines, holders.wrote)
    assert len(set(holders.held)) == len(holders.held), "an epoch was given out twice"


def check(lines, wrote):
    """Nobody wrote in another's epoch, nor after a newer one; what was acknowledged stands, once."""
    assert len(set(lines)) == len(lines)
    assert wrote <= set(lines), f"lost: {sorted(wrote - set(lines))[:5]}"
    writers, newest = {}, 0
    for line in lines:
        name, epoch, _ = line.split()
        assert writers.setdefault(epoch, name) == name, f"two wrote in the epoch {epoch}"
        assert int(epoch) >= newest, f"epoch {epoch} was written after {newest}"
        newest = int(epoch)


def test_the_check_sees_what_it_is_for():
    good = ["p1 10 0", "p1 10 1", "p2 11 0"]
    check(good, set(good))
    for lines, wrote in (
        (["p1 10 0", "p2 10 0"], ()),
        (["p2 11 0", "p1 10 0"], ()),
        (["p1 10 0", "p1 10 0"], ()),
        (["p1 10 0"], {"p1 10 1"}),
    ):
        with pytest.raises(AssertionError):
            check(lines, set(wrote))


def test_a_lease_over_sqlite(tmp_path):
    passed_on(f"sqlite:///{tmp_path}/state.db?busy_timeout_ms=300", rounds(HANDOVERS))


def test_a_lease_over_redis(statehold_redis):
    statehold_redis.flush()
    passed_on(statehold_redis.url, rounds(HANDOVERS))


def test_a_lease_over_postgresql(statehold_postgres):
    passed_on(statehold_postgres.new_database(), rounds(HANDOVERS))


if __name__ == "__main__":
    hold(*sys.argv[1:])
