"""Nothing but the very token that was issued, where it was issued for, is opened."""

import contextlib
import logging
import os
import pickle
import traceback
import tracemalloc
import zlib

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from statehold import Counter, Register, Revision, State, StateholdError, Tampered
from statehold.drivers.token import format as wire
from statehold.drivers.token import record as records
from statehold.drivers.token import squeeze
from statehold.drivers.token.format import SEALED, decoded, encoded
from statehold.drivers.token.record import Record
from statehold.tokens import Jar, Key, KeyRing, session_of
from tests.token.chats import KEY, Cart, Chat

SECRET = "the quick brown fox is a secret"


def refused(client, token):
    """Whether the token is Tampered, which shows nothing of it."""
    try:
        client.see(token)
    except Tampered as error:
        shown = "".join(traceback.format_exception(error)) + repr(vars(error))
        return SECRET not in shown and (len(token) < 20 or token not in shown)
    return False


def refused_within(client, token, most_bytes):
    """Whether it is refused while never so much more memory was held."""
    tracemalloc.start()
    try:
        result = refused(client, token)
        return result and tracemalloc.get_traced_memory()[1] <= most_bytes
    finally:
        tracemalloc.stop()


def test_every_single_bit_flip_is_noticed(client):
    """Every bit of every byte of several tokens, of both forms, short and compressed."""
    for text in ("", SECRET * 9, os.urandom(60).hex()):
        client.token = None
        token = client.say(text).encode()
        flips = 0
        for at in range(len(token)):
            for bit in range(8):
                changed = bytearray(token)
                changed[at] ^= 1 << bit
                with pytest.raises(Tampered):
                    try_open(changed.decode("latin-1"))
                flips += 1
            assert at % 8 or refused(client, changed.decode("latin-1"))
        assert flips == 8 * len(token)
        assert client.see().turns >= 1


def test_truncation_at_every_length(client):
    token = client.say(SECRET)
    for length in range(1, len(token)):
        assert refused(client, token[:length]), length
        assert refused(client, token[length:]), length
    assert refused(client, token + "A")
    assert refused(client, token + token)


@pytest.mark.parametrize("form", ["sealed", "signed"])
def test_a_token_has_one_text(open_client, form):
    """Padding, the other alphabet, blanks: what other decoders forgive is refused."""
    client = open_client(form=form)
    for n in range(4):
        token = client.say("x" * n)
        for other in (token + "=", token + "\n", " " + token, token.replace("-", "+")):
            assert other == token or refused(client, other)


@pytest.mark.parametrize("length", range(1, 40))
def test_base64_is_canonical(length):
    data = os.urandom(length)
    text = encoded(data)
    assert decoded(text) == data
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for char in set(alphabet) - {text[-1]}:
        with contextlib.suppress(ValueError):
            assert decoded(text[:-1] + char) != data


def test_moved_to_another_session_kind_or_tenant(client):
    token = client.say(SECRET, id="abc")
    for id in ("abd", "ab", "abc ", "ABC", "é"):
        with pytest.raises(Tampered), Jar(token):
            client.chats.get(id)
    with pytest.raises(Tampered), Jar(token):
        client.store.collection(Cart).get("abc")
    for tenant in ("a", "chat", "abc"):
        elsewhere = client.store.collection(Chat, tenant=tenant)
        with pytest.raises(Tampered), Jar(token):
            elsewhere.get("abc")
        with pytest.raises(Tampered):
            session_of(elsewhere, token)
    with pytest.raises(Tampered), Jar(token):
        client.chats.apply("abd", Chat.turns.add(1))


def test_tenant_and_kind_do_not_run_together(open_client):
    """Tenant "a" with kind "bc" is not tenant "ab" with kind "c"."""

    class Short(State, ttl=60, kind="c"):
        n = Counter()

    class Long(State, ttl=60, kind="bc"):
        n = Counter()

    client = open_client()
    with Jar() as jar:
        client.store.collection(Long, tenant="a").apply("x", Long.n.add(1))
    with pytest.raises(Tampered), Jar(jar.token):
        client.store.collection(Short, tenant="ab").get("x")


IDS = ["a", "ümläut", "日本語", "a:b", "{x}*%'\"\n", "\x00", "😀" * 128, "x" * 512, "e\u0301"]


@pytest.mark.parametrize("id", IDS)
def test_unicode_ids(client, id):
    client.token = None
    token = client.say("hello", id=id)
    assert client.see(id=id).turns == 1
    assert session_of(client.chats, token) == id
    with pytest.raises(Tampered):
        client.see(id="é")  # not what "e" and an accent are


