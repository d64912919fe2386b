"""Commits and reads that every database can do: lock, load, fold, save, in one transaction."""
