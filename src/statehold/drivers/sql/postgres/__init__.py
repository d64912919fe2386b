"""Most commits and all reads in one round trip, on PostgreSQL. What it does not do, `portable` does."""
