"""Settings mean what they say, whoever writes them, and a wrong one is named."""

import re
import string
import sys
import traceback
from datetime import timedelta
from importlib.metadata import EntryPoint, EntryPoints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from sample import Everything

from statehold import ConfigError, Store
from statehold.backends import BACKENDS, open_driver
from statehold.client.remote import Remote
from statehold.config.loading import Config, ServerConfig
from statehold.driver import Driver
from statehold.drivers.memory import MemoryDriver
from statehold.settings import (
    Settings,
    boolean,
    choice,
    count,
    duration,
    forever_or_duration,
    size,
    text,
)

SIZES = {
    "": 1,
    "B": 1,
    "KB": 1000,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1024,
    "MiB": 2**20,
    "GiB": 2**30,
}
SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
spaces = st.sampled_from(["", " ", "  "])


@given(st.integers(1, 10**6), st.sampled_from(list(SIZES)), spaces, spaces)
def test_sizes(number, unit, before, between):
    assert size(f"{before}{number}{between}{unit}{before}") == number * SIZES[unit]
    assert size(number) == number


@given(
    st.lists(
        st.tuples(st.integers(1, 999), st.sampled_from(list(SECONDS))), min_size=1, max_size=4
    ),
    spaces,
)
def test_durations_add_up(parts, space):
    said = space.join(f"{number}{unit}" for number, unit in parts)
    assert duration(said) == pytest.approx(sum(n * SECONDS[u] for n, u in parts))


@given(st.timedeltas(timedelta(microseconds=1), timedelta(days=9999)))
def test_timedeltas_over_a_day_are_whole(value):
    assert duration(value) == value.total_seconds()


@given(st.floats(1e-9, 1e11) | st.integers(1, 10**11))
def test_numbers_are_seconds(value):
    assert duration(value) == value
    assert isinstance(duration(value), float)


@given(st.text(string.printable, max_size=8))
@example("1e3")
@example("1.5.2s")
@example("-1s")
@example("1h30")
@example("0s")
@example("\N{ARABIC-INDIC DIGIT ONE}s")
def test_any_text_is_a_positive_duration_or_refused(said):
    try:
        found = duration(said)
    except ValueError:
        return
    assert found > 0
    assert any(c.isdecimal() for c in said)
    assert not set(said) & set("-+_,")


@given(st.text(string.printable, max_size=8))
def test_any_text_is_a_positive_size_or_refused(said):
    try:
        assert size(said) >= 1
    except ValueError:
        assert not said.isdigit() or int(said) == 0


@pytest.mark.parametrize("parse", [size, duration, count], ids=lambda it: it.__name__)
@pytest.mark.parametrize(
    "wrong",
    [
        0,
        -1,
        "0",
        "-1",
        "",
        " ",
        "x",
        None,
        True,
        False,
        float("nan"),
        float("inf"),
        [],
        b"1",
        timedelta(0),
        "1 x",
        "1,000",
        "9" * 5000,
    ],
    ids=lambda it: repr(it)[:20],
)
def test_what_is_no_amount_is_refused(parse, wrong):
    with pytest.raises(ValueError):
        parse(wrong)


@pytest.mark.parametrize("wrong", [1.5, "1.5KB", "1kb", "1TB", "0x10", timedelta(1)], ids=repr)
def test_sizes_are_whole_and_their_units_are_spelt(wrong):
    with pytest.raises(ValueError):
        size(wrong)


def test_for_ever():
    assert forever_or_duration(None) is forever_or_duration("never") is None
    assert forever_or_duration("1m") == 60
    for wrong in (0, "for ever", "", False):
        with pytest.raises(ValueError):
            forever_or_duration(wrong)


def test_counts_choices_booleans_and_text():
    assert (count(3), count("3")) == (3, 3)
    for wrong in (1.0, "1.0", "²", " 1"):
        with pytest.raises(ValueError):
            count(wrong)
    parse = choice("NORMAL", "FULL")
    assert (parse("full"), parse("NORMAL")) == ("FULL", "NORMAL")
    for wrong in ("", "OFF", None, 1):
        with pytest.raises(ValueError, match="NORMAL, FULL"):
            parse(wrong)
    assert [boolean(v) for v in (True, "yes", "ON", 1, False, "No", "off", "0")] == [True] * 4 + [
        False
    ] * 4
    for wrong in ("", "2", None, 2, 1.0):
        with pytest.raises(ValueError):
            boolean(wrong)
    assert text("x") == "x"
    with pytest.raises(ValueError):
        text(5)


