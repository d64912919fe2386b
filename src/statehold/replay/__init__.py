"""Feeding a file of commits to a store, so that doing it twice does nothing the second time.

Every line has an op id: its own `op`, or one made from its content and from how many lines like it
came before. A state applies an op id once, so a line that is sent again is known there.

A state remembers its newest `ops` op ids only. Where a file has more lines for one key than that,
or deletes the key on the way, the ids alone are not enough. But the lines of a key are applied one
after the other, so what has been applied is always a beginning of them. For such a key the file is
asked about from its end backwards, with commits that expect a revision which no state ever has: the
answer is "applied already" for an op id that the state remembers and a conflict otherwise, and
nothing is written either way. The key then goes on after the newest line that is remembered.

    lines        reading the lines, and the op id of each
    run          sending them: many keys at once, the lines of one key one after the other
    report       what was done: counts, latencies, and the lines that were refused
"""

from statehold.replay.lines import Line, Source
from statehold.replay.report import Latencies, Summary
from statehold.replay.run import Replay

__all__ = ["Latencies", "Line", "Replay", "Source", "Summary"]
