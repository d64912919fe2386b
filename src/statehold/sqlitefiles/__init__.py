"""What every backend that keeps a SQLite file has to mind: locks, forks, and what the log holds.

checkpoints  moving a file's write-ahead log into it before a commit has to
connection   connections: which files this process has open, and which it was forked with
log          emptying a file's write-ahead log after something was erased
errands      the threads of both
"""
