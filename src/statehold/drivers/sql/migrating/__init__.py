"""Migrations: how the tables of a database come to be those of the state classes.

* `opening` makes a kind ready when a driver opens it; `functions` makes the functions on PostgreSQL.
* `running` is one run of a migration, alone by `locking`: `catalogue` is what the database has, `comparing`
  how that differs from a class, `planning` makes the plan, and `applying` carries it out or shows it.
* A plan consists of `steps`: `renaming` for fields that got another name, `retyping` for what is to be of another
  type, `searching` for columns that become vectors; `verbatim` passes SQL on as it is.
* `writing` makes a plan a revision script for teams that run Alembic themselves.
"""
