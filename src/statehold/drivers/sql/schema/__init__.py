"""How a kind lies in tables: which there are, what their columns hold, how values become rows and back.

It knows of no executor: `portable`, `postgres` and `migrating` stand on it.
"""
