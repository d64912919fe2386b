"""Real servers for tests: plain processes at 127.0.0.1, with their data in temporary folders."""

from holdfast.testing.servers.cluster import RedisCluster
from holdfast.testing.servers.database import SqlError
from holdfast.testing.servers.finding import Missing, Required, require
from holdfast.testing.servers.mariadb import MariadbServer
from holdfast.testing.servers.pgbouncer import Pgbouncer
from holdfast.testing.servers.postgres import PostgresServer
from holdfast.testing.servers.redis import RedisServer, ValkeyServer
from holdfast.testing.servers.resp import ErrorReply
from holdfast.testing.servers.sentinel import RedisSentinel
from holdfast.testing.servers.server import DidNotStart, Server

__all__ = [
    "DidNotStart",
    "ErrorReply",
    "MariadbServer",
    "Missing",
    "Pgbouncer",
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
