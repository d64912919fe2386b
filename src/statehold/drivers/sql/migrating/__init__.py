"""Migrations: how the tables of a database come to be those of the state classes."""
