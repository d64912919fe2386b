"""States that their clients carry, in tokens that can be trusted.

From what a request brings to a state and back:

    driver       the contract: opens a token, folds, seals; keeps nothing
    jar          the tokens of one client, for as long as one request
    opening      from the text of a token to a record that may be believed
    sealing      from a record to a token that is short enough
    record       what a token says: a state with all that belongs to it;  `past` its op ids
    format       the text of a token, and what is in it
    squeeze      compression, with a dictionary and a bound on the way back
    budget       what happens to a record whose token would be too long
    spill        cells too large for the token, kept in a store
    registry     which token of a session is the newest, and which are revoked, kept in a store
    ring         the keys in use, read again while the service runs;  `keyfile` their file
    keys         one key: what it seals, signs and opens; all of the cryptography
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import SplitResult

from statehold.driver import Driver
from statehold.drivers.token.driver import BUDGET, LEEWAY, MAX_BYTES, OPS, TokenDriver
from statehold.drivers.token.jar import Jar
from statehold.drivers.token.keys import Key
from statehold.drivers.token.ring import REFRESH, KeyRing
from statehold.errors import ConfigError
from statehold.settings import Settings, choice, count, duration, size, within

__all__ = ["SETTINGS", "Jar", "Key", "KeyRing", "TokenDriver", "from_url"]


def _names(value: Any) -> tuple[str, ...]:
    """Names of fields: a list, or text with commas."""
    found = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(name, str) for name in found):
        raise ValueError(f"not a list of fields: {value!r}")
    return tuple(name.strip() for name in found if name.strip())


def _backend(value: Any) -> Driver:
    """A driver, or that of a store, which the store goes on owning."""
    if isinstance(value, Driver):
        return value
    driver = getattr(value, "driver", None)
    if isinstance(driver, Driver):
        return driver
    raise ValueError(f"not a backend: {type(value).__name__}")


SETTINGS: Final = Settings(
    "token",
    {
        "form": (choice("sealed", "signed"), "sealed", "Encrypted, or readable by the client."),
        "budget": (size, BUDGET, "Maximum length of a token, in characters."),
        "trim": (_names, (), "Logs that lose their oldest turns past the budget."),
        "spill": (
            _backend,
            None,
            "The backend to which fields move past the budget: a URL or store.",
        ),
        "spill_fields": (_names, (), "Which fields those are; default: the largest first."),
        "registry": (
            _backend,
            None,
            "The backend that records newest versions and revocations: a URL or store.",
        ),
        "ops": (count, OPS, "Maximum number of op ids (idempotency keys) that a token remembers."),
        "max_bytes": (size, MAX_BYTES, "Maximum size of a token once decompressed."),
        "leeway": (duration, LEEWAY, "Maximum time that a token may be dated in the future."),
        "refresh": (duration, REFRESH, "How often a file or callable is asked for its keys."),
    },
)
"""What can be set beside `keys`, by name or in the query."""


@within("registry", "spill")
def from_url(url: SplitResult, settings: Mapping[str, object]) -> TokenDriver:
    """The driver for `token:?keys=env:NAME`."""
    if url.netloc or url.path not in ("", "/"):
        raise ConfigError("token: takes no host and no path", field="url")
    given = dict(settings)
    keys: Any = given.pop("keys", None)  # apart, so that no error shows it
    if keys is None:
        raise ConfigError("token: needs keys, such as keys='env:STATEHOLD_KEYS'", field="keys")
    parsed = SETTINGS.parse(given)
    refresh = parsed.pop("refresh", REFRESH)
    ring = keys if isinstance(keys, KeyRing) else KeyRing(keys, refresh=refresh)
    owned = [
        backend for name in ("registry", "spill") if isinstance(backend := given.get(name), Driver)
    ]
    return TokenDriver(ring, owned=owned, **parsed)
