"""From a file and the environment to a typed configuration, or one line that says what is wrong."""

import asyncio
import hashlib
import sys

import pytest

from statehold import ConfigError, Counter, State
from statehold.config import ENVIRONMENT, FIELDS, KEY, KIND, SERVER, AccessKey, Config
from statehold.config.keys import match

SECRET = "0123456789abcdef-secret"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()
COUNTED = '[kinds.a]\nttl = 60\n[kinds.a.fields]\nn = "counter"\n'
MEMORY = 'backend = "memory://"\n'


@pytest.fixture
def load(tmp_path):
    def loaded(text, **env):
        path = tmp_path / "statehold.toml"
        path.write_text(text, "utf-8")
        return Config.load(path, env)

    return loaded


def field(declared, extra=""):
    return f"{MEMORY}{extra}[kinds.a]\nttl = 60\n[kinds.a.fields]\nx = {declared}\n"


EVERY_FIELD = """
[kinds.every]
ttl = "1h30m"
max_age = "7d"
renew_on_read = true
ops = 7
limit_bytes = "8MiB"
[kinds.every.fields]
register = { type = "register", value = "string", default = "x", max_bytes = "1KiB", stored_as = "r" }
counter = { type = "counter", number = "number" }
map = { type = "map", keys = "integer", values = ["number"], keep = 3, max_bytes = 100 }
set = { type = "set", items = "string", keep = 3 }
log = { type = "log", items = { class = "string", "a-b" = "integer?" }, keep = 3 }
turns = { type = "turns", items = "object", keep = 3 }
vector = { type = "vector", dim = 3 }
decayed_mean = { type = "decayed_mean", dim = 3, half_life = "10m" }
tally = { type = "tally", keys = "string", number = "integer", keep = 3 }
window = { type = "window", span = "1h", buckets = 6 }
steps = { type = "steps", values = "any", keep = 3 }
"""


def test_every_type_of_field_can_be_declared(load):
    schema = load(MEMORY + EVERY_FIELD).kinds["every"].__schema__
    assert (schema.kind, schema.name, schema.ttl, schema.max_age) == (
        "every",
        "Every",
        5400,
        604800,
    )
    assert (schema.ops, schema.renew) == (7, (5400, 604800))
    assert {name: made.field for name, made in schema.fields.items()} == {n: n for n in FIELDS}
    assert schema.fields["register"].stored == "r"
    assert schema.fields["register"].default == "x"
    edits = schema.edits_from_json({"log": {"append": [{"class": "x"}, {"class": "y", "a-b": 1}]}})
    assert len(edits) == 1
    with pytest.raises(ValueError, match="log"):
        schema.edits_from_json({"log": {"append": [{"class": "x", "other": 1}]}})


def test_a_declared_kind_works_like_one_in_python(load):
    config = load(MEMORY + EVERY_FIELD)

    async def use():
        async with config.open() as store:
            states = store.collection(config.kinds["every"])
            edits = states.schema.edits_from_json(
                {"counter": {"add": 2}, "map": {"put": {"1": [2]}}}
            )
            await states.apply("x", *edits)
            state = await states.get("x")
            return state.counter, dict(state.map), state.register, state.vector

    assert asyncio.run(use()) == (2, {1: [2]}, "x", None)


def test_a_kind_may_be_a_class_beside_the_file(load, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "declared_beside.py").write_text(
        "from statehold import *\nclass Beside(State, ttl=1):\n    n = Counter()\n"
    )
    for said in (
        '[kinds.beside]\nclass = "declared_beside:Beside"',
        'kinds.beside = "declared_beside:Beside"',
    ):
        found = load(f"{MEMORY}{said}").kinds["beside"]
        assert issubclass(found, State)
        assert isinstance(found.n, Counter)
    assert list(load(MEMORY, STATEHOLD_KINDS="declared_beside:Beside").kinds) == ["beside"]
    with pytest.raises(ConfigError, match="is the kind 'beside'"):
        load(f'{MEMORY}kinds.other = "declared_beside:Beside"')


