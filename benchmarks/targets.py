"""The figures that must be reached, those that are aimed at, and verdicts on measured ones."""

from __future__ import annotations

import statistics
from typing import Any, NamedTuple


class Target(NamedTuple):
    """One row of the table: a figure that must be reached and a better one to aim at, if it has them."""

    what: str
    must: float | None
    aim: float | None
    unit: str
    more_is_better: bool
    form: str = ".2f"

    def reaches(self, value: float, bound: float) -> bool:
        """Returns whether `value` is at least as good as `bound`."""
        return value >= bound if self.more_is_better else value <= bound

    def verdict(self, value: float) -> str:
        """Returns `aim reached`, `reached`, `short`, or `no target`."""
        if self.must is None or self.aim is None:
            return "no target"
        if self.reaches(value, self.aim):
            return "aim reached"
        return "reached" if self.reaches(value, self.must) else "short"

    def format(self, value: float | None) -> str:
        """Returns the value as the tables write it; nothing for no value."""
        return "" if value is None else format(value, self.form)


TARGETS = {
    1: Target("ten ablations' training against the floor", 0.68, 0.75, "of its speed", True),
    2: Target("the same in bfloat16 against the floor of float32", 1.0, 1.4, "of its speed", True),
    3: Target("what is not training in the ten ablations", 0.07, 0.05, "of the time", False, ".1%"),
    4: Target("ten ablations, whole command, against ten loops of a peer", 1.4, 2, "times faster", True),
    5: Target("16 seeds of a hidden-64 model against one after another", 1.7, 2, "times faster", True),
    6: Target("one run beside a busy neighbour against alone", 2.5, 1.5, "times slower", False),
    7: Target("--help, train --cfg job, config errors: the slowest", 1, 0.5, "s of CPU", False),
    8: Target("compare on 1,000 runs", 3, 1, "s", False),
    9: Target("one run's training against the DataLoader loop", None, None, "times faster", True),
}
NEEDS_PEERS = {4}


class Result(NamedTuple):
    """The measurement of a row."""

    row: int
    value: float  # of the medians
    rounds: list[float]  # the same figure of every round alone
    note: str  # its origin, in words and seconds
    series: dict[str, list[float]]  # seconds of everything that was timed, by round

    @property
    def target(self) -> Target:
        """The row's target."""
        return TARGETS[self.row]

    def record(self) -> dict[str, Any]:
        """Returns the row for the JSON file."""
        target = self.target
        return {
            "row": self.row,
            "what": target.what,
            "unit": target.unit,
            "must": target.must,
            "aim": target.aim,
            "more_is_better": target.more_is_better,
            "measured": self.value,
            "least": min(self.rounds),
            "most": max(self.rounds),
            "rounds": len(self.rounds),
            "verdict": target.verdict(self.value),
            "note": self.note,
            "series": self.series,
        }


def ratio(
    row: int, slow: list[float], fast: list[float], note: str, series: dict[str, list[float]]
) -> Result:
    """Returns how many times as long `slow` takes as `fast`: by medians, and round by round."""
    value = statistics.median(slow) / statistics.median(fast)
    return Result(row, value, [a / b for a, b in zip(slow, fast, strict=True)], note, series)
