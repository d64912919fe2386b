"""What the Redis driver does over its connection: round trips, memory, permissions, failovers."""

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import pytest

from statehold import AsyncStore, Counter, Log, Register, State
from statehold.backends import open_driver
from statehold.changes import Add, Append, Drop, Put, Splice
from statehold.commits import EVERYTHING, Commit, Revision, Want
from statehold.driver import Scan, Written
from statehold.drivers.redis import SETTINGS
from statehold.drivers.redis.commands import COMMIT
from statehold.drivers.redis.failover import Acknowledged
from statehold.drivers.redis.lua.scripts import ALL
from statehold.errors import ConfigError, Full, Invalid, Timeout, Unavailable
from statehold.testing import Backend, Rig
from statehold.testing.commits import Commits
from statehold.testing.proxy import Proxy
from statehold.testing.rig import plain
from statehold.testing.servers import RedisSentinel, RedisServer
from statehold.testing.servers.processes import wait_for
from tests.redis.client.linking import TICK, received
from tests.redis.conftest import emptied

PAGE = (Path(__file__).parents[2] / "docs" / "redis.md").read_text("utf-8")


def place_on(server, **settings):
    return Backend(open=lambda: open_driver(server.url, **settings), own_clock=TICK)


@pytest.fixture(params=["statehold_redis", "statehold_valkey"])
def redis(request):
    """A server with nothing in it, of either kind."""
    return emptied(request)


@pytest.fixture
def rig(redis_backend):
    rig = Rig(redis_backend)
    yield rig
    rig.close()


# ------------------------------------------------------------------------------------- round trips

FULL = (Put("note", "", b'"x"'), Add("sum", "k", 1), Append("log", (b"x",), 9))
RENEW = Want(renew=(60.0, None))


class Chat(State, ttl=3600):
    history = Log(str, keep=10)
    focus = Register(str, default="")
    turns = Counter()


@pytest.fixture
def counted(redis):
    """Runs work with a driver; says how often it wrote, and how often it was the server's turn."""
    with Proxy(redis.port) as proxy, asyncio.Runner() as runner:

        async def make():
            driver = open_driver(proxy.through(redis.url))
            await driver.check(0.0)
            return driver

        driver = runner.run(make())
        rig = Commits("t")

        def count(work):
            async def play():
                return await work(driver, rig)

            turns, writes = proxy.round_trips, driver.stats()["round_trips_total"]
            answers = runner.run(play())
            return (
                answers,
                driver.stats()["round_trips_total"] - writes,
                proxy.round_trips - turns,
            )

        yield count
        runner.run(driver.close())


ONE_TRIP = {
    "a commit": lambda driver, rig: driver.commit([rig.commit(*FULL, op="op")], 0.0),
    "a first commit of a subject": lambda driver, rig: driver.commit(
        [rig.commit(*FULL, id="new", subject="ann")], 0.0
    ),
    "a commit that returns": lambda driver, rig: driver.commit(
        [rig.commit(*FULL, returning=EVERYTHING)], 0.0
    ),
    "a commit on condition": lambda driver, rig: driver.commit(
        [rig.commit(*FULL, expect=rig.seen, epoch=3)], 0.0
    ),
    "an erase": lambda driver, rig: driver.commit([rig.commit(erase=True)], 0.0),
    "commits of many states": lambda driver, rig: driver.commit(
        [rig.commit(*FULL, id=f"{n}") for n in range(50)], 0.0
    ),
    "a read": lambda driver, rig: driver.read([rig.key()], EVERYTHING, 0.0),
    "a read that renews": lambda driver, rig: driver.read([rig.key()], RENEW, 0.0),
    "a read of some fields": lambda driver, rig: driver.read(
        [rig.key()], Want(("log", "map"), 3), 0.0
    ),
    "a read of many states": lambda driver, rig: driver.read(
        [rig.key(f"{n}") for n in range(50)], EVERYTHING, 0.0
    ),
}


@pytest.mark.parametrize("what", ONE_TRIP)
def test_one_round_trip(counted, what):
    """Whatever a call carries, it is written at once and answered at once."""

    async def prepare(driver, rig):
        (written,) = await driver.commit([rig.commit(*FULL)], 0.0)
        rig.seen = written.revision

    counted(prepare)
    answers, writes, turns = counted(ONE_TRIP[what])
    assert writes <= (2 if "many" in what else 1)  # the first command does not wait for the others
    if "many" not in what:
        assert turns == 1
        assert None not in answers
    if "commit" in what or "erase" in what:
        assert {type(answer) for answer in answers} == {Written}


