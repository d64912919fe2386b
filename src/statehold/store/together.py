"""One commit over several states of a store: `apply_together`, and the steps it is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from statehold.clock import AMBIENT
from statehold.commits import Commit, Is, Key, Revision, fingerprint
from statehold.driver import MOST_TOGETHER, CommitsTogether, Feature, Outcome, Undone, Written
from statehold.errors import NOTHING_WRITTEN, Invalid
from statehold.fields.base import Edit
from statehold.schema import Lifetime
from statehold.store.asking import lacking
from statehold.store.base import CollectionBase
from statehold.store.names import Subjects
from statehold.store.opened import Opened
from statehold.store.outcomes import Committed, error_of


class Step(msgspec.Struct, frozen=True):
    """What `apply_together` does to one state, as `step` of its collection makes it."""

    collection: CollectionBase[Any]
    id: str
    edits: tuple[Edit, ...]
    expect: Revision | None = None
    epoch: int = 0
    subject: Subjects | None = None
    ttl: Lifetime | None = None
    where: tuple[Is, ...] = ()
    delete: bool = False

    def commit(self, op: str | None, since: float | None) -> Commit:
        """The commit of it. Raises `Invalid` and `Unsupported`."""
        asking = self.collection._asking
        if self.delete:
            if self.edits:
                raise Invalid("a step deletes its state or edits it, not both", field="delete")
            if op is not None:
                asking.needs(Feature.ERASE_ONCE)
        return asking.commit(
            self.id,
            self.edits,
            op=op,
            since=since,
            expect=self.expect,
            epoch=self.epoch,
            subject=self.subject,
            ttl=self.ttl,
            erase=self.delete,
            where=self.where,
        )


async def apply_together(
    store: Opened, steps: Sequence[Step], op: str | None, since: float | None
) -> list[Committed[Any]]:
    """What became of each step of one commit over all of them; see `AsyncStore.apply_together`."""
    collections = _checked(store, steps)
    for collection in collections:
        await collection._ready()
    commits = [step.commit(op, since) for step in steps]
    if op is not None:
        # What the op id stands for is all of it: none of these states alone, nor others with them.
        whole = fingerprint([(*commit.key, commit.intent) for commit in commits])
        commits = [replace(commit, intent=whole) for commit in commits]
    outcomes = await _send(store, commits, repeatable=op is not None)
    for step, commit, outcome in zip(steps, commits, outcomes, strict=True):
        if not isinstance(outcome, Written | Undone):
            error = error_of(step.collection.schema, commit.key, outcome)
            error.add_note(f"Nothing was written to any of the {len(steps)} states.")
            raise error
    return [Committed(one.revision, one.repeated) for one in cast("list[Written]", outcomes)]


def _checked(store: Opened, steps: Sequence[Step]) -> list[CollectionBase[Any]]:
    """The collections of the steps, which may go together. Raises `Invalid` and `Unsupported`."""
    if not 1 <= len(steps) <= MOST_TOGETHER:
        raise Invalid(
            f"steps: {len(steps)} of them; from 1 to {MOST_TOGETHER} are applied together",
            field="steps",
            expected=MOST_TOGETHER,
            found=len(steps),
        )
    seen: set[Key] = set()
    collections: dict[CollectionBase[Any], None] = {}
    for step in steps:
        if not isinstance(step, Step):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise _no_step(step)
        collection = step.collection
        if collection.store is not store:
            raise Invalid(
                f"{collection.schema.kind} {step.id!r:.80}: of another store; together are states"
                " of one",
                field="steps",
            )
        key = collection._asking.key(step.id)
        if key in seen:
            raise Invalid(
                f"{key[1]} {key[2]!r:.80}: it is there twice; say all its edits in one step",
                key=key,
                field="steps",
            )
        seen.add(key)
        collections[collection] = None
    if Feature.TOGETHER not in store.driver.features:
        cure = "; elsewhere keep what belongs together in one state"
        raise lacking(store.driver, Feature.TOGETHER, cure)
    return list(collections)


def _no_step(found: object) -> Invalid:
    kind = type(found)
    listed = issubclass(kind, list | tuple)
    cure = "unpack it (*steps)" if listed else "a collection's step() makes one"
    return Invalid(f"steps: {kind.__name__} is no step; {cure}", field="steps", found=kind)


async def _send(store: Opened, commits: Sequence[Commit], *, repeatable: bool) -> list[Outcome]:
    """The outcomes; that it failed is remembered for when they are sent again."""
    began = AMBIENT.monotonic()
    driver = cast("CommitsTogether", store.driver)
    doubts = store._doubts
    try:
        outcomes = await driver.commit_together(commits, store.clock.now())
    except NOTHING_WRITTEN:
        raise
    except BaseException as error:  # also when cancelled, and then whatever the driver is
        if repeatable and (store.driver.ambiguous or not isinstance(error, Exception)):
            doubts.note(commits, began)
        raise
    for commit, outcome in zip(commits, outcomes, strict=True):
        if repeatable and isinstance(outcome, Written):
            doubts.settle(commit)
    return outcomes
