"""What callers say, checked and put into what drivers are asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from statehold.changes import BEYOND, Append
from statehold.commits import Commit, Key, Revision, Want, fingerprint
from statehold.driver import Driver, Feature, Scan
from statehold.engine import new_op
from statehold.errors import Invalid, Unsupported
from statehold.fields.base import Edit
from statehold.schema import OP_BYTES, Lifetime, Schema, Where
from statehold.state import Home
from statehold.store.doubts import MARGIN, Doubts
from statehold.store.names import (
    After,
    Keys,
    Names,
    Subjects,
    Tail,
    checked,
    checked_about,
    checked_after,
    checked_count,
    checked_epoch,
    checked_keys,
    checked_listed,
    checked_names,
    checked_revision,
    checked_tails,
    checked_time,
)
from statehold.unread import Unread

ALL_READ: Final[frozenset[str]] = frozenset()
"""No field is left unread."""


AT_ANY_TIME: Final = 1.0
"""As `since`: nobody knows when. Epoch seconds."""


class Asking:
    """Makes the wants and commits of one class in one tenant. Raises `Invalid` and `Unsupported`."""

    def __init__(
        self, schema: Schema, home: Home, driver: Driver, tenant: str, doubts: Doubts
    ) -> None:
        self._schema = schema
        self._home = home
        self._driver = driver
        self._tenant = tenant
        self._doubts = doubts

    def key(self, id: str) -> Key:
        """The key of an id."""
        return (self._tenant, self._schema.kind, checked(id, "id"))

    def want(
        self,
        fields: Names | None,
        tail: Tail | None,
        entries: Keys | None = None,
        *,
        after: After | None = None,
        limit: int | None = None,
        renew: bool = True,
    ) -> tuple[Want, frozenset[str]]:
        """What is to be read, and what is not."""
        schema = self._schema
        tails = checked_tails(tail)
        if isinstance(tails, dict):
            for name in tails.keys() & schema.fields.keys():
                if Append not in schema.fields[name].makes:
                    raise Invalid(f"{name}: tail is for lists", field=name)
            tails = {
                name: size for field, size in tails.items() for name in schema.stored_names([field])
            }
        renewal = schema.renew if renew else None
        if limit is not None:
            checked_count(limit, "limit")
            after = 0 if after is None else after
        afters = None if after is None else self._after(after, tails)
        ranged = Want(None, tails, renewal, after=afters, limit=limit)
        if fields is None and entries is None:
            return ranged, ALL_READ
        # Some stores find single fields by their names, and read everything to find the others.
        names = list(schema.fields) if fields is None else checked_names(fields)
        stored = schema.stored_names(names)
        unread = frozenset(f.stored for n, f in schema.fields.items() if n not in names)
        if entries is None:
            return replace(ranged, fields=stored), unread
        keys = checked_keys(entries)
        for name in keys:
            if name in schema.fields and name not in names:
                raise Invalid(f"{name}: its entries are asked for, and it is not", field=name)
        chosen = schema.stored_entries(keys)
        return replace(ranged, fields=stored, entries=chosen), Unread.of(unread, chosen)

    def _after(self, after: After, tails: int | dict[str, int] | None) -> dict[str, int]:
        """After which position, by cell. Older versions' items have none, and are left out."""
        schema = self._schema
        lists = [name for name, field in schema.fields.items() if Append in field.makes]
        afters: dict[str, int] = {}
        for name, place in checked_after(after, lists).items():
            newest, *older = schema.stored_names([name])
            if name not in lists:
                raise Invalid(f"{name}: after is for lists", field=name)
            if isinstance(tails, int) or (tails and newest in tails):
                raise Invalid(f"{name}: either tail or after, not both", field=name)
            afters[newest] = place
            afters |= dict.fromkeys(older, BEYOND)
        return afters

    def commit(
        self,
        id: str,
        edits: Iterable[Edit],
        *,
        op: str | None = None,
        since: float | None = None,
        expect: Revision | None = None,
        epoch: int = 0,
        subject: Subjects | None = None,
        ttl: Lifetime | None = None,
        returning: Want | None = None,
        erase: bool = False,
        computed: bool = False,
        where: Where = None,
    ) -> Commit:
        """The commit. `computed`: the edits follow from what was read, and say nothing of `op`."""
        schema = self._schema
        checked_listed(edits, "edits", "edits")
        key, asked = self.key(id), tuple(edits)
        intent = 0
        if op is not None:
            op = checked(op, "op", limit=OP_BYTES)
            since = self._since(key, op, since)
            if not computed:
                intent = fingerprint(["erase"]) if erase else schema.intent(asked)
        elif since is not None:
            raise Invalid("since goes with op", field="since", found=since)
        else:
            op = new_op() if self._driver.ambiguous else ""
        commit = Commit(
            key,
            schema.changes(asked, self._home),
            schema.ttl if ttl is None else schema.lifetime(ttl),
            op=op,
            expect=expect,
            epoch=epoch,
            max_age=schema.max_age,
            ops=schema.ops,
            returning=returning,
            erase=erase,
            intent=intent,
            since=since,
            where=schema.conditions(where),
        )
        return self.conditioned(commit, subject)

    def claim(self, id: str, seconds: float, epoch: int, op: str) -> Commit:
        """The claim of an epoch, or of the next one (0), for so many seconds."""
        self.needs(Feature.CLAIM)
        schema = self._schema
        return Commit(
            self.key(id),
            (),
            schema.ttl,
            op=op,
            epoch=epoch,
            max_age=schema.max_age,
            ops=schema.ops,
            claim=seconds,
        )

    def _since(self, key: Key, op: str, given: float | None) -> float | None:
        """When this op id was first sent, if it was, by the clock that decides expiry."""
        found = self._doubts.since(key, op, self._home.now())
        if given is not None:
            given = checked_time(given, "since") + self._driver.skew
            # In the future of the store's clock it says nothing: the one who noted it had another.
            given = given - MARGIN if given <= self._home.now() + MARGIN else AT_ANY_TIME
        if found is None or given is None:
            return given if found is None else found
        return min(found, given)

    def scan(self, subject: str | None, prefix: str, *, newest: bool) -> Scan:
        """What is to be listed, from its first page on."""
        self.needs(Feature.SCAN if subject is None else Feature.SUBJECT)
        if subject is not None:
            subject = checked(subject, "subject")
        elif newest:
            raise Invalid("newest goes with subject", field="newest", found=newest)
        prefix = checked(prefix, "prefix", empty=True)
        return Scan(self._tenant, self._schema.kind, subject, prefix, newest)

    def conditioned(self, commit: Commit, subject: Subjects | None) -> Commit:
        """The commit with whom it is about. Raises unless the driver can hold it to its conditions."""
        if commit.expect is not None:
            self.needs(Feature.EXPECT)
            checked_revision(commit.expect)
        if commit.epoch != 0:
            self.needs(Feature.EPOCH)
            checked_epoch(commit.epoch)
        if commit.where:
            self.needs(Feature.WHERE)
        if subject is None:
            return commit
        self.needs(Feature.SUBJECT)
        return replace(commit, subject=checked_about(subject))

    def needs(self, feature: Feature) -> None:
        """Raise `Unsupported` unless the driver declares it."""
        if feature not in self._driver.features:
            raise lacking(self._driver, feature)


_NEEDED_BY: Final[dict[Feature, str]] = {
    Feature.EXPECT: "expect=, session(exclusive=True) and transact()",
    Feature.EPOCH: "epoch=",
    Feature.SCAN: "scan() and pages of all states",
    Feature.SUBJECT: "subject= and find()",
    Feature.RETURNING: "returning=",
    Feature.ERASE_ONCE: "delete(op=)",
    Feature.CLAIM: "lease()",
    Feature.TOGETHER: "apply_together()",
    Feature.WHERE: "where=",
}


def lacking(driver: Driver, feature: Feature, cure: str = "") -> Unsupported:
    """The error of a call that needs what the driver does not declare, in words of who calls."""
    inner: Driver | None = driver
    while inner is not None and feature not in inner.features:
        driver, inner = inner, getattr(inner, "inner", None)
    name = type(driver).__name__.removesuffix("Driver").lower()
    where = "memory, SQLite, SQL and Redis (outside a cluster)"
    if feature is not Feature.TOGETHER:
        where = "memory, SQLite, SQL and Redis"
    return Unsupported(
        f"{_NEEDED_BY[feature]}: the backend {name!r} does not support it ({feature}); {where} do{cure}",
        expected=feature,
    )
