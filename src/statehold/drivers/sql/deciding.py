"""A COMMIT that does nothing when it comes too late.

The network may hold a COMMIT back and deliver it after its caller was told that nobody knows. So the
database looks at its clock in the same message: what comes after the instant is rolled back. MySQL
has no statement for that; there only the limit for a transaction whose client is silent holds.
"""

from __future__ import annotations

import math
from typing import Any, Final

from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import PoolProxiedConnection

from statehold.errors import StateholdError

UNTIL: Final = "statehold until"
"""In a connection's `info`: after which instant, by the database's clock in epoch seconds, the
transaction under way may not be committed."""


class TooLate(Exception):
    """The transaction was rolled back, since its time was over. Internal."""


def decide_by(connection: AsyncConnection, until: float) -> None:
    """The transaction under way may not be committed after that instant, nor after an earlier one."""
    info = connection.info
    info[UNTIL] = min(until, info.get(UNTIL, until))


def commits_in_time(dialect: Dialect) -> None:
    """Have SQLAlchemy commit so: it raises `TooLate` where a transaction's time is over."""
    commit = {"postgresql": _postgresql, "mysql": _mariadb}[dialect.name]

    def do_begin(dbapi_connection: PoolProxiedConnection) -> None:
        # One that was rolled back has left its own; `info` is the connection's, for as long as it lives.
        dbapi_connection.info.pop(UNTIL, None)

    def do_commit(dbapi_connection: PoolProxiedConnection) -> None:
        until = dbapi_connection.info.pop(UNTIL, None)
        if until is None or not commit(dialect, dbapi_connection, until):
            dbapi_connection.commit()

    dialect.do_begin = do_begin  # type: ignore[method-assign]
    dialect.do_commit = do_commit  # type: ignore[method-assign]


def postgresql_commit(until: float) -> str:
    """What commits until then, to be sent as one message; later it fails as a division by zero.

    After an error in the first of its statements the second is not executed.
    """
    if until == math.inf:
        return "COMMIT"
    in_time = f"extract(epoch FROM clock_timestamp()) <= {until!r}"
    return f"SELECT 1 / ({in_time})::int; COMMIT"


# Each returns whether that was all. PostgreSQL's driver is to be told that its transaction is over, for
# which it commits once more, which then does nothing; and MySQL has done nothing yet.


def _postgresql(dialect: Dialect, connection: Any, until: float) -> bool:
    message = postgresql_commit(until)

    async def execute(driver: Any) -> None:
        await driver.execute(message)

    try:
        connection.run_async(execute)
    except (TimeoutError, StateholdError):
        raise
    except Exception as error:
        if getattr(error, "sqlstate", None) == "22012":
            raise TooLate from error
        database: Any = dialect.loaded_dbapi  # what SQLAlchemy knows errors by
        raise database.InterfaceError(str(error), error) from error
    return False


def _mariadb(_dialect: Dialect, connection: Any, until: float) -> bool:
    cursor = connection.cursor()
    cursor.execute(
        # Only MariaDB reads this; MySQL sees an empty statement.
        "/*M!100300 BEGIN NOT ATOMIC"
        f" IF timestampdiff(MICROSECOND, '1970-01-01', utc_timestamp(6)) <= {round(until * 1e6)}"
        " THEN COMMIT; SELECT 1; ELSE ROLLBACK; SELECT 0; END IF; END */"
    )
    row = cursor.fetchone()
    cursor.close()
    if row is not None and not row[0]:
        raise TooLate
    return row is not None
