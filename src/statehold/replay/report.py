"""What a replay has done: counts, latencies, and the lines that were refused."""

from __future__ import annotations

import math
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

import msgspec

from statehold.errors import StateholdError, Unavailable

_STEP: Final = 1.04
_LOWEST: Final = 1e-6


class Latencies:
    """Durations in seconds, counted in steps of 4 %, so that any number of them takes 5 KB."""

    def __init__(self) -> None:
        self._counts = [0] * 600  # 1 µs … 4 h
        self.count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        step = int(math.log(max(seconds, _LOWEST) / _LOWEST) / math.log(_STEP))
        self._counts[min(step, len(self._counts) - 1)] += 1
        self.count += 1

    def quantile(self, part: float) -> float:
        """The duration, to 4 %, that this part of them does not exceed; 0 if there are none."""
        left = part * self.count
        for step, count in enumerate(self._counts):
            left -= count
            if left <= 0 < count:
                return _LOWEST * float(_STEP ** (step + 0.5))
        return 0.0


class Counts(msgspec.Struct):
    """What became of lines."""

    lines: int = 0
    applied: int = 0
    repeated: int = 0
    """Known to the state already: nothing was done."""
    skipped: int = 0
    """Before the newest line of their key that the state remembers: not sent again."""
    rejected: int = 0


class Summary(msgspec.Struct):
    """What became of a file."""

    total: Counts
    by_kind: dict[str, Counts]
    seconds: float
    latencies: Latencies
    """From sending a commit to its answer, retries included."""
    resumed_keys: int = 0
    """Keys that went on after the newest of their lines that the state remembers."""

    def to_json(self) -> dict[str, Any]:
        """The figures, for printing."""
        done = self.latencies.count
        return {
            **msgspec.structs.asdict(self.total),
            "by_kind": self.by_kind,
            "seconds": round(self.seconds, 3),
            "per_second": round(done / self.seconds) if self.seconds else 0,
            "p50_ms": round(self.latencies.quantile(0.5) * 1e3, 3),
            "p99_ms": round(self.latencies.quantile(0.99) * 1e3, 3),
        }


class Rejects:
    """The file of refused lines, made when there is the first one.

    Each row has the line's number, the error's code, field and text, and the line: as `input` if it
    is JSON, else as `text`.
    """

    def __init__(self, path: Path, *, append: bool = False) -> None:
        self.path = path
        self.count = 0
        self._file: IO[bytes] | None = None
        if not append:  # rows of an earlier run would lie about this one
            self._attempt(lambda: path.unlink(missing_ok=True))

    def add(self, number: int, raw: bytes, error: StateholdError) -> None:
        """One more row."""
        if self._file is None:
            self._file = self._attempt(lambda: self.path.open("ab"))
        row: dict[str, Any] = {"line": number, "code": error.code, "reason": str(error)}
        if error.field is not None:
            row["field"] = error.field
        try:
            row["input"] = msgspec.json.decode(raw)
        except ValueError:
            row["text"] = raw.decode(errors="replace")
        self._attempt(lambda: self._write(msgspec.json.encode(row) + b"\n"))
        self.count += 1

    def _write(self, row: bytes) -> None:
        assert self._file is not None  # noqa: S101
        self._file.write(row)
        self._file.flush()

    def _attempt(self, do: Any) -> Any:
        try:
            return do()
        except OSError as error:
            raise Unavailable(f"{self.path}: {error.strerror or error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()