def test_unknown_keys(open_client):
    token = open_client().say(SECRET)
    stranger = open_client(keys=[Key.new()])
    assert refused(stranger, token)
    assert open_client(keys=[Key.new(), KEY]).see(token).turns == 1
    claimed = encoded(decoded(token)[:1] + Key.new().id + decoded(token)[5:])
    assert refused(open_client(), claimed)


def test_expired_is_absent_and_said_so(client):
    token = client.say("x")
    client.clock.advance(3599.9)
    assert client.see(token).meta.exists
    client.clock.advance(0.1)
    with Jar(token) as jar:
        assert not client.chats.get("abc").meta.exists
    assert jar.expired == {("", "chat", "abc")}
    assert jar.token is None
    assert session_of(client.chats, token) is None
    client.say("anew", token=token)
    assert client.see().turns == 1


def test_dated_in_the_future(client):
    token = client.say("x")
    client.clock.advance(-59)
    assert client.see(token).turns == 1
    client.clock.advance(-2)
    assert refused(client, token)


def bomb(plain):
    """A token with this plaintext, properly sealed."""
    header = SEALED + KEY.id
    context = header + (0).to_bytes(2) + b"chat\x00"
    return encoded(header + KEY.seal(plain, context))


def test_decompression_bombs(open_client):
    """Even with the key in hand: 40 KB that would become 40 MB stop at the bound."""
    client = open_client(budget=60_000)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = squeeze.DEFLATED + deflate.compress(bytes(40_000_000)) + deflate.flush()
    token = bomb(data)
    assert len(token) < 60_000
    assert refused_within(client, token, most_bytes=4_000_000)
    with pytest.raises(squeeze.Bomb):
        squeeze.expand(data, 1 << 20)


def test_nothing_is_inflated_before_the_key_has_vouched(client, monkeypatch):
    token = client.say(SECRET * 5)
    altered = token[:-1] + ("A" if token[-1] != "A" else "B")
    monkeypatch.setattr(wire, "expand", None)
    monkeypatch.setattr(records, "read", None)
    assert refused(client, altered)


def test_nested_and_odd_plaintexts(open_client):
    """What the key has sealed, but no record is: refused, never a crash."""
    client = open_client(budget=60_000)
    nested = b"\x91" * 20_000
    for plain in (
        b"",
        b"\x00",
        b"\x01",
        b"\x02abc",
        b"\x00\xc1",
        b"\x00" + nested,
        b"\x01\xff\xff",
    ):
        assert refused(client, bomb(plain))


def test_ten_megabytes_of_garbage(client):
    """Refused by its length, before anything looks at it."""
    garbage = os.urandom(7_500_000).hex()[:10_000_000]
    for text in (garbage, "." + garbage, garbage + "." + garbage[:50], "é" * 10_000_000):
        assert refused_within(client, text, most_bytes=100_000)


def test_a_token_of_the_other_form_is_opened(open_client):
    """So that the form can be changed without a logout."""
    sealed, signed = open_client(form="sealed"), open_client(form="signed")
    assert signed.see(sealed.say("x")).turns == 1
    assert sealed.see(signed.say("x")).turns == 1


def test_a_sealed_token_shows_nothing(open_client):
    client = open_client()
    token = client.say(SECRET, id="a very private id")
    data = decoded(token)
    assert b"secret" not in data
    assert b"private" not in data
    assert client.say(SECRET, id="a very private id", token=token)[:60] != token[:60]


def test_a_signed_token_is_readable_and_the_same_for_the_state(open_client):
    client = open_client(form="signed")
    token = client.say("hello")
    page = msgspec.json.decode(decoded(token.partition(".")[0]))
    assert page["session"] == "abc"
    assert page["fields"]["history"][0] == {"role": "user", "content": "hello"}
    assert page["numbers"] == {"turns": {"": 1}}
    assert page["expires"] - page["issued"] == 3600


# ---------------------------------------------------------------------------- what nobody may see


def test_errors_and_logs_hold_no_token_and_no_contents(client, caplog):
    caplog.set_level(logging.DEBUG)
    token = client.say(SECRET)
    cases = [token[:-2], token + "A", "x" * 50, token[9:], token.swapcase()]
    for text in cases:
        assert refused(client, text)
    with pytest.raises(Tampered) as caught, Jar(token):
        client.chats.get("other")
    shown = caplog.text + str(caught.value) + repr(caught.value.__dict__)
    for text in [*cases, token, SECRET, KEY.text(), "abc"]:
        assert text not in shown
    assert client.store.driver.stats()["refused_total"] == len(cases) + 1


