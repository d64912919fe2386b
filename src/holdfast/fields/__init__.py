"""What a state can hold. Each field compiles to the five changes and reads from the cells."""

from holdfast.fields.base import Edit, Edits, Field
from holdfast.fields.collection import Map, SetOf, Steps, Tally
from holdfast.fields.log import Log, Turns
from holdfast.fields.scalar import Amount, Count, Counter, Register
from holdfast.fields.vector import DecayedMean, Vector
from holdfast.fields.window import Window

__all__ = [
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
