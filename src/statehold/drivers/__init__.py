"""The backends where states live: one package each, and none imports another.

memory       in this process: for development, tests and the lowest latency
sqlite       in one SQLite file: the embedded default
redis        on Redis or Valkey, one server, behind Sentinel, or a cluster
sql          in tables of PostgreSQL, MariaDB, MySQL or SQLite, for who wants to query them
token        in tokens that their clients carry
"""
