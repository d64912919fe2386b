"""Bytes and JSON that are stored as they are, on every backend."""

import base64
import json
from datetime import timedelta

import msgspec
import pytest
from fastapi.testclient import TestClient

from statehold import (
    AsyncStore,
    ConfigError,
    Invalid,
    Log,
    Map,
    Register,
    State,
    Steps,
    Store,
    TooLarge,
    Turns,
)
from statehold.changes import Append, Put
from statehold.cli import main
from statehold.codec import RAW
from statehold.config.kinds import kinds_of
from statehold.drivers.memory import MemoryDriver
from statehold.server.app import create_app

HOUR = timedelta(hours=1)
VALUES = [
    b"",
    b"\0",
    b"\0\0",
    b'"aGk="',
    b"null",
    b"[1,2]",
    b"\xff\xfe\x00\x01",
    "\ud7ff\U0001f600".encode(),
    bytes(range(256)) * 5,
]


class Saved(State, ttl=HOUR):
    model = Register(bytes, default=b"none")
    blobs = Map(str, bytes, keep=20)
    log = Log(bytes, keep=len(VALUES))
    steps = Steps(bytes)


class Documents(State, ttl=HOUR):
    one = Register(msgspec.Raw, default=msgspec.Raw(b"{}"))
    many = Map(str, msgspec.Raw, keep=20)
    log = Log(msgspec.Raw, keep=20)
    turns = Turns(msgspec.Raw, keep=20)


def test_bytes_read_back_as_they_were(store):
    saved = store.collection(Saved)
    assert saved.get("s").model == b"none"
    for n, value in enumerate(VALUES):
        with saved.session("s") as state:
            state.model = value
            state.blobs[str(n)] = value
            state.log.append(value)
            assert (state.model, state.blobs[str(n)], state.log[-1]) == (value, value, value)
        saved.apply("s", Saved.steps.put("first", value))
        found = saved.get("s")
        assert found.model == value
        assert not found.meta.corrupted
    assert dict(found.blobs) == {str(n): value for n, value in enumerate(VALUES)}
    assert list(found.log) == VALUES
    assert dict(found.steps) == {"first": b""}
    saved.apply("s", Saved.model.drop(), Saved.blobs.drop("0"), Saved.log.append(b"new", b"newer"))
    found = saved.get("s", tail=3)
    assert (found.model, len(found.blobs)) == (b"none", len(VALUES) - 1)
    assert list(found.log) == [VALUES[-1], b"new", b"newer"]


def test_what_was_stored_as_base64_is_still_read(store):
    """By the changes that an earlier release made of the same calls."""
    saved = store.collection(Saved)
    old = b'"%b"' % base64.b64encode(b"\x80old")
    cells = (
        Put(Saved.model.stored, "", old),
        Put(Saved.blobs.stored, "k", old, bound=20),
        Append(Saved.log.stored, (old, old), len(VALUES)),
    )
    saved.apply("s", *cells, Saved.log.append(b"new"))
    found = saved.get("s")
    assert (found.model, dict(found.blobs)) == (b"\x80old", {"k": b"\x80old"})
    assert list(found.log) == [b"\x80old", b"\x80old", b"new"]
    plain = base64.b64encode(b"\x80old").decode()
    assert found.to_builtins()["log"] == [plain, plain, "bmV3"]


def test_they_take_no_more_room_than_they_have():
    assert Saved.model.put(b"\xffab").value == RAW + b"\xffab" == b"\0\xffab"
    assert Saved.log.append(b"", b"x").items == (b"\0", b"\0x")
    small = Register(bytes, default=b"", max_bytes=4)
    small.__set_name__(State, "small")
    assert len(small.put(b"1234").value) == 5 == small.entry_bytes() == small.layout().max_bytes
    with pytest.raises(TooLarge, match="small: a value of 5 bytes, at most 4 allowed"):
        small.put(b"12345")
    for wrong in ("text", bytearray(b"x"), memoryview(b"x"), None, 1):
        with pytest.raises(Invalid, match=f"small: {type(wrong).__name__} is not bytes"):
            small.put(wrong)


def test_in_json_they_are_base64():
    with Store.open("memory://") as store:
        saved = store.collection(Saved)
        given = {
            "model": {"put": "gAA="},
            "blobs": {"put": {"k": "AA=="}},
            "log": {"append": ["", "eA=="]},
        }
        saved.apply("s", *Saved.__schema__.edits_from_json(given))
        found = saved.get("s")
        assert (found.model, found.blobs["k"], list(found.log)) == (b"\x80\0", b"\0", [b"", b"x"])
        shown = {"model": "gAA=", "blobs": {"k": "AA=="}, "log": ["", "eA=="], "steps": {}}
        assert found.to_builtins() == shown == json.loads(msgspec.json.encode(found.to_json()))
        assert json.loads(json.dumps(found.to_builtins())) == shown
        with pytest.raises(Invalid, match="model: not a valid bytes"):
            Saved.__schema__.edits_from_json({"model": {"put": "not base64!"}})
    assert Saved.model.json_schema()["contentEncoding"] == "base64"


