"""What the shop remembers of a visit: declared here once, and nowhere else."""

from datetime import timedelta
from typing import Literal

import msgspec

from statehold import Counter, DecayedMean, Log, Map, Register, State, Tally, Turns, Window

DIM = 64
"""Numbers in the vector of a product; see `retrieval.py`."""


class Message(msgspec.Struct, frozen=True):
    """One thing said in the conversation."""

    who: Literal["visitor", "shop"]
    text: str
    process: int = 0
    """The id of the process that answered."""


class Visit(State, ttl=timedelta(days=30)):
    """One visitor's state. Gone 30 days after the last thing that was said or clicked."""

    conversation = Turns(Message, keep=50, max_bytes=4_096)  # a question and its answer, together
    filters = Map(str, str | float, keep=8, max_bytes=512)  # the slots: kind, colour, max_price …
    focus = Register(str | None, default=None)  # the product that "that" means
    shown = Register(list[str], default=[])  # the products on the page
    clicks = Tally(str, keep=5_000)  # times clicked, by product
    ignored = Tally(str, keep=5_000)  # times passed over, by product
    taste = DecayedMean(DIM, half_life=timedelta(minutes=30))  # of the vectors of what was clicked
    trail = Log(str, keep=20, max_bytes=256)  # the latest clicks, in order
    rate = Window(timedelta(minutes=1), buckets=12)  # requests in the last minute
    turns = Counter()
