"""States in one SQLite file: the embedded default.

A commit goes down this list within one transaction:

    driver       the contract: opens, reads, commits, lists; calls in batches, sweeps
    files        opening the file (what it is: `opening`), and who may use a connection
    fold         the commits of one call, folded inside one transaction
    life         one state within a transaction: what is known of it, and what was folded into it
    writing      what was folded, written to rows;  `erasing` deletes all rows of a state
    sweeping     deleting what has ended, and giving space back
    fences       what a key has seen of epochs, beside its state
    ends         when lives ended that had op ids, by key

What they use: `schema` (the tables, and how a list lies in its rows), `names` (the small numbers that stand
for field names), `reading` (rows as cells), `listing` (pages of ids), `errors` (SQLite's errors in the words
of statehold).
"""

from statehold.drivers.sqlite.driver import SETTINGS, SqliteDriver, from_url

__all__ = ["SETTINGS", "SqliteDriver", "from_url"]