def test_a_repetition_with_other_bytes_is_no_repetition():
    """Also where both look like the same JSON."""
    intent = Saved.__schema__.intent
    assert intent((Saved.model.put(b"[1,2]"),)) != intent((Saved.model.put(b"[2,1]"),))
    assert intent((Saved.model.put(b"[1,2]"),)) == intent((Saved.model.put(b"[1,2]"),))


def test_bytes_become_another_type_and_another_type_bytes():
    def release(**fields):
        return type("Turned", (State,), fields, ttl=HOUR)

    first = release(log=Log(bytes, keep=9), other=Log(str, keep=9))
    second = release(
        log=Log(str, keep=9, version=2, upcast={1: lambda text: f"base64 {text}"}),
        other=Log(bytes, keep=9, version=2, upcast={1: lambda text: text.encode()}),
    )
    with Store.open("memory://") as one, Store(one.driver) as two:
        one.collection(first).apply("t", first.log.append(b"\x80"), first.other.append("hé"))
        turned = two.collection(second)
        turned.apply("t", second.log.append("x"), second.other.append(b"\x81"))
        found = turned.get("t")
        assert list(found.log) == ["base64 gA==", "x"]
        assert list(found.other) == ["hé".encode(), b"\x81"]


def test_over_http_and_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "statehold.toml").write_text(
        'backend = "sqlite:///raw.db"\n[kinds.saved]\nttl = "1h"\n[kinds.saved.fields]\n'
        'model = { type = "register", value = "bytes" }\n'
        'shown = { type = "register", value = "bytes", default = "aGk=" }\n'
        'blobs = { type = "map", values = "bytes", keep = 3 }\n'
        'log = { type = "log", items = "bytes", keep = 3 }\n'
    )
    assert (
        main(["apply", "saved", "s", '{"model": {"put": "gAA="}, "log": {"append": ["AA=="]}}'])
        == 0
    )
    capsys.readouterr()
    assert main(["get", "saved", "s"]) == 0
    fields = json.loads(capsys.readouterr().out)["fields"]
    assert fields == {"model": "gAA=", "shown": "aGk=", "blobs": {}, "log": ["AA=="]}


def test_the_server_speaks_base64():
    store = AsyncStore(MemoryDriver())
    with TestClient(create_app(store, [Saved, Documents]), base_url="http://127.0.0.1") as client:
        changes = {"blobs": {"put": {"k": "gAA="}}, "log": {"append": ["AA=="]}}
        assert client.post("/v1/saved/s/commit", json=changes).status_code == 200
        fields = client.get("/v1/saved/s").json()["fields"]
        assert (fields["blobs"], fields["log"]) == ({"k": "gAA="}, ["AA=="])
        changes = {"log": {"append": [{"a": [1, None]}]}, "turns": {"append": [1, "x"]}}
        assert client.post("/v1/documents/d/commit", json=changes).status_code == 200
        fields = client.get("/v1/documents/d").json()["fields"]
        assert fields == {"one": {}, "many": {}, "log": [{"a": [1, None]}], "turns": [1, "x"]}


def test_a_default_in_toml_is_base64(tmp_path):
    table = {"model": {"type": "register", "value": "bytes", "default": "no base64"}}
    with pytest.raises(ConfigError, match="default: bytes are written in base64"):
        kinds_of({"saved": {"ttl": "1h", "fields": table}}, "kinds", tmp_path)


JSON = [b"null", b"0", b'""', b'{"role":"user","n":[1,null,true]}', '["é\U0001f600"]'.encode()]


def test_documents_read_back_as_they_were(store):
    documents = store.collection(Documents)
    assert bytes(documents.get("d").one) == b"{}"
    for n, data in enumerate(JSON):
        raw = msgspec.Raw(data)
        with documents.session("d") as state:
            state.one = raw
            state.many[str(n)] = raw
            state.log.append(raw)
            state.turns.append(raw, raw)
        found = documents.get("d")
        assert isinstance(found.one, msgspec.Raw)
        assert bytes(found.one) == data
    assert [bytes(each) for each in found.log] == JSON
    assert [bytes(each) for each in found.turns] == [each for each in JSON for _ in "ab"]
    plain = [json.loads(each) for each in JSON]
    read = {key: msgspec.json.decode(value) for key, value in found.many.items()}
    assert read == {str(n): each for n, each in enumerate(plain)}
    shown = found.to_builtins()
    assert shown == json.loads(msgspec.json.encode(found.to_json()))
    assert (shown["one"], shown["log"]) == (plain[-1], plain)
    assert not found.meta.corrupted


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"\xff", b'"\xff"', b"\0abc", b"1 2"])
def test_what_is_no_json_is_refused(data):
    for put in (Documents.one.put, Documents.log.append, Documents.turns.append):
        with pytest.raises(Invalid, match="this Raw cannot be stored"):
            put(msgspec.Raw(data))
