"""A life goes from backend to backend and comes back, and nothing of it is lost."""

import itertools
import time
from urllib.parse import urlsplit

import pytest
from msgspec.structs import replace

from statehold.backends import open_driver
from statehold.changes import Add, Append, Splice
from statehold.commits import digest_of
from statehold.driver import Doubtful, FencedOff, Written
from statehold.drivers.memory import MemoryDriver
from statehold.drivers.sql import from_url
from statehold.drivers.sqlite import SqliteDriver
from statehold.testing import Backend, installing
from statehold.testing.conformance.whole_lives import OPS, rich, same
from statehold.testing.rig import Rig

PLACES = ("memory", "sqlite", "redis", "sql", "postgresql", "mariadb")


class Place(Rig):
    """A backend in the time of the machine, which all of them share."""

    now = property(lambda self: time.time())
    named = "a"

    def key(self, id="a", **more):
        """Of the state that is moved, whatever it is called here."""
        return super().key(self.named if id == "a" else id, **more)


@pytest.fixture
def servers(request):
    return {
        "redis": request.getfixturevalue("statehold_redis").url,
        "postgresql": request.getfixturevalue("statehold_postgres").new_database(),
        "mariadb": request.getfixturevalue("statehold_mariadb").new_database(),
    }


@pytest.fixture
def places(servers, tmp_path):
    opening = {
        "memory": MemoryDriver,
        "sqlite": lambda: SqliteDriver(tmp_path / "a.db"),
        "redis": lambda: open_driver(servers["redis"]),
        "sql": lambda: from_url(urlsplit(f"sqlite+sql:///{tmp_path}/b.db"), {}),
        "postgresql": lambda: from_url(urlsplit(servers["postgresql"]), {}),
        "mariadb": lambda: from_url(urlsplit(servers["mariadb"]), {}),
    }
    made = {name: Place(Backend(opening[name])) for name in PLACES}
    for place in made.values():
        place.tenant = made["memory"].tenant
    yield made
    for place in made.values():
        place.close()


def moved(source, target):
    """The life of the state at the target, which has come from the source."""
    (outcome,) = target.install(source.life())
    assert isinstance(outcome, Written)
    return target.life()


def test_every_pair(places):
    """From each to each other: what is read there is what was read here."""
    for source, target in itertools.permutations(PLACES, 2):
        places[source].named = places[target].named = f"{source} {target}"
        life = rich(places[source])
        same(moved(places[source], places[target]), life)


def test_round_trip(places):
    """Through all of them and back: it goes on where it began, with what it was before."""
    began = time.time()
    first = places["memory"]
    life = rich(first)
    lease = first.try_(claim=900.0, op="a lease")
    assert isinstance(lease, Written)
    life = first.life()
    for source, target in itertools.pairwise([*PLACES, *PLACES[:2]]):
        if target == "memory":
            places[target].erase(epoch=lease.epoch)
        if target == "sqlite" and source == "memory":
            places[target].erase(epoch=lease.epoch)
        same(moved(places[source], places[target]), life)
    last = places["sqlite"]
    number = life.cells.revision.number
    for n, op in enumerate(OPS):
        again = last.write(Add("sum", "half", 1), op=op, epoch=lease.epoch)
        assert again.repeated, f"{op} was forgotten on the way"
        assert again.revision.number == n + 1
    assert last.try_(Add("sum", "half", 1), op="new", epoch=5) == FencedOff(lease.epoch)
    assert isinstance(last.try_(claim=1.0, op="another"), FencedOff)
    assert last.try_(claim=900.0, op="a lease").epoch == lease.epoch
    doubt = last.try_(Add("sum", "half", 1), op="x", since=began - 1, epoch=lease.epoch)
    assert doubt == Doubtful()
    positions = life.cells.fields["log"].first
    done = last.write(
        Splice("log", 4, at=positions, items=(b'"?"',)),
        Append("trail", (b'"3"',), 5),
        op="new",
        epoch=lease.epoch,
        max_age=20_000,
    )
    assert done.revision.number == number + 1
    assert last.stands().fields["trail"].first == 3
    assert last.stands().fields["log"][0] == b'"?"'


@pytest.mark.parametrize("name", ["memory", "sqlite"])
def test_op_ids_make_way_as_ever(name, tmp_path):
    """After so many commits as op ids are remembered, none of those is left that came along."""
    place = Place(
        Backend({"memory": MemoryDriver, "sqlite": lambda: SqliteDriver(tmp_path / "a")}[name])
    )
    place.install(installing.made(place.key(), 20, time.time()))
    for n in range(21, 41):
        place.write(Add("sum", "count", 1), op=installing.op(n), ops=8)
        assert len(place.life().ops) <= 20 + 8
    life = place.life()
    assert [one.number for one in life.ops][-8:] == list(range(33, 41))
    assert len(life.ops) <= 8 + 8 // 4
    sent = life.cells.created
    assert place.try_(Add("sum", "count", 1), op=installing.op(3), ops=8, since=sent) == Doubtful()
    place.close()


def test_digests_stay_digests(places):
    """An op id that went through Redis is known everywhere afterwards, though only by its digest."""
    source, target = places["redis"], places["postgresql"]
    source.write(Add("sum", "k", 1), op="a key of a caller's", intent=3)
    life = moved(source, target)
    assert [one.op for one in life.ops] == [digest_of("a key of a caller's")]
    for commits in (1, 2):
        some = [target.commit(Add("sum", "k", 1), op="a key of a caller's", intent=3)] * commits
        assert all(one.repeated for one in target.send(*some))
    assert target.write(Add("sum", "k", 1), op="0123456789ab0123456789ab").revision.number == 2
    assert target.fields() == {"sum": {"k": 2}}
    back = replace(target.life(), key=source.key("b"))
    assert isinstance(source.install(back)[0], Written)
    assert source.write(Add("sum", "k", 1), id="b", op="a key of a caller's", intent=3).repeated
