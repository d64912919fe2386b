"""Faults of a driver that keeps a state in several rows: what it loads, and what it writes of it."""

from __future__ import annotations

from mutants.mutant import Mutant

PARTS = "src/statehold/folding/parts.py"
SQLITE = "src/statehold/drivers/sqlite"


def _fault(kind: str, fault: str, file: str, old: str, new: str) -> Mutant:
    return Mutant(kind, fault, file if "/" in file else f"{SQLITE}/{file}", old, new)


WHOLE = "src/statehold/folding/whole.py"

WHOLE_LIVES = [
    _fault(
        "whole lives",
        "a life is installed over another one",
        WHOLE,
        "stands.incarnation != comes.incarnation or stands.number > comes.number",
        "stands.number > comes.number",
    ),
    _fault(
        "whole lives",
        "an older one takes the place of a newer one",
        WHOLE,
        "stands.incarnation != comes.incarnation or stands.number > comes.number",
        "stands.incarnation != comes.incarnation",
    ),
    _fault(
        "whole lives",
        "one that is over is installed",
        WHOLE,
        "if is_over(cells, now):",
        "if is_over(cells, now - 1e9):",
    ),
    _fault(
        "whole lives",
        "a deposed owner installs",
        WHOLE,
        "if cells.epoch < known:",
        "if cells.epoch + 1000 < known:",
    ),
    _fault(
        "whole lives",
        "what was claimed since does not come along",
        WHOLE,
        "stands == cells.revision and head.epoch == cells.epoch",
        "stands == cells.revision",
    ),
    _fault(
        "whole lives",
        "nobody thinks of the lives that the key had here",
        WHOLE,
        "max(life.forgotten, past.ended() if head is None else past.forgot())",
        "life.forgotten",
    ),
    _fault(
        "whole lives",
        "nobody thinks of the lives that it had elsewhere",
        WHOLE,
        "max(forgotten, cells.created),",
        "forgotten,",
    ),
    _fault(
        "whole lives",
        "whoever holds the epoch holds it no more",
        WHOLE,
        "if life.held == -math.inf:",
        "if life.held > 0:",
    ),
    _fault(
        "whole lives",
        "the op id of the claim is left behind",
        WHOLE,
        "max(until, held + HOLD_SECONDS), life.claim)",
        'max(until, held + HOLD_SECONDS), "")',
    ),
    _fault(
        "whole lives",
        "positions begin anew",
        WHOLE,
        "cell.fork() if isinstance(cell, Items)",
        "Items(cell) if isinstance(cell, Items)",
    ),
    _fault(
        "whole lives",
        "half a life is taken for a whole one",
        WHOLE,
        "if cells.corrupted:",
        "if len(cells.corrupted) > 1:",
    ),
    _fault(
        "whole lives",
        "what was forgotten elsewhere is not kept",
        "fold.py",
        "(0, NOT_COUNTED, 0, until)",
        "(0, NOT_COUNTED, 0, 0.0)",
    ),
    _fault(
        "doubt",
        "a life that says it was there before hides those that have ended since",
        "fold.py",
        "if ended > created:",
        "if False:",
    ),
    _fault(
        "whole lives",
        "digests of op ids are of no use",
        "life.py",
        "if first is None and self.ops >= INSTALLED:",
        "if first is None and self.ops < 0:",
    ),
    _fault(
        "whole lives",
        "intents are left behind",
        "fold.py",
        "(one.number, seq, one.intent, one.at)",
        "(one.number, seq, 0, one.at)",
    ),
    _fault(
        "whole lives",
        "a hold is not remembered beside the life",
        "fold.py",
        "if held != fence:",
        "if held == fence:",
    ),
]

FAULTS = [
    _fault(
        "erase",
        "the items of lists stay",
        "erasing.py",
        "if isinstance(ring, tuple) and ring[0]]",
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
        "ends.py",
        ' DO UPDATE SET last = max(last, excluded.last), until = excluded.until",\n        (_digest(key), last, at + HOLD_SECONDS),',
        ' DO UPDATE SET last = max(last, excluded.last), until = excluded.until",\n        (_digest(key), 0.0, at + HOLD_SECONDS),',
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
        "subjects",
        "those it is not about any more find it still",
        "writing.py",
        "        if type(life.subject) is tuple:\n",
        "        if type(life.subject) is tuple and type(subject) is tuple:\n",
    ),
    _fault(
        "subjects",
        "a new state about several is found by none",
        "writing.py",
        "                if type(head.subject) is tuple:\n",
        "                if False:\n",
    ),
    _fault(
        "subjects",
        "what lists it outlives a state about several",
        "erasing.py",
        "    if isinstance(subject, bytes | tuple):\n",
        "    if False:\n",
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
    _fault(
        "sweeping",
        "it begins anew each time, and never comes to what lies behind",
        "sweeping.py",
        "        self._last = 0 if piece.over else piece.last\n",
        "        self._last = 0\n",
    ),
    _fault(
        "sweeping",
        "it goes round once",
        "sweeping.py",
        "        self._last = 0 if piece.over else piece.last\n",
        "        self._last = piece.last\n",
    ),
    *WHOLE_LIVES,
]
