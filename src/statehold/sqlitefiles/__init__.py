"""What every backend that keeps a SQLite file has to mind: locks, forks, and what the log holds."""
