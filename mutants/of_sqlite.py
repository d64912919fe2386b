"""Faults of a driver that keeps a state in several rows: what it loads, and what it writes of it."""

from __future__ import annotations

from mutants.mutant import Mutant

PARTS = "src/statehold/folding/parts.py"
SQLITE = "src/statehold/drivers/sqlite"


def _fault(kind: str, fault: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(kind, fault, file if "/" in file else f"{SQLITE}/{file}", old, new)


FAULTS = [
    _fault(
        "erase",
        "the items of lists stay",
        "erasing.py",
        "if isinstance(held, tuple) and held[0]]",
        "if False]",
    ),
    _fault(
        "erase",
        "op ids stay, for the next state of that number",
        "erasing.py",
        '    execute("DELETE FROM op WHERE state = ?", (state,))\n',
        "",
    ),
    _fault(
        "erase",
        "entries stay",
        "erasing.py",
        '    execute("DELETE FROM cell WHERE slot BETWEEN ? AND ?", (first, first | FIELD_MASK))\n',
        "",
    ),
    _fault(
        "doubt",
        "nobody knows when states ended",
        "erasing.py",
        "UPDATE ended SET at = max(at, (SELECT updated",
        "UPDATE ended SET at = min(at, (SELECT updated",
    ),
    _fault(
        "expiry",
        "what ended within its own call is used",
        "fold.py",
        "if life.head is not None and is_over(life.head, self.now):",
        "if False:",
    ),
    _fault(
        "op memory",
        "op ids of the same call are not known",
        "life.py",
        "found: Any = self.new_ops.get(op)",
        "found: Any = None",
    ),
    _fault(
        "op memory",
        "what was forgotten is thought to be older than it is",
        "life.py",
        "return max(gone, oldest)",
        "return max(gone, oldest) - 60.0",
    ),
    _fault(
        "bounds",
        "entries that are not loaded do not count",
        PARTS,
        "        return count + self.others\n",
        "        return count\n",
    ),
    _fault(
        "drop_lowest",
        "the lowest of those that are loaded goes",
        "life.py",
        'rows = self.execute("SELECT entry FROM cell WHERE slot = ? ORDER BY entry", (self.slot,))',
        "rows = [(max(self, default=None),)]",
    ),
    _fault(
        "list keep",
        "a lower bound leaves what is there",
        PARTS,
        "        first = end - keep + 1\n",
        "        first = end - max(keep, len(self)) + 1\n",
    ),
    _fault(
        "list keep",
        "a bound that has changed goes round the old ring",
        "writing.py",
        "        if ring != keep or staying not in (stored, keep - len(new)):\n",
        "        if False:\n",
    ),
    _fault(
        "isolation",
        "a refused commit leaves what it had done before it was refused",
        "fold.py",
        "        fields = life.fields.copy()\n        touched = life.touched.copy()\n",
        "        fields = life.fields\n        touched = life.touched\n",
    ),
    _fault(
        "isolation",
        "a refused commit shares entries with the one before",
        "life.py",
        "        made = _Rows(self)\n",
        "        made = self\n",
    ),
    _fault(
        "subjects",
        "a state keeps its first one in the index",
        "writing.py",
        "                if head.subject != life.subject:\n",
        "                if False:\n",
    ),
    _fault(
        "returning",
        "what the same call has changed before is not returned",
        "fold.py",
        "        if life.changed:\n            self.write([life])\n",
        "        if False:\n            self.write([life])\n",
    ),
    _fault(
        "corruption",
        "values that nobody can have put are served",
        "reading.py",
        "if len(found) == count and SCALARS.issuperset(map(type, found.values())):",
        "if True:",
    ),
    _fault(
        "corruption",
        "lists with holes are served",
        "reading.py",
        "    if len(values) != take or any(type(value) is not bytes for value in values):\n",
        "    if False:\n",
    ),
]
