"""What a state can hold. Each field compiles to the six changes and reads from the cells.

base         what all fields share: a descriptor, its edits, how it reads, what it costs at most
scalar       `Register` and `Counter`: one value, one number
lists        what the fields that are lists share: positions, redaction
log          `Log`: a list of items
turns        `Turns`: a conversation, a list of whole turns
entries      what the fields of many named entries share: keys, bounds, what happens past them
maps         `Map`, and `Steps` in which the first value stands
sets         `SetOf`: a set
tally        `Tally`: a number for each key
vector       `Vector`, and `DecayedMean` that forgets
window       `Window`: count and sum over a span of time
slices       how the entries of `Window` and `DecayedMean` are named by time
"""

from statehold.fields.base import BY_TTL, Edit, Edits, Field
from statehold.fields.log import Log
from statehold.fields.maps import Map, Steps
from statehold.fields.scalar import Amount, Count, Counter, Register
from statehold.fields.sets import SetOf
from statehold.fields.tally import Tally
from statehold.fields.turns import Turns
from statehold.fields.vector import DecayedMean, Vector
from statehold.fields.window import Window

__all__ = [
    "BY_TTL",
    "Amount",
    "Count",
    "Counter",
    "DecayedMean",
    "Edit",
    "Edits",
    "Field",
    "Log",
    "Map",
    "Register",
    "SetOf",
    "Steps",
    "Tally",
    "Turns",
    "Vector",
    "Window",
]
