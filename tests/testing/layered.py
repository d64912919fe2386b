"""A driver made of two others, each of which has some of the states: `Halves`."""

import zlib

from msgspec.structs import replace

from statehold.cursors import Listing
from statehold.driver import Driver, Failed, Feature, Page, told
from statehold.errors import StateholdError


class Halves(Driver):
    """States by their ids in one of two drivers; a state is whole in its own.

    It promises what both promise. Where only one of them fails at a call, the outcomes of the other
    one's commits stand, and those of its own are `Failed`.
    """

    def __init__(self, one: Driver, other: Driver) -> None:
        self.both = (one, other)
        # A subject's states, newest first, would have to be told by when they were updated; and
        # no commit is of both.
        self.features = one.features & other.features - {
            Feature.SUBJECT,
            Feature.TOGETHER,
            Feature.WHOLE_LIVES,
        }
        self.suspends = one.suspends or other.suspends
        self.ambiguous = one.ambiguous or other.ambiguous

    async def open(self, layout):
        for each in self.both:
            await each.open(layout)

    async def close(self):
        for each in self.both:
            await each.close()

    def places(self, keys):
        """For each driver, which of the keys are its own."""
        halves = [zlib.crc32(key[2].encode()) % 2 for key in keys]
        for half, each in enumerate(self.both):
            mine = [place for place, which in enumerate(halves) if which == half]
            if mine or not keys:  # who reads nothing asks whether all is well
                yield each, mine

    async def read(self, keys, want, now):
        found = [None] * len(keys)
        for each, mine in self.places(keys):
            answers = await each.read([keys[place] for place in mine], want, now)
            for place, cells in zip(mine, answers, strict=True):
                found[place] = cells
        return found

    async def commit(self, commits, now):
        outcomes = [None] * len(commits)
        for each, mine in self.places([commit.key for commit in commits]):
            try:
                answers = await each.commit([commits[place] for place in mine], now)
            except StateholdError as error:
                answers = [Failed(error)] * len(mine)
            for place, outcome in zip(mine, answers, strict=True):
                outcomes[place] = outcome
        failed = [outcome for outcome in outcomes if isinstance(outcome, Failed)]
        return told(outcomes) if len(failed) == len(outcomes) else outcomes

    async def scan(self, asked, now):
        listing = Listing(asked)
        half, place = 0, None
        if asked.cursor is not None:
            half, _, rest = listing.place(asked.cursor).decode().partition(" ")
            half, place = int(half), rest or None
        page = await self.both[half].scan(replace(asked, cursor=place), now)
        if page.cursor is None and half == 1:
            return page
        going_on = f"{half} {page.cursor}" if page.cursor else "1 "
        return Page(page.keys, listing.cursor(going_on.encode()))
