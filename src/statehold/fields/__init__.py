"""What a state can hold. Each field compiles to the six changes and reads from the cells."""

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
