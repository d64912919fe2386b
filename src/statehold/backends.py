"""From a URL to a driver. Only the module of the backend that is named gets imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from statehold.driver import Driver
from statehold.errors import ConfigError
from statehold.plugins import plugin
from statehold.settings import backends_within

if TYPE_CHECKING:
    from urllib.parse import SplitResult

BACKENDS: dict[str, str] = {
    "memory": "statehold.drivers.memory:from_url",
    "sqlite": "statehold.drivers.sqlite:from_url",
    "postgresql": "statehold.drivers.sql:from_url",
    "mysql": "statehold.drivers.sql:from_url",
    "mariadb": "statehold.drivers.sql:from_url",
    "sqlite+sql": "statehold.drivers.sql:from_url",
    "token": "statehold.drivers.token:from_url",
    **{
        scheme + servers: "statehold.drivers.redis:from_url"
        for scheme in ("redis", "rediss", "valkey", "valkeys")
        for servers in ("", "+sentinel", "+cluster")
    },
}
"""Scheme → `module:function(SplitResult, settings) -> Driver`. Others add theirs as entry points of
the group `statehold.drivers`. Such a function may declare which of its settings are backends
themselves, see `settings.within`."""


LABEL_CHARS: Final = 63
"""Of a host's name between two dots."""

NAME_BYTES: Final = 255
"""Of a file's name; a database's is shorter still."""

PATH_BYTES: Final = 4095
"""Of a file's path."""


def open_driver(url: str, **settings: object) -> Driver:
    """The driver for a URL such as `sqlite:///state.db?synchronous=FULL`.

    Settings may stand in the URL's query or be given by name, not both. One that every backend has is
    `middleware`: what is to lie over the driver, by name. Raises `ConfigError`.
    """
    return _opened(url, settings, _as_it_is)


def open_for_tasks(url: str, **settings: object) -> Driver:
    """The driver for a URL, for the tasks of an event loop: over it lies what gathers their commits.

    So it is with the drivers inside it. Middleware lies over what gathers.
    """
    return _opened(url, settings, gathering)


def open_for_threads(url: str, **settings: object) -> Driver:
    """The driver for a URL, for threads without an event loop: over it lies what gathers their commits.

    So it is with the drivers inside it. Middleware lies over what gathers.
    """
    return _opened(url, settings, following)


def _opened(url: str, settings: dict[str, object], gather: Callable[[Driver], Driver]) -> Driver:
    parts, given = _asked(url, settings)
    try:
        factory = plugin("statehold.drivers", BACKENDS, parts.scheme, "backend", "url")
    except ConfigError:
        if "://" not in url:
            raise _no_backend(url) from None
        raise
    inside = backends_within(factory.load())
    if "://" not in url and not inside:
        raise _no_backend(url)  # what has no backends inside has an address
    over = _middleware(given.pop("middleware", None))
    for name in inside:
        within = given.get(name)
        if isinstance(within, str):
            given[name] = _opened(within, {}, gather)
    driver: object = factory(parts, given)
    if not isinstance(driver, Driver):
        raise ConfigError(
            f"{parts.scheme}: its factory returned {type(driver).__name__}, and no driver",
            field="url",
            found=type(driver).__name__,
        )
    return over(gather(driver))