def test_a_wrong_setting_is_named():
    settings = Settings("part", {"max_bytes": (size, 10, "…"), "wait": (duration, 1.0, "…")})
    assert settings.default("wait") == 1.0
    assert settings.parse({"max_bytes": "1KiB"}) == {"max_bytes": 1024}
    with pytest.raises(
        ConfigError, match=r"part: no setting 'max'; there are max_bytes, wait"
    ) as caught:
        settings.parse({"max": 1})
    assert caught.value.field == "max"
    with pytest.raises(ConfigError, match=r"part\.wait: not a duration") as caught:
        settings.parse({"wait": "soon"})
    assert (caught.value.field, caught.value.found) == ("wait", "soon")


# ------------------------------------------------------------------------------ backends


def test_a_place_takes_its_settings_from_the_url_or_by_name():
    assert open_driver("memory://?max_bytes=64KiB").stats()["budget_bytes"] == 65536
    assert open_driver("memory://", max_bytes="64KiB").stats()["budget_bytes"] == 65536
    assert open_driver("MEMORY:///").stats()["budget_bytes"] > 65536


@pytest.mark.parametrize(
    ("url", "settings", "message"),
    [
        ("memory://?max_bytes=1KB", {"max_bytes": 5}, "max_bytes is given twice"),
        ("memory://?max_bytes=1KB&max_bytes=1KB", {}, "max_bytes is given twice"),
        ("memory://?max_bytes=", {}, "max_bytes: not a size"),
        ("memory://?max=1", {}, "no setting 'max'"),
        ("memory://", {"max_bytes": 0}, "max_bytes"),
        ("memory://host", {}, "no host"),
        ("memory:///path", {}, "no path"),
        ("nowhere://", {}, "no backend 'nowhere'; there are memory, sqlite"),
        ("state.db", {}, "not a backend"),
        ("", {}, "not a backend"),
        ("memory:", {}, "not a backend"),
        ("memory://[", {}, "not a backend"),
    ],
)
def test_a_place_that_cannot_be_is_refused(url, settings, message):
    with pytest.raises(ConfigError, match=message):
        Store.open(url, **settings)


def none(url, settings):
    """A factory that forgets its return."""


def failing(url, settings):
    raise AttributeError("of the factory's own")


def mine(url, settings):
    return MemoryDriver(max_bytes=int(settings["room"]) + len(url.netloc))


@pytest.fixture
def others(monkeypatch):
    """Backends of others, as if they were installed."""
    points = [
        EntryPoint(name, value, "statehold.drivers")
        for name, value in {
            "mine": f"{__name__}:mine",
            "lacking": "tests.kernel.lacking_plugin:from_url",
            "moved": "statehold.no_such_module:from_url",
            "misspelt": f"{__name__}:mime",
            "broken": "tests.kernel.broken_plugin:from_url",
            "none": f"{__name__}:none",
            "failing": f"{__name__}:failing",
        }.items()
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda **which: EntryPoints(points).select(**which),
    )


@pytest.mark.usefixtures("others")
def test_others_add_places_as_entry_points():
    assert open_driver("mine://host?room=100").stats()["budget_bytes"] == 104


@pytest.mark.usefixtures("others")
@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("lacking://x", r"lacking: needs no_such_client; pip install what it needs"),
        (
            "moved://x",
            r"moved: its entry point cannot be loaded \(ModuleNotFoundError: .*no_such_mod",
        ),
        (
            "broken://x",
            r"broken: its entry point cannot be loaded \(ValueError: a setting of theirs",
        ),
        ("none://x", r"none: its factory returned NoneType, and no driver"),
        ("misspelt://x", r"misspelt: its entry point cannot be loaded \(.*mime"),
        (
            "nowhere://x",
            r"no backend 'nowhere'; there are memory,.*, lacking, mine, misspelt, moved, none$",
        ),
    ],
)
def test_others_backends_are_named_when_something_is_missing(url, message):
    with pytest.raises(ConfigError, match=message):
        open_driver(url)


@pytest.mark.usefixtures("others")
def test_what_others_raise_by_themselves_is_theirs():
    with pytest.raises(AttributeError, match="of the factory's own"):
        open_driver("failing://x")


LONG = "x" * 256


@pytest.mark.parametrize("scheme", BACKENDS)
@pytest.mark.parametrize("rest", ["//h/run#7.db", "//u:pa#sesame@h/1", "///#", "//h/1?timeout=1#"])
def test_a_fragment_is_a_mistake(scheme, rest):
    """What follows # would be cut off without a word: another file, or half a password."""
    with pytest.raises(ConfigError, match=f"^{re.escape(scheme)}: a # .*%23") as raised:
        open_driver(f"{scheme}:{rest}")
    assert "sesame" not in str(raised.value)


