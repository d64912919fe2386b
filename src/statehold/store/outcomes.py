"""What callers are told of a commit that was not written."""

from __future__ import annotations

from typing import Generic

import msgspec

from statehold.commits import ABSENT, Key, Revision
from statehold.driver import Conflicted, Doubtful, FencedOff, Late, Outcome, Refused
from statehold.driver import Reused as OpReused
from statehold.errors import (
    Conflict,
    Fenced,
    InDoubt,
    Repeated,
    Reused,
    StateholdError,
    Timeout,
)
from statehold.fields.lists import ListField
from statehold.schema import Schema, refused
from statehold.state import S


class Committed(msgspec.Struct, Generic[S], frozen=True):
    """What became of a commit."""

    revision: Revision
    """Its own; of the first one where the op id is repeated."""
    repeated: bool
    """Whether the op id had been applied already."""
    state: S | None = None
    """The fields that were asked for, as they stand now."""


def error_of(schema: Schema, key: Key, outcome: Outcome) -> StateholdError:
    """The error for an outcome that is not `Written`."""
    what = f"{key[1]} {key[2]!r:.80}"
    if isinstance(outcome, Conflicted):
        return _conflict(schema, key, outcome)
    if isinstance(outcome, FencedOff):
        epoch = outcome.epoch
        text = f"{what}: epoch {epoch} has been claimed or written; a write that is lower, or says none"
        return Fenced(f"{text} (`epoch=lease.epoch`), is refused", key=key, found=epoch)
    if isinstance(outcome, OpReused):
        at = outcome.revision
        text = f"{what}: the op id stands for something else, which made {at}"
        return Reused(text, key=key, field="op", found=at)
    if isinstance(outcome, Doubtful):
        return InDoubt(
            f"{what}: it may have been sent before, and the state has forgotten too much to say"
            " whether it was applied; nothing was written now",
            key=key,
            field="op",
        )
    if isinstance(outcome, Late):
        return Timeout(f"{what}: it reached the store too late, and was not written", key=key)
    if isinstance(outcome, Refused):
        return refused(schema, key, outcome)
    raise AssertionError(outcome)  # a defect of ours


def _conflict(schema: Schema, key: Key, outcome: Conflicted) -> Conflict:
    at = outcome.revision
    stands = "not found" if at == ABSENT else f"it is at {at}"
    if not outcome.field:
        return Conflict(f"{key[1]} {key[2]!r:.80}: {stands}", key=key, found=at)
    field = schema.bases.get(outcome.field)
    name = outcome.field if field is None else field.name
    # Of its newest position a condition sees what is left there, and nothing of what was before it.
    hint = " (a redacted item is still the newest)" if isinstance(field, ListField) else ""
    text = f"{key[1]} {key[2]!r:.80}: {name} is not as the condition says{hint}; {stands}"
    return Conflict(text, key=key, field=name, found=at)


def repeated_error(revision: Revision | None, key: Key) -> Repeated:
    """What `transact` raises where its op id was applied before."""
    return Repeated(
        f"{key[1]} {key[2]!r:.80}: it was done before, as {revision}; what was returned then is not"
        " known",
        key=key,
        field="op",
        found=revision,
    )
