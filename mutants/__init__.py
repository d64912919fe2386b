"""Faults that the kit has to catch, planted one at a time in copies of two drivers: `make mutants`."""