def test_the_environment_has_the_last_word(load):
    text = f'[backend]\nurl = "sqlite:///a.db"\nsynchronous = "FULL"\n[server]\nport = 1\n{COUNTED}'
    assert load(text).settings == {"synchronous": "FULL"}
    config = load(text, STATEHOLD_BACKEND="memory://", STATEHOLD_PORT="2", STATEHOLD_HEARTBEAT="3s")
    assert (config.backend, config.settings) == ("memory://", {})
    assert (config.server.port, config.server.heartbeat) == (2, 3)
    assert config.server.host == "127.0.0.1"


def test_which_file_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "statehold.toml").write_text(MEMORY + COUNTED)
    (tmp_path / "other.toml").write_text(f'backend = "sqlite:///x.db"\n{COUNTED}')
    assert Config.load(env={}).source == "statehold.toml"
    assert Config.load(env={"STATEHOLD_CONFIG": "other.toml"}).backend == "sqlite:///x.db"
    assert Config.load("other.toml", env={"STATEHOLD_CONFIG": "nope"}).backend == "sqlite:///x.db"
    with pytest.raises(ConfigError, match=r"nope\.toml: cannot be read"):
        Config.load("nope.toml", env={})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("backend =", "no TOML"),
        ("", "backend: required"),
        ("plaice = 1", "no setting 'plaice'"),
        ("backend = 1", "backend: needs a url"),
        (MEMORY, "kinds: none"),
        (f"{MEMORY}kinds = 1", "kinds: must be a table"),
        (f"{MEMORY}server = 1", "server: must be a table"),
        (f"{MEMORY}[server]\nprot = 1", "server: no setting 'prot'"),
        (f"{MEMORY}[server]\nport = 'x'", "server.port: not a port"),
        (f"{MEMORY}[server]\nheartbeat = 0", "server.heartbeat: not a duration over 0"),
        (f"{MEMORY}[server]\nkeys = 1", "server.keys: must be"),
        (f"{MEMORY}[kinds.a]\nttl = 1", "kinds.a.fields: a kind needs"),
        (f"{MEMORY}[kinds.a.fields]\nx = 'counter'", "kinds.a.ttl: required"),
        (f"{MEMORY}{COUNTED}".replace("60", "0"), "kinds.a.ttl: not a duration over 0"),
        (f"{MEMORY}{COUNTED}".replace("kinds.a", "kinds.A"), "kind 'A' must be lower-case"),
        (field('"nope"'), "kinds.a.fields.x.type: no type 'nope'"),
        (field("1"), "kinds.a.fields.x: needs a type"),
        (field("{ type = 'log' }"), "kinds.a.fields.x.items: required"),
        (
            field("{ type = 'log', items = 'str', keep = 1 }"),
            "kinds.a.fields.x.items: no type 'str'",
        ),
        (field("{ type = 'log', items = [], keep = 1 }"), "x.items: a list is declared"),
        (field("{ type = 'log', items = 'any', keep = 0 }"), "x.keep: not a whole number"),
        (field("{ type = 'log', items = 'any', keep = 1, kep = 1 }"), "x: no setting 'kep'"),
        (field("{ type = 'log', items = 'any', keep = 1000000 }"), "over the limit"),
        (
            field("{ type = 'register', value = 'integer', default = 'q' }"),
            "kinds.a.fields.x: default",
        ),
        (
            field("{ type = 'window', span = '1ms', buckets = 60 }"),
            "kinds.a.fields.x: span / buckets",
        ),
        (field("'counter'\nmeta = 'counter'"), "'meta' cannot name a field"),
        (field("'counter'\n'x y' = 'counter'"), "x y: a field is named by"),
        (f"{MEMORY}kinds.a = 'no_such_module:X'", "kinds.a.class: no_such_module:X cannot be imp"),
        (f"{MEMORY}kinds.a = 'statehold:State'", "is no subclass of State"),
        (f"{MEMORY}kinds.a = 'statehold'", "is not module:Class"),
        (f"{MEMORY}kinds.a = 1", "kinds.a: must be a table"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(load, tmp_path, text, said):
    with pytest.raises(ConfigError) as caught:
        load(text)
    message = str(caught.value)
    assert said in message
    assert message.startswith(f"{tmp_path}/statehold.toml: ")
    assert "\n" not in message


@pytest.mark.parametrize("name", sorted(ENVIRONMENT))
def test_a_wrong_variable_is_named(load, name):
    if name.removeprefix("STATEHOLD_").lower() in SERVER.known and name != "STATEHOLD_HOST":
        if name == "STATEHOLD_ALLOWED_HOSTS":
            return  # any text is a list of names
        with pytest.raises(ConfigError, match=f"^{name}: "):
            load(MEMORY + COUNTED, **{name: "-x-"})


def key(said):
    return f"{MEMORY}[[server.keys]]\nname = 'ci'\n{said}\n{COUNTED}"


def test_keys_come_as_digests_from_the_environment_or_from_a_file(load, tmp_path):
    (tmp_path / "key").write_text(f"{SECRET}\n")
    (tmp_path / "key").chmod(0o600)
    for said in (f"sha256 = '{DIGEST}'", "env = 'CI_KEY'", "file = 'key'"):
        config = load(key(f"{said}\nscopes = ['read']\ntenant = 'shop'"), CI_KEY=SECRET)
        (found,) = config.server.keys
        assert found == AccessKey("ci", bytes.fromhex(DIGEST), frozenset({"read"}), "shop")
        assert match(config.server.keys, SECRET.encode()) is found
        assert match(config.server.keys, SECRET[:-1].encode()) is None
    (found,) = load(MEMORY + COUNTED, STATEHOLD_SERVER_KEY=SECRET).server.keys
    assert found.scopes == {"read", "write"}


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (f"key = '{SECRET}'", "no setting 'key' (keys are not written here in clear)"),
        (f"sha256 = '{SECRET}'", "keys[1].sha256: not the 64"),
        ("", "needs a name and one of"),
        (f"env = 'CI_KEY'\nsha256 = '{DIGEST}'", "needs a name and one of"),
        ("env = 'NOPE'", "keys[1].env: the environment has no NOPE"),
        ("env = 'SHORT'", "keys[1].env: key 'ci': must be at least 16"),
        ("file = 'nope'", "keys[1].file: "),
        ("file = 'open'", "may be read by others"),
        ("env = 'CI_KEY'\nscopes = ['reed']", "keys[1].scopes: no scope 'reed'"),
        ("env = 'CI_KEY'\nscopes = []", "keys[1].scopes: say one or more"),
    ],
)
def test_a_wrong_key_is_told_without_telling_it(load, tmp_path, said, why):
    (tmp_path / "open").write_text(SECRET)
    (tmp_path / "open").chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        load(key(said), CI_KEY=SECRET, SHORT="short-secret")
    shown = f"{caught.value} {caught.value.found} {caught.value.expected}"
    assert why in shown
    assert "secret" not in shown


