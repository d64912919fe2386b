"""Commits and reads that every database can do: lock, load, fold, save, in one transaction.

* `transactions` is the tier: it begins transactions on the connections of `engines`, each loop's shared by `here`, and tries again.
* `executor` says what is done within one: `load` locks rows and loads states, `recalling` what they remember
  of op ids and ended lives, `fences` what they have seen of epochs; `fold` folds commits into one state;
  `fitting` counts what is too large for a statement; `save` writes all back.
* `read` reads states as cells, `scan` lists them, `whole` reads and installs whole lives, `sweep` deletes
  what has ended, and `sweeps` says when.
"""