def test_calls_of_one_tick_leave_together(counted):
    """What tasks read and commit in one tick leaves by sixteen, in order, each with its answer."""

    async def play(driver, rig):
        return await asyncio.gather(
            *(driver.commit([rig.commit(*FULL, id=f"{n % 3}")], 0.0) for n in range(10)),
            *(driver.read([rig.key(f"{n % 3}")], EVERYTHING, 0.0) for n in range(10)),
        )

    first, writes, _ = counted(play)
    assert writes <= 3  # nobody knew yet that there would be many
    numbers = [answer[0].revision.number for answer in first]
    assert numbers == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4] + [4, 3, 3] * 3 + [4]
    _, writes, _ = counted(play)
    assert writes == 2


def test_a_scan_of_nothing_takes_few_round_trips(counted):
    """An empty kind is known to be empty after three round trips, a subject's after one."""
    for subject, most in ((None, 3), ("ann", 1)):
        page, writes, _ = counted(
            lambda driver, rig, subject=subject: driver.scan(Scan("t", "none", subject), 0.0)
        )
        assert (page.keys, page.cursor) == ((), None)
        assert writes <= 2 * most


def test_a_cursor_of_another_listing_is_invalid(rig):
    """A cursor goes on with the listing that gave it out, and with no other."""
    for n in range(9):
        rig.write(id=f"{n}", subject="ann")
    page = rig.run(rig.driver.scan(Scan(rig.tenant, "basket", limit=2), 0.0))
    assert page.cursor is not None
    for tenant, subject in ((rig.tenant, "ann"), ("other", None)):
        with pytest.raises(Invalid):
            rig.run(rig.driver.scan(Scan(tenant, "basket", subject, cursor=page.cursor), 0.0))


def test_names_that_are_no_text_are_invalid(rig):
    """What cannot be encoded is refused before anything is sent."""
    for call in (
        lambda: rig.write(id="\ud800"),
        lambda: rig.write(Add("sum", "\ud800", 1)),
        lambda: rig.write(op="\ud800"),
        lambda: rig.write(subject="\ud800"),
        lambda: rig.read("\ud800"),
        lambda: rig.ids(subject="\ud800"),
    ):
        with pytest.raises(Invalid):
            call()
    assert rig.ids() == []


# ------------------------------------------------------------------------------- memory, eviction


def test_full_memory_refuses_whole_commits():
    """When memory is full commits raise `Full` and leave nothing; reads and erases go on."""
    with RedisServer.start(maxmemory=64 << 20) as server:
        rig = Rig(place_on(server))
        try:
            rig.write(*FULL)
            rig.write(Put("raw", "", b"x" * (2 << 20)), id="large")
            before = rig.fields()
            server.cli("CONFIG", "SET", "maxmemory", 2 << 20)
            with pytest.raises(Full):
                rig.write(*FULL, Append("trail", (b"new",), 9))
            assert rig.fields() == before
            assert plain_reads(rig) == before
            assert rig.driver.stats()["renewals_skipped_total"] == 1
            with pytest.raises(Full):
                rig.read(want=Want(renew=(60.0, None), insists=True))
            assert rig.ids() == ["a", "large"]
            rig.erase("large")
            assert rig.ids() == ["a"]
            server.cli("CONFIG", "SET", "maxmemory", 64 << 20)
            rig.write(*FULL)
            assert rig.fields()["sum"] == {"k": 2}
        finally:
            rig.close()


def plain_reads(rig):
    """What a read that would renew serves."""
    cells = rig.read(want=Want(renew=(7200.0, None)))
    assert cells is not None
    return plain(cells)


async def opened(url):
    """Open a store, use it once, close it."""
    async with AsyncStore.open(url) as store:
        await store.collection(Chat).get("abc")


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_a_server_that_evicts_is_refused(policy):
    """A server that may evict parts of a state is refused at open and by `check`, or warned about."""
    with RedisServer.start(maxmemory=64 << 20, maxmemory_policy=policy) as server:
        with pytest.raises(ConfigError, match=policy):
            asyncio.run(opened(server.url))
        with pytest.warns(UserWarning, match=policy):
            rig = Rig(place_on(server, eviction="warn"))
        try:
            rig.write(*FULL)
            with pytest.warns(UserWarning, match=policy):
                rig.run(rig.driver.check(0.0))
            server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")
            rig.run(rig.driver.check(0.0))
        finally:
            rig.close()


# -------------------------------------------------------------------------------------- permissions