def test_nothing_that_is_printed_holds_a_secret(load):
    config = load(
        key("env = 'CI_KEY'"), CI_KEY=SECRET, STATEHOLD_BACKEND="x://me:hunter2@h/p?password=y"
    )
    printed = f"{config!r} {config.server!r} {config.server.keys!r} {config.shown_backend}"
    for secret in (SECRET, DIGEST, "hunter2", "password", repr(bytes.fromhex(DIGEST))):
        assert secret not in printed
    assert config.shown_backend == "x://h/p"


def test_a_wrong_place_is_named(load):
    for backend in ("nope://", "memory", "memory://?nope=1", "sqlite://"):
        with pytest.raises(ConfigError, match=r"statehold\.toml: backend: "):
            load(f'backend = "{backend}"\n{COUNTED}').open()


def test_every_setting_says_what_it_means():
    for settings in (SERVER, KEY, KIND, *FIELDS.values()):
        for _, _, meaning in settings.known.values():
            assert meaning.endswith(".")


def test_a_service_of_kubernetes_is_no_port(load):
    """A Service called statehold puts STATEHOLD_PORT=tcp://… into every pod."""
    text = f"{MEMORY}{COUNTED}"
    assert load(text, STATEHOLD_PORT="tcp://10.96.12.3:8100").server.port == 8100
    with pytest.raises(ConfigError, match="STATEHOLD_PORT"):
        load(text, STATEHOLD_PORT="udp://10.96.12.3:8100")
