"""Most commits and all reads in one round trip, on PostgreSQL. What it does not do, `portable` does.

* `executor` asks the tiers: `single`, a statement for a commit that comes alone (`erasing`: for an erasure), and `calling`, calls of a
  function of the kind's. `read` is the statement that reads, `rows` makes cells of its answer.
* A `call` is made of many commits: `encoding` makes arguments of what changes carry, and `merge` merges the
  commits of one key.
* The text of `function` is `commit.sql` and `update.sql`, with `fields` and `entries` for what is done to
  each field; `phrases` spells what several statements say.
* `sending` sends statements on the connections of `pools`, each a `pool`, and tries again; `homes` says which connections
  serve a kind, where these are many; `leftover` ends connections that were lost.
"""
