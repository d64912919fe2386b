"""What a key has seen of epochs, in the main table: also where there is no state.

Theory of operation. A row that has expired stays for `HOLD_SECONDS` anyway, and with it the highest
epoch that its state had seen. Where a state is erased, or an epoch is claimed that has none, its row
is left behind, or made, as a *husk*: without an incarnation, expired for ever, and with `updated_at` so
that it goes as any expired row does, once it need not be remembered any more. So whoever begins a state
meets the row, and must lock it. Nobody else notices it, since all look at `expires_at`.

`epoch_claim` is `[epoch, held, op, until]` of the newest claim, which counts as long as the row has that
epoch. Where there was a longer one before, `until` is how long that has to be remembered.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from statehold.commits import HOLD_SECONDS, Key
from statehold.folding import NO_FENCE, Fence

BEFORE_ALL: Final = 0.0
"""When a husk expired."""


class _Claim(msgspec.Struct, frozen=True, array_like=True):
    epoch: int
    held: float
    op: str
    until: float = 0.0


_decoder = msgspec.json.Decoder(_Claim)


def from_claim(text: Any) -> _Claim | None:
    """What the column says; None for nobody, or if it cannot be read."""
    if text is None:
        return None
    try:
        if isinstance(text, str | bytes):
            return _decoder.decode(text)
        return msgspec.convert(text, _Claim)  # through an engine that decodes JSON itself
    except msgspec.MsgspecError:
        return None


def to_claim(fence: Fence) -> str | None:
    """The column for a fence."""
    if fence.held == -math.inf:
        return None
    return msgspec.json.encode(_Claim(fence.epoch, fence.held, fence.op, fence.until)).decode()


def fence_of(epoch: int, until: float, claim: Any) -> Fence:
    """The fence that a row is, which is to be remembered until then at least, if there is no state."""
    if not epoch:
        return NO_FENCE
    found = from_claim(claim)
    if found is None or found.epoch != epoch:
        return Fence(epoch, until=until)
    until = max(until, found.held + HOLD_SECONDS, found.until)
    return Fence(epoch, found.held, until, found.op)


def husk(key: Key, fence: Fence, now: float) -> dict[str, object]:
    """The row that is left of a key."""
    return {
        "tenant": key[0],
        "id": key[2],
        "incarnation": 0,
        "number": 0,
        "created_at": now,
        "updated_at": fence.until - HOLD_SECONDS,
        "expires_at": BEFORE_ALL,
        "epoch": fence.epoch,
        "ops": 0,
        "epoch_claim": to_claim(fence),
    }