RULES = (
    "resetkeys ~sh:* -@all +evalsha +evalsha_ro +script|load +info +time +hget +hmget"
    " +hset +hdel +hkeys +hlen +hgetall +rpush +ltrim +lset +lrange +unlink +set +setrange +getrange +pexpireat"
    " +exists +persist +zadd +zrem +zrandmember +zrangebylex"
)
"""What the page on Redis says that a user needs."""


def test_a_user_with_few_rights_is_enough():
    """The commands that the page lists are enough for all that the driver does."""
    with RedisServer.start(users={"shop": f"on >secret {RULES}"}) as server:
        url = server.url.replace("redis://", "redis://shop:secret@")
        rig = Rig(Backend(open=lambda: open_driver(url), own_clock=TICK))
        try:
            rig.run(rig.driver.check(0.0))
            for ttl in (100, None, 50):
                rig.write(*FULL, ttl=ttl, op=f"{ttl}", subject="ann", returning=EVERYTHING, ops=1)
                rig.write(*FULL, ttl=ttl, op=f"again {ttl}", subject="bob", ops=2)
            rig.read(want=Want(renew=(7200.0, None)))
            assert rig.ids() == rig.ids(subject="bob") == ["a"]
            rig.write(Put("map", "x", b"1"), Append("log", (b"x",) * 20, 2))
            rig.write(Splice("log", 2, at=rig.stands().fields["log"].first, items=(b"y",)))
            rig.write(Splice("log", 2, take=1))
            rig.write(Drop("map"), Drop("log"), Drop("note", ""))
            rig.erase()
            assert rig.ids() == []
        finally:
            rig.close()


def test_the_page_lists_those_rights():
    """The page has the rules that the test above proves enough, and no others."""
    (line,) = re.findall(
        r"^ACL SETUSER shop on >secret (.+?[^\\])$", PAGE, re.MULTILINE | re.DOTALL
    )
    assert line.replace("\\\n", " ").split() == RULES.split()


def test_every_command_of_the_scripts_is_asked_for():
    """What is not asked about beforehand would be denied in the midst of a commit."""
    (rights,) = (script.text for script in ALL if script.name == "rights")
    used = {
        name for script in ALL for name in re.findall(r"redis\.p?call\(\s*'(\w+)'", script.text)
    }
    assert used == set(re.findall(r"\{'(\w+)'[,}]", rights))


def test_the_page_lists_every_setting():
    """Each setting is on the page with what it means, and none that is not there."""
    table = PAGE.partition("| setting |")[2].partition("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| (.+) \|$", table, re.MULTILINE))
    assert rows == {name: meaning for name, (_, _, meaning) in SETTINGS.known.items()}


@pytest.mark.parametrize("right", ["rpush", "persist", "zadd", "~sh:*"])
def test_a_missing_right_is_told(right):
    """A user who lacks a right is told so when a store is opened, before anything is half written."""
    lacking = RULES.replace(right, "~other:*") if right[0] == "~" else f"{RULES} -{right}"
    with RedisServer.start(users={"shop": f"on >secret {lacking}"}) as server:
        url = server.url.replace("redis://", "redis://shop:secret@")
        with pytest.raises(ConfigError, match="rpush" if right[0] == "~" else right):
            asyncio.run(opened(url))


# ------------------------------------------------------------------- confirmation and what is lost


def test_an_unconfirmed_commit_is_a_timeout(redis):
    """With `wait_replicas` a commit that too few replicas confirm raises, though the master has it."""
    rig = Rig(place_on(redis, wait_replicas=1, wait_timeout=0.05))
    try:
        with pytest.raises(Timeout, match="stands"):
            rig.write(Add("sum", "k", 1), op="op 1")
        assert rig.fields() == {"sum": {"k": 1}}
    finally:
        rig.close()


def test_what_a_new_master_lacks_is_counted():
    """After another master has taken over, acknowledged commits that it lacks are counted."""
    with RedisServer.start() as server:  # without persistence a restart is the worst of failovers
        rig = Rig(place_on(server, timeout=5.0))
        try:
            for n in range(7):
                rig.write(Add("sum", "k", 1), id="lost", op=f"{n}")
            rig.write(Add("sum", "k", 1), id="gone anyhow", op="op", ttl=1)
            rig.write(id="erased", op="op")
            rig.erase("erased", op="op 2")
            rig.wait(1.5)
            server.kill()
            server.restart()
            for _ in range(3):
                rig.write(Add("sum", "k", 1), id="new", op="op")
            stats = rig.driver.stats()
            assert stats["failover_lost_total"] == 7
            assert stats["failover_checked_total"] >= 1
            rig.read("lost")
            assert rig.driver.stats()["failover_lost_total"] == 7
        finally:
            rig.close()