@pytest.mark.parametrize("url", ["sqlite:///run#7.db", "sqlite+sql:///run#7.db"])
def test_a_name_with_a_hash_is_written_escaped(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Store.open(url.replace("#", "%23")) as store:
        store.collection(Everything).get("a")
    assert "run#7.db" in [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///what?.db",
        "sqlite:///what?",
        "sqlite+sql:///what?.db",
        "redis://:pa?sesame@h/1",
        "postgresql://u:pa?sesame@h/1",
    ],
)
def test_a_question_mark_that_begins_no_settings(url):
    with pytest.raises(ConfigError, match="%3F") as raised:
        open_driver(url)
    assert "sesame" not in f"{raised.value}"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///a%00b.db", "sqlite: the URL has a NUL"),
        ("sqlite+sql:///a\0b.db", "the URL has a NUL"),
        ("redis://h%00/1", "the URL has a NUL"),
        ("redis://h?password_file=%00", "redis.password_file: has a NUL"),
        ("postgresql:///d?socket=/%00", "postgresql.socket: has a NUL"),
        (f"sqlite:///{LONG}", "sqlite: the name 'x+'… is 256 bytes long, and 255"),
        (f"sqlite:///{LONG}/a.db", "256 bytes long"),
        (f"sqlite+sql:///{LONG}", "256 bytes long"),
        (f"mariadb://h/{'ä' * 128}", "256 bytes long"),
        ("sqlite:///" + "x/" * 2048, "4097 bytes long"),
        (f"redis://{LONG}:1", "is no host: .* 63"),
        ("redis+cluster://a:1,b..c:2", "'b..c' is no host"),
        ("postgresql://a..b/d", "is no host"),
        (f"mariadb://a.{LONG}.b:1/d", "is no host"),
    ],
)
def test_names_that_nothing_can_have(url, message):
    """They are refused by name, and not by whatever meets them first."""
    with pytest.raises(ConfigError, match=message) as raised:
        open_driver(url)
    assert raised.value.field


def test_hosts_of_every_form_are_hosts():
    for url in (
        "redis://h.example.:1",
        "redis+cluster://a:1,[::1]:2,b",
        "redis+sentinel://u:p@a:1,b:2/name",
        "redis://[::1]",
        "redis://:sesame@127.0.0.1:6379/0?timeout=1",
    ):
        open_driver(url)


def test_a_place_without_its_client_says_what_to_install(monkeypatch):
    """The extra is called as the driver is: several schemes may share one."""
    monkeypatch.setitem(sys.modules, "hiredis", None)
    for name in [name for name in sys.modules if name.startswith("statehold.drivers.redis")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ConfigError, match=r"valkey: needs hiredis; pip install 'statehold\[redis\]'"
    ):
        open_driver("valkey://localhost")


def said_of(call):
    """What a call returns or raises, as text."""
    try:
        return str(call())
    except ConfigError as error:
        return str(error)


@pytest.mark.parametrize(
    "url",
    [
        "redis//shop:sesame@host",
        "redis://[shop:sesame@host",
        ":sesame@x",
        "redis://:sesame\uff031@host/0",
        "postgresql://shop:sesame\uff1a1@host/shop",
        "redis://:[sesame]@host/0",
        "postgresql://shop:9/sesame@host/shop",
        "mariadb://shop:9/sesame@host/shop",
        "redis://shop:9/sesame@host",
    ],
)
def test_a_url_that_is_none_does_not_tell_its_password(url):
    """Neither in the error nor in what a log shows of where it comes from."""
    with pytest.raises(ConfigError) as raised:
        open_driver(url)
    assert "sesame" not in f"{raised.value} {raised.value.found}"
    for error in (raised.value.__cause__, raised.value.__context__):
        assert error is None or raised.value.__suppress_context__ or "sesame" not in str(error)
    kept = Config(url, {}, {}, ServerConfig(), "environment")
    for call in (kept.open, lambda: kept.shown_backend):
        assert "sesame" not in said_of(call)


@pytest.mark.parametrize(
    "url", ["http//me:sesame@host", "ftp://me:sesame@host", "http://me:sesame\uff1a1@host",
            "http://me:sesame/@host:80", "http://me:80:sesame"]
)  # fmt: skip
def test_a_servers_url_does_not_tell_its_password(url):
    with pytest.raises(ConfigError) as raised:
        Remote(url)
    told = traceback.format_exception(raised.value)
    assert "sesame" not in "".join(told).replace("pytest.raises", "")


def test_drivers_say_what_they_can():
    assert issubclass(MemoryDriver, Driver)
    assert not MemoryDriver.suspends
