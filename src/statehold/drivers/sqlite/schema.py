"""The layout of the file, its version, and what makes it.

* `state`: one row for each live (or not yet swept) state. One without a name (`tenant` is NULL) is what
  is left of a large one: see `erasing`. `subject` is TEXT, or of one that is about
  several a BLOB with all of them as a JSON array; then `about` has a row for each. `shape` is a JSON object from field
  number to what the field holds: a count for entries, `[list, next, count, ring, end]` for items,
  `end` being the position of the newest; `list` is 0 where there are none.
* `cell`: one row for each entry; `slot` is `state << 16 | field number`.
* `item`: one row for each item of a list; `id` is `list << 24 | place`. A list is a ring of `ring`
  places: once full, an append overwrites the oldest row, so its cost does not depend on how many
  items are stored, and the rows of a list lie together without an index to say so.
* `op`: the newest op ids of a state, `seq` counting them from 1, each with its commit's number,
  intent and time. In a life that was installed `seq` counts from 2^40, op ids may be told by their
  digests, and "" has the time until when they were forgotten elsewhere.
* `erased`: the op ids of erasures, what was erased, and until when that is remembered.
* `gone`: by a digest of the key lives that have ended and had op ids, see `ends`.
* `ended`: one row, the time of the newest commit of any such life that is not in `gone` any more.
* `fence`: by key the highest epoch that was seen, where a claim holds it or the state has ended: see
  `folding.Fence`.
* `field`: the names behind the field numbers.

Values are kept without affinity, so that SQLite never converts one: INTEGER, REAL or BLOB as given.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Final

from statehold.errors import NotAStore

APPLICATION_ID: Final = 0x53544844
"""What the file's header says of whose it is: "STHD"."""

VERSION: Final = 5
"""The newest version of the layout that this module knows, kept in `user_version`."""

# Small pages: the log is written in whole pages, so that a commit of 200 bytes costs a quarter of
# what it would with 4096, and items of 1 to 4 KB, which would leave half of a larger page empty,
# fill theirs.
PAGE_SIZE_BYTES: Final = 1024

FIELD_BITS: Final = 16
FIELD_MASK: Final = (1 << FIELD_BITS) - 1
PLACE_BITS: Final = 24
PLACE_MASK: Final = (1 << PLACE_BITS) - 1

TABLES: Final = """
CREATE TABLE state (
  id INTEGER PRIMARY KEY,
  tenant, kind, key,
  incarnation, number, epoch,
  created, updated, deadline,
  subject, ops, shape
);
CREATE UNIQUE INDEX state_key ON state (tenant, kind, key);
CREATE TABLE cell (slot, entry, value, PRIMARY KEY (slot, entry)) WITHOUT ROWID;
CREATE TABLE item (id INTEGER PRIMARY KEY, value);
CREATE TABLE op (state, op, number, seq, intent, at, PRIMARY KEY (state, op)) WITHOUT ROWID;
CREATE TABLE erased (
  id INTEGER PRIMARY KEY, tenant, kind, key, op, intent, incarnation, number, until
);
CREATE UNIQUE INDEX erased_op ON erased (tenant, kind, key, op);
CREATE TABLE ended (at);
INSERT INTO ended VALUES (0.0);
CREATE TABLE field (number INTEGER PRIMARY KEY, name UNIQUE);
"""

FENCES: Final = """
CREATE TABLE fence (
  tenant, kind, key, epoch, held, until, op, PRIMARY KEY (tenant, kind, key)
) WITHOUT ROWID;
CREATE INDEX fence_until ON fence (until);
"""

ABOUT: Final = """
CREATE INDEX state_subject ON state (subject, kind, tenant, key) WHERE subject IS NOT NULL;
CREATE TABLE about (
  state, subject, kind, tenant, key, PRIMARY KEY (state, subject)
) WITHOUT ROWID;
CREATE INDEX about_subject ON about (subject, kind, tenant, key);
"""

GONE: Final = """
CREATE TABLE gone (id INTEGER PRIMARY KEY, name, last, until);
CREATE UNIQUE INDEX gone_name ON gone (name);
"""

_STATES_VIEW: Final = """
CREATE VIEW states AS
  SELECT tenant, kind, key AS id, printf('%x.%d', incarnation, number) AS revision,
         datetime(created, 'unixepoch') AS created, datetime(updated, 'unixepoch') AS updated,
         datetime(deadline, 'unixepoch') AS expires, CAST(subject AS TEXT) AS subject
  FROM state WHERE tenant IS NOT NULL;
"""

_ENTRIES_VIEW: Final = """
CREATE VIEW entries AS
  SELECT s.tenant, s.kind, s.key AS id, f.name AS field, c.entry,
         CASE WHEN typeof(c.value) <> 'blob' THEN c.value
              WHEN json_valid(CAST(c.value AS TEXT)) THEN CAST(c.value AS TEXT)
              ELSE 'x' || hex(c.value) END AS value
  FROM state s JOIN cell c ON c.slot BETWEEN s.id << 16 AND (s.id << 16) | 65535
  JOIN field f ON f.number = c.slot & 65535 WHERE s.tenant IS NOT NULL;
"""

