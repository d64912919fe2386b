"""State for ML services: declared once, typed, kept where the configuration says.

`import holdfast` brings no driver, no server and no third-party client.
"""

from holdfast.changes import ABSENT, PRESENT, Revision
from holdfast.clock import Clock, ManualClock, SystemClock
from holdfast.errors import (
    Busy,
    Closed,
    ConfigError,
    Conflict,
    Corrupted,
    Fenced,
    Full,
    HoldfastError,
    Invalid,
    NotAStore,
    ReadOnly,
    SchemaError,
    Timeout,
    TooLarge,
    Unavailable,
    Unsupported,
)
from holdfast.fields import (
    Counter,
    DecayedMean,
    Edit,
    Field,
    Log,
    Map,
    Register,
    SetOf,
    Steps,
    Tally,
    Turns,
    Vector,
    Window,
)
from holdfast.state import Corruption, Meta, State
from holdfast.store import AsyncCollection, AsyncStore, Collection, Store

__version__ = "0.1.0"

__all__ = [
    "ABSENT",
    "PRESENT",
    "AsyncCollection",
    "AsyncStore",
    "Busy",
    "Clock",
    "Closed",
    "Collection",
    "ConfigError",
    "Conflict",
    "Corrupted",
    "Corruption",
    "Counter",
    "DecayedMean",
    "Edit",
    "Fenced",
    "Field",
    "Full",
    "HoldfastError",
    "Invalid",
    "Log",
    "ManualClock",
    "Map",
    "Meta",
    "NotAStore",
    "ReadOnly",
    "Register",
    "Revision",
    "SchemaError",
    "SetOf",
    "State",
    "Steps",
    "Store",
    "SystemClock",
    "Tally",
    "Timeout",
    "TooLarge",
    "Turns",
    "Unavailable",
    "Unsupported",
    "Vector",
    "Window",
]
