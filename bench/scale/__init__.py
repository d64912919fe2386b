"""Where cost grows, and what a million states do: `python -m bench.scale` writes docs/scale.md.

places       the four stores, each at a fresh place of its own
by_hand      what people write instead of each
tasks        many tasks at once, and how late the event loop comes to what is due
population   single states and pages among 10,000 to 1,000,000
garbage      rows against what lives, and what sweeps leave
burst        half a million end at once beside 64 writers
neighbours   a small field beside a large one; reading and deleting a large state
hot          one state, up to 4,096 writers
processes    fifty of them on one store; threads of one on SQLite
crowds       thousands of tenants, hundreds of kinds
collector    Python's garbage collector, and a spent budget, in memory
short        a small piece of it, for `make bench`
page         docs/scale.md and its plots
"""
