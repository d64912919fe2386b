"""Real servers for tests: plain processes at 127.0.0.1, with their data in temporary folders.

    server       what all of them have in common
    redis        `RedisServer`, `ValkeyServer`
    group        several Redis servers that are one to their clients
    sentinel     `RedisSentinel`: a master, replicas, and sentinels
    cluster      `RedisCluster`: masters that share the keys
    database     what the SQL servers have in common
    postgres     `PostgresServer`, `PgvectorServer`
    pgbouncer    `Pgbouncer`: a pooler in front of one
    mariadb      `MariadbServer`

What they use: `finding` (where a program comes from), `processes` (processes that end with the tests), `docker`
(a container instead), `certificates`; and `exactly`, `resp`, `pgwire`, `mywire` to say a few words to a server
without a client library.
"""

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