def _asked(url: str, settings: dict[str, object]) -> tuple[SplitResult, dict[str, object]]:
    """The parts of the URL, and the settings in its query with the others."""
    from urllib.parse import parse_qsl, unquote  # slow to import, and only needed here

    if "#" in url:
        raise ConfigError(
            f"{url.partition(':')[0][:40]}: a # would end the URL; write %23 for one in a name or"
            " a password",
            field="url",
        )
    parts = split(url)
    if not parts.scheme:
        raise _no_backend(url)
    if parts.netloc and "@" not in parts.netloc and "@" in parts.path:
        # It is not shown, since what is before it may be half of a password.
        raise ConfigError(
            f"{parts.scheme}: a / begins the path, and an @ comes after it; write %2F for a / in a name"
            " or a password, and %40 for an @",
            field="url",
        )
    _check_names(parts.scheme, unquote(parts.netloc.rpartition("@")[2]), unquote(parts.path))
    found = parse_qsl(parts.query, keep_blank_values=True)
    query: dict[str, object] = dict(found)
    in_two = parts.netloc and "@" not in parts.netloc and "@" in parts.query
    if ("?" in url and not query) or in_two or not all(name.isidentifier() for name in query):
        # It is not shown, since it may be half of a password.
        raise ConfigError(
            f"{parts.scheme}: a ? begins the settings (name=value&…), and what follows it is none;"
            " write %3F for one in a name or a password, and in a setting %40 for an @",
            field="url",
        )
    twice = [name for name in query if name in settings or sum(n == name for n, _ in found) > 1]
    if twice:
        raise ConfigError(f"{parts.scheme}: {twice[0]} is given twice", field=twice[0])
    given = query | settings
    for name, value in given.items():
        if isinstance(value, str) and "\0" in value:
            raise ConfigError(f"{parts.scheme}.{name}: has a NUL character in it", field=name)
    return parts, given


def split(url: str) -> SplitResult:
    """The parts of a backend's URL. Raises `ConfigError`, which shows nothing of a password."""
    from urllib.parse import urlsplit

    try:
        return urlsplit(url)
    except ValueError:  # which shows it
        raise ConfigError(
            "not a backend: its URL has a character in the place of the host or the password that can"
            " not be there, or a [ without its ]; write such as % and two digits",
            field="url",
        ) from None


def _middleware(asked: object) -> Callable[[Driver], Driver]:
    if asked is None:
        return lambda driver: driver
    from statehold.middleware.choosing import chosen

    return chosen(asked)


def _no_backend(url: str) -> ConfigError:
    shown = _shown(url)
    return ConfigError(
        f"not a backend: {shown!r}; say e.g. sqlite:///state.db", field="url", found=shown
    )


def gathering(driver: Driver, *, owns: bool = True) -> Driver:
    """The driver, and over it what gathers concurrent commits where that is worth it.

    Unless it `owns` the driver, what gathers leaves it open at the end.
    """
    if driver.gather == "no":
        return driver
    from statehold.middleware.coalesce import Coalesce

    return Coalesce(driver, in_thread=driver.gather == "thread", owns=owns)


def following(driver: Driver) -> Driver:
    """The driver, and over it what gathers the commits of threads where that saves a flush to disk each."""
    if driver.gather != "thread":
        return driver
    from statehold.middleware.following import Following

    return Following(driver)


def _as_it_is(driver: Driver) -> Driver:
    return driver


def _shown(url: str) -> str:
    """The URL without what may be a password."""
    before, at, after = url.rpartition("@")
    return f"{before.partition(':')[0]}:…{at}{after}" if at else url


def _check_names(scheme: str, hosts: str, path: str) -> None:
    """Raise `ConfigError` for a host or a path that nothing can have, whatever the backend."""
    if "\0" in hosts + path:
        raise ConfigError(f"{scheme}: the URL has a NUL character in it", field="url")
    for host in hosts.split(","):
        name = host if ":" not in host else host.rpartition(":")[0]
        if name.startswith(("[", "/")) or not name:
            continue
        if not all(0 < len(label) <= LABEL_CHARS for label in name.rstrip(".").split(".")):
            raise ConfigError(
                f"{scheme}: {name[:80]!r} is no host: a part of its name is empty or longer than"
                f" {LABEL_CHARS} characters",
                field="url",
                expected=LABEL_CHARS,
                found=name[:80],
            )
    for name, most in (*((name, NAME_BYTES) for name in path.split("/")), (path, PATH_BYTES)):
        length = len(name.encode("utf-8", "surrogateescape"))
        if length > most:
            raise ConfigError(
                f"{scheme}: the name {name[:40]!r}… is {length} bytes long, and {most} is the"
                " most that a file's or a database's may be",
                field="url",
                expected=most,
                found=length,
            )
