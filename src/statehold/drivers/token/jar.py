"""A jar: the tokens of one client, for as long as one request."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextvars import ContextVar, Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, cast

from statehold.commits import Key, is_kind
from statehold.drivers.token.record import Record
from statehold.drivers.token.registry import Seen
from statehold.errors import Invalid

if TYPE_CHECKING:
    import asyncio

    from statehold.state import State

Name: TypeAlias = "str | Key"
"""What a token is for: a kind, a state of it, or "" if it came without saying."""

Given: TypeAlias = (
    "str | Mapping[type[State] | str | Key, str | None] | Mapping[Name, str | None] | None"
)

_current: Final[ContextVar[Jar | None]] = ContextVar("statehold_jar", default=None)


class Held:
    """A state in the jar: its record, None while there is none, and what vouches for it."""

    __slots__ = ("doubt", "record", "seen", "token")

    def __init__(self, record: Record | None, token: str | None, seen: Seen | None) -> None:
        self.record = record
        self.token = token
        self.seen = seen
        self.doubt: tuple[Record, str] | None = None
        """What stands instead if the registry, which did not answer, was written after all."""


class Jar:
    """What one client brought along, and what it is to take away.

    While `with Jar(token) as jar:` is open, the collections of a token store find their states in
    it, in this task and those that it starts, and put them back; `jar.token` is then what the
    client is to be given: the token that came, unless another took its place, or its state was
    deleted or had expired. A client that keeps several states gives `{Chat: token, Cart: token}`, and
    one that keeps several of one class gives them by key, `{("", "chat", "a"): token}`, as `tokens` does.
    What came for a kind or a key that nobody asks for is left as it came. A jar is for one request; it is
    not shared between clients. Raises `Invalid` for what is no token, and for a name that is neither a
    class, a kind nor a key.
    """

    def __init__(self, given: Given = None) -> None:
        self._arrived: dict[Name, str] = {}
        named = given if isinstance(given, Mapping) else {"": given}
        for name, token in cast("Mapping[Any, object]", named).items():
            if not isinstance(token, str | None):
                raise Invalid(f"a token is text, not {type(token).__name__}", field="token")
            if token:
                self._arrived[_name(name)] = token
        self._used: set[Name] = set()
        """The names whose tokens stand no more for what there is: `_held` says it."""
        self._held: dict[Key, Held] = {}
        self.changed = False
        """Whether there is anything new to take away."""
        self.expired: set[Key] = set()
        """States whose token was genuine, but past its time: they count as absent."""
        self.lock = threading.Lock()
        """What threads wait for where the driver's calls do not suspend."""
        self._turns: asyncio.Lock | None = None
        self._before: list[Token[Jar | None]] = []

    # ------------------------------------------------------------------------------------ for users

    @property
    def tokens(self) -> dict[Name, str]:
        """(tenant, kind, id) → token, of each state that there is.

        One that was not looked at is under the name that it came by: its kind, or "".
        """
        tokens = {name: t for name, t in self._arrived.items() if name not in self._used}
        held = self._held.items()
        return tokens | {key: each.token for key, each in held if each.token is not None}

    @property
    def token(self) -> str | None:
        """The token to give to the client; None if there is no state. `Invalid` if several."""
        tokens = self.tokens
        if len(tokens) > 1:
            raise Invalid(f"the jar has {len(tokens)} tokens; see jar.tokens", found=len(tokens))
        return next(iter(tokens.values()), None)

    @property
    def expires(self) -> float | None:
        """When the first of the states looked at will be gone, epoch seconds; None for never."""
        ends = [held.record.deadline for held in self._held.values() if held.record is not None]
        return min((end for end in ends if end is not None), default=None)

    def __enter__(self) -> Self:
        self._before.append(_current.set(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _current.reset(self._before.pop())

    def __repr__(self) -> str:
        return f"<Jar of {len(self._held)}>"  # never a token

    # ------------------------------------------------------------------------------- for the driver

    def find(self, key: Key) -> Held | None:
        """What is known of a state already."""
        return self._held.get(key)

    def arrived(self, key: Key) -> str | None:
        """The token that came for this state, if any."""
        name = self._name(key)
        return None if name is None else self._arrived[name]

    def _name(self, key: Key) -> Name | None:
        for name in (key, key[1]):
            if name in self._arrived:
                return name
        alone = not any(key != other for other in self._held)
        return "" if alone and "" in self._arrived else None

    def put(self, key: Key, held: Held) -> None:
        """From now on this is what is known of the state."""
        name = self._name(key)
        if name is not None:
            self._used.add(name)
        self._held[key] = held

    def forget(self, key: Key) -> None:
        """Look at the state's token again when it is next asked for."""
        held = self._held.pop(key, None)
        if held is not None and held.token is not None:
            self._arrived[key] = held.token
            self._used.discard(key)

    @property
    def turns(self) -> asyncio.Lock:
        """What the driver's calls on this jar wait for where they suspend."""
        if self._turns is None:
            import asyncio

            self._turns = asyncio.Lock()
        return self._turns


def current() -> Jar | None:
    """The jar that is open here."""
    return _current.get()


def _name(given: object) -> Name:
    """What a token is given for. Raises `Invalid` for what no state can be asked for by."""
    name = getattr(getattr(given, "__schema__", None), "kind", given)
    if isinstance(name, str) and (not name or is_kind(name)):
        return name
    if isinstance(name, tuple):
        key = cast("tuple[object, ...]", name)
        if len(key) == 3 and all(isinstance(part, str) for part in key):
            return cast("Key", key)
    raise Invalid(
        f"{given!r:.80}: a token is given for a State class, a kind (such as 'chat') or a key (tenant, kind, id)",
        field="token",
    )