def test_keys_hide_in_every_representation():
    ring = KeyRing([KEY])
    for shown in (repr(KEY), str(KEY), f"{ring!r} {ring}", repr([KEY]), repr({"k": KEY})):
        assert KEY.text()[4:] not in shown
        assert KEY.id.hex() in shown
    with pytest.raises(TypeError):
        pickle.dumps(KEY)


@pytest.mark.parametrize(
    "text", ["sh1_short", "sh1_" + "!" * 43, "nonsense", "sh1_" + "A" * 42 + "B"]
)
def test_a_bad_key_is_not_repeated_in_the_error(text):
    with pytest.raises(StateholdError) as caught:
        KeyRing(text)
    assert text not in "".join(traceback.format_exception(caught.value))
    assert text not in repr(vars(caught.value))


def test_a_jar_does_not_show_its_tokens(client):
    client.say("x")
    with Jar(client.token) as jar:
        client.chats.get("abc")
        assert client.token not in repr(jar) + str(jar)


def test_no_two_tokens_share_salt_and_nonce(open_client):
    client = open_client()
    with Jar() as jar:
        seen = set()
        for _ in range(2000):
            client.chats.apply("abc", Chat.turns.add(1))
            seen.add(decoded(jar.token)[5:29])
    assert len(seen) == 2000


# ----------------------------------------------------------------------------------- the parser

RING = KeyRing([KEY])


def try_open(token):
    return wire.opened(
        token, RING, tenant="", kind="chat", session="abc", max_chars=1 << 16, max_bytes=1 << 20
    )


@settings(max_examples=500)
@given(st.one_of(st.text(), st.text(alphabet="AQg-_.=+/b", min_size=40), st.binary().map(encoded)))
@example("")
@example(".")
@example("..")
@example("A" * 100 + ".")
@example("AQ" * 40)
def test_whatever_comes_is_refused_and_nothing_else(text):
    with pytest.raises(Tampered):
        try_open(text)


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_whatever_was_sealed_opens_or_is_refused(plain):
    """The parser behind the seal, fed directly."""
    for data in (plain, squeeze.PLAIN + plain, squeeze.squeeze(plain, 1 << 20)):
        with contextlib.suppress(Tampered):
            try_open(bomb(data))


@settings(max_examples=300)
@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=20))
def test_whatever_json_was_signed_opens_or_is_refused(page):
    with contextlib.suppress(records.Malformed):
        records.read(msgspec.json.encode({"kind": page, "fields": page}))


SCALARS = (
    st.binary()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
)
NAMES = st.text(max_size=8)
FIELDS = st.dictionaries(
    NAMES,
    st.dictionaries(NAMES, SCALARS | st.just(b'"json"'), min_size=1)
    | st.lists(st.binary() | st.just(b"[1, 2]"), min_size=1).map(records.Items),
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(
    fields=FIELDS,
    id=st.text(min_size=1).filter(lambda text: text.isprintable()),
    created=st.floats(0, 2e9),
    life=st.none() | st.floats(0, 1e9),
    ops=st.dictionaries(
        st.binary(min_size=8, max_size=8),
        st.tuples(st.integers(0, 2**40), st.integers(0, 2**32 - 1)),
    ),
    versions=st.dictionaries(NAMES, st.integers(2, 9)),
    form=st.sampled_from([wire.sealed, wire.signed]),
)
def test_every_record_comes_back_as_it_was(fields, id, created, life, ops, versions, form):
    record = Record(
        key=("tenant", "chat", id),
        revision=Revision(2**62, 7),
        created=created,
        updated=created + 1.5,
        deadline=None if life is None else created + 1.5 + life,
        epoch=3,
        registered=True,
        ops=ops,
        versions=versions,
        fields=fields,
        spilled={"big": "ab12"},
    )
    token = form(record, RING, 1 << 20)
    back = wire.opened(
        token, RING, tenant="tenant", kind="chat", session=id, max_chars=1 << 20, max_bytes=1 << 20
    )
    assert back.created == pytest.approx(record.created, abs=1e-6)
    assert back.deadline == pytest.approx(record.deadline, abs=1e-6)
    same = {"created": 0, "deadline": 0}
    assert msgspec.structs.replace(back, **same) == msgspec.structs.replace(record, **same)


def test_values_of_every_type_come_back(client):
    class All(State, ttl=60):
        text = Register(str, default="")
        raw = Register(bytes, default=b"")

    chats = client.store.collection(All)
    with Jar() as jar, chats.session("x") as state:
        state.text, state.raw = "ä\u2028\x00", bytes(range(256))
    with Jar(jar.token):
        assert chats.get("x").text == "ä\u2028\x00"
        assert chats.get("x").raw == bytes(range(256))
