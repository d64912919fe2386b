"""How a kind lies in tables: which there are, what their columns hold, how values become rows and back.

It knows of no executor: `portable`, `postgres` and `migrating` stand on it.

* `tables` are made of a kind's layout, with `names` and column `types`; `statements` are made once for each.
* `values` become what columns hold, and come back the same; `vectors` are those that PostgreSQL searches.
* `dialects` are what the databases do differently.
"""
