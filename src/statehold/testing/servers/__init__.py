"""Real servers for tests: plain processes at 127.0.0.1, with their data in temporary folders."""

from statehold.testing.servers.cluster import RedisCluster
from statehold.testing.servers.database import SqlError
from statehold.testing.servers.finding import Missing, Required, require
from statehold.testing.servers.mariadb import MariadbServer
from statehold.testing.servers.pgbouncer import Pgbouncer
from statehold.testing.servers.postgres import PgvectorServer, PostgresServer
from statehold.testing.servers.redis import RedisServer, ValkeyServer
from statehold.testing.servers.resp import ErrorReply
from statehold.testing.servers.sentinel import RedisSentinel
from statehold.testing.servers.server import DidNotStart, Server

__all__ = [
    "DidNotStart",
    "ErrorReply",
    "MariadbServer",
    "Missing",
    "Pgbouncer",
    "PgvectorServer",
    "PostgresServer",
    "RedisCluster",
    "RedisSentinel",
    "RedisServer",
    "Required",
    "Server",
    "SqlError",
    "ValkeyServer",
    "require",
]