def test_what_a_failover_loses_is_counted():
    """What the replica that became master had not heard of is what the statistics say was lost."""
    with RedisSentinel.start(down_after_ms=1500) as group:
        master = group.master()
        rig = Rig(place_on(group, timeout=2.0))
        try:
            for n in range(20):
                rig.write(Add("sum", "k", 1), id=f"{n % 10}", op=f"before {n}")
            written = int(master.info("replication")["master_repl_offset"])
            for replica in group.replicas():
                wait_for(lambda replica=replica: received(replica) >= written, "replication")
                replica.pause()
            master.cli("CLIENT", "KILL", "TYPE", "replica")
            for n in range(30):
                rig.write(Add("sum", "k", 1), id=f"{n % 10}", op=f"after {n}")
            master.kill()
            for replica in group.replicas():
                if replica.is_paused:
                    replica.resume()
            group.new_master(other_than=master)
            wait_for(lambda: answers(rig), "the store answers again")
            lost = sum(5 - rig.fields(f"{n}")["sum"]["k"] for n in range(10))
            stats = rig.driver.stats()
            assert stats["failover_lost_total"] == lost == 30
            assert stats["failovers_total"] >= 1
        finally:
            rig.close()


def answers(rig):
    try:
        rig.read("0")
    except (Unavailable, Timeout):
        return False
    return True


# -------------------------------------------------------------------------------------- the package


def test_importing_statehold_loads_no_client():
    """The client library is loaded with the driver, and the driver when its backend is opened."""
    code = "import sys, statehold, statehold.backends; assert not {'hiredis', 'ssl'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_scripts_say_what_they_take():
    """Each script has a header with its KEYS, ARGV and reply, and says if it writes."""
    for script in ALL:
        for word in ("KEYS", "ARGV", "Reply"):
            assert f"{word} " in script.text or f"{word}:" in script.text
        assert script.writes is ("no-writes" not in script.text.split("\n", 1)[0])
    assert COMMIT.text.startswith("#!lua\n")


def test_a_chat_through_the_face(redis):
    """A session of a store on Redis keeps what it says, typed."""

    async def play():
        async with AsyncStore.open(redis.url) as store:
            chats = store.collection(Chat)
            async with chats.session("abc") as chat:
                chat.history.append("hello")
                chat.turns += 1
            await chats.apply("abc", Chat.turns.add(1), Chat.focus.put("7"))
            chat = await chats.get("abc")
            assert (list(chat.history), chat.turns, chat.focus) == (["hello"], 2, "7")
            assert await chats.delete("abc") is True
            assert await chats.delete("abc") is False

    asyncio.run(play())


def test_a_store_looks_at_its_server_once(redis):
    """However many tasks come first, and though the one that came before them all is cancelled."""

    class Visit(State, ttl=60):
        n = Counter()

    async def main():
        async with AsyncStore.open(redis.url) as store:
            visits = store.collection(Visit)
            first = asyncio.create_task(visits.get("a"))
            others = [asyncio.create_task(visits.get("a")) for _ in range(500)]
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(*others)
            return store.driver.stats()["commands_total"]

    assert asyncio.run(main()) < 501 + 30


def test_an_erasure_is_no_loss():
    """It answers with the revision that it erased, which is the newest that was acknowledged."""
    acknowledged, key = Acknowledged(), ("", "visit", "a")
    acknowledged.note(Commit(key, (), None), Written(Revision(7, 3)), doubtful=False)
    acknowledged.note(Commit(key, (), None, erase=True), Written(Revision(7, 3)), doubtful=True)
    assert (acknowledged.checked, acknowledged.lost) == (1, 0)


@pytest.mark.parametrize(
    "url",
    [
        "redis://:abc?s3cret@cache.internal:6379/0",
        "redis://:abc?x=s3cret@cache.internal:6379/0",
        "redis://name?s3cret@cache.internal",
        "redis://:abc#s3cret@cache.internal",
        "postgresql://name:abc?s3cret@db.internal/shop",
    ],
)
def test_no_part_of_a_password_is_shown(url):
    """A mark that cuts a password in two makes a refusal that shows neither half."""
    with pytest.raises(ConfigError, match=r"%3F|%23") as caught:
        open_driver(url)
    error = caught.value
    assert "s3cret" not in f"{error} {error!r} {error.found} {error.__cause__} {error.__context__}"