_ITEMS_VIEW: Final = """
CREATE VIEW items AS
  SELECT l.tenant, l.kind, l.id, f.name AS field,
         l.end - (l.next - 1 - (i.id & 16777215) + 2 * l.ring) % l.ring AS position,
         CASE WHEN json_valid(CAST(i.value AS TEXT)) THEN CAST(i.value AS TEXT)
              ELSE 'x' || hex(i.value) END AS value
  FROM (SELECT s.tenant, s.kind, s.key AS id, CAST(j.key AS INTEGER) AS field,
               json_extract(j.value, '$[0]') AS list, json_extract(j.value, '$[1]') AS next,
               json_extract(j.value, '$[3]') AS ring, json_extract(j.value, '$[4]') AS end
        FROM state s, json_each(s.shape) j WHERE j.type = 'array' AND s.tenant IS NOT NULL) l
  JOIN field f ON f.number = l.field
  JOIN item i ON i.id BETWEEN l.list << 24 AND l.list << 24 | 16777215;
"""


def _make(conn: sqlite3.Connection, statements: str) -> None:
    for statement in statements.split(";\n"):
        conn.execute(statement)


def _number_lists(conn: sqlite3.Connection) -> None:
    """From 2 to 3: the items that there are have the first positions."""
    conn.execute(
        "UPDATE state SET shape = (SELECT json_group_object(key, json(CASE type WHEN 'array'"
        " THEN json_insert(value, '$[#]', json_extract(value, '$[2]')) ELSE value END))"
        " FROM json_each(state.shape)) WHERE instr(shape, '[')"
    )
    conn.execute("DROP VIEW items")
    conn.execute(_ITEMS_VIEW)


def _list_several(conn: sqlite3.Connection) -> None:
    """From 3 to 4: a state may be about several. What they need is made with what 5 makes of it."""
    conn.execute("DROP VIEW states")
    conn.execute(_STATES_VIEW)


def _list_by_id(conn: sqlite3.Connection) -> None:
    """From 4 to 5: a subject's states by their ids, ends by their keys, and nothing nameless in the views."""
    conn.execute("DROP INDEX state_subject")
    conn.execute("DROP TABLE IF EXISTS about")
    _make(conn, ABOUT + GONE)
    conn.execute(
        "INSERT INTO about SELECT s.id, j.value, s.kind, s.tenant, s.key"
        " FROM state s, json_each(CAST(s.subject AS TEXT)) j WHERE typeof(s.subject) = 'blob'"
    )
    for view in ("states", "entries", "items"):
        conn.execute(f"DROP VIEW {view}")
    _make(conn, _STATES_VIEW + _ENTRIES_VIEW + _ITEMS_VIEW)


MIGRATIONS: Mapping[int, Callable[[sqlite3.Connection], None]] = {
    1: lambda conn: _make(conn, FENCES),
    2: _number_lists,
    3: _list_several,
    4: _list_by_id,
}
"""From each older version, the step to the next; run inside one transaction."""


HEADER_BYTES: Final = 100
"""What is shorter, and not empty, is no database."""


def no_database(path: str) -> NotAStore:
    """The error for a file that SQLite did not write."""
    return NotAStore(f"{path} is not a SQLite database; it was left as it is")


def check_header(application: int, version: int, path: str) -> None:
    """Raise `NotAStore` for another application's database, or one of a newer version.

    A store is made in one transaction before its log exists, so the header in the file itself
    always says whose it is.
    """
    if application != APPLICATION_ID:
        raise NotAStore(
            f"{path} is the database of another application; it was left as it is",
            expected=APPLICATION_ID,
            found=application,
        )
    check_version(version, path)


def check_version(version: int, path: str) -> None:
    """Raise `NotAStore` for a layout that is newer than this module."""
    if version > VERSION:
        raise NotAStore(
            f"{path} has layout {version}, newer than {VERSION} which this version of statehold"
            " reads; it was left as it is",
            expected=VERSION,
            found=version,
        )


def prepare(conn: sqlite3.Connection, path: str) -> None:
    """Make or migrate the tables, so that the file has the newest layout; all of it or nothing."""
    application, version = _identity(conn)
    if application == APPLICATION_ID and version == VERSION:
        return
    conn.execute(f"PRAGMA page_size = {PAGE_SIZE_BYTES}")
    # Explained, it is noted for a file that is to be made, and nothing is written yet.
    conn.execute("EXPLAIN PRAGMA auto_vacuum = INCREMENTAL").fetchall()
    conn.execute("BEGIN EXCLUSIVE")
    try:
        application, version = _identity(conn)  # another process may have been here first
        check_version(version, path)
        if application != APPLICATION_ID:
            if conn.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
                check_header(application, version, path)  # another application was here first
            _make(conn, TABLES + FENCES + ABOUT + GONE + _STATES_VIEW + _ENTRIES_VIEW + _ITEMS_VIEW)
            conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        else:
            for step in range(version, VERSION):
                MIGRATIONS[step](conn)
        conn.execute(f"PRAGMA user_version = {VERSION}")
        conn.execute("COMMIT")
    except BaseException:
        if conn.in_transaction:
            conn.execute("ROLLBACK")
        raise


def _identity(conn: sqlite3.Connection) -> tuple[int, int]:
    return (
        conn.execute("PRAGMA application_id").fetchone()[0],
        conn.execute("PRAGMA user_version").fetchone()[0],
    )
