"""What a line would train and what that takes, as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from vae_lab import config
from vae_lab.jobs.plan.costs import BETWEEN, STORE, TRIAL
from vae_lab.jobs.plan.estimate import Estimate, Needs, Point
from vae_lab.report.tables import Column, Columns, Table
from vae_lab.report.tables.content import finite
from vae_lab.studies.claims import Verdict
from vae_lab.studies.plan import Plan

SOURCES = {
    STORE: "runs of the store",
    TRIAL: "a trial here",
    BETWEEN: "trials of others",
}
UNITS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))
MB, GB = 1e6, 1e9
MOST_SEEDS = 100_000  # more are as good as never


def points_table(name: str, estimate: Estimate, plan: Plan | None) -> Table:
    """Returns one row a configuration, with the runs that differ by the replicate only.

    Args:
        name: Of the study, or of the run.
        estimate: What the line comes to.
        plan: The study's; None for a single run.
    """
    replicate = "seed" if plan is None else plan.pairs_by
    groups: dict[tuple[tuple[str, str], ...], list[Point]] = {}
    for point in estimate.points:
        params = config.parameters(point.job.settings)
        params.pop(replicate, None)
        groups.setdefault(tuple(params.items()), []).append(point)
    rows = [*groups.values()]
    left = [[point for point in row if point.source] for row in rows]
    columns: Columns = [
        (Column("configuration", numeric=False), [_label(row[0], replicate) for row in rows]),
        (Column(f"{replicate}s", digits=0), [float(len(row)) for row in rows]),
        (Column("runs", numeric=False), [_states(row) for row in rows]),
        (Column("parameters", digits=0), [float(row[0].job.parts.weights) for row in rows]),
        (Column("a run", "s", 1), [_mean([point.seconds for point in some]) for some in left]),
        (Column("all", "s", 0), [sum(point.seconds for point in some) for some in left]),
        (Column("by", numeric=False), [", ".join(_sources(some)) or "–" for some in left]),
        (Column("memory", "MB", 0), [row[0].job.parts.memory / MB for row in rows]),
        (Column("disk", "MB", 1), [sum(point.disk for point in some) / MB for some in left]),
    ]
    note = (
        "Seconds of runs that are trained beside each other as the line would. Memory: the least, beside "
        "the data."
    )
    return Table.of(f"{name}: {_in_words(estimate.points)}", columns, note)


def whole_table(estimate: Estimate, prepared: float) -> Table:
    """Returns what the whole line takes.

    Args:
        estimate: What the line comes to.
        prepared: Seconds until the first run starts.
    """
    shares = estimate.shares
    seconds = estimate.seconds + prepared if estimate.seconds else 0.0
    threads = f"{shares.threads} thread{'s' * (shares.threads > 1)}"
    facts = {
        "time": in_words(seconds),
        "at once": f"{shares.workers}, with {threads} each",
        "memory": f"{estimate.memory / GB:.2f} GB with the data",
        "disk": f"{estimate.disk / MB:,.0f} MB in the store, {estimate.checkpoints / MB:,.0f} MB meanwhile",
    }
    if not estimate.seconds:
        facts = {"time": "none: nothing is left to train"}
    columns: Columns = [
        (Column("the whole", numeric=False), [*facts]),
        (Column("takes", numeric=False), [*facts.values()]),
    ]
    return Table.of("The whole line", columns, " ".join(estimate.remarks))


def claims_table(needs: Sequence[Needs], plan: Plan, most: int | None = None) -> Table:
    """Returns one row a claim: the seeds that can settle it, and what the runs that are there say.

    Args:
        needs: Of each claim.
        plan: The study's.
        most: Seeds that further rounds may come to; None if the plan has all there will be.
    """
    replicate = plan.pairs_by
    heading, seeds = ("at most", most) if most else ("planned", len(plan.replicate.get(replicate, ["0"])))
    columns: Columns = [
        (Column("claim", numeric=False), [need.claim for need in needs]),
        (Column("at least", f"{replicate}s", 0), [finite(float(need.least)) for need in needs]),
        (Column(heading, f"{replicate}s", 0), [float(seeds) for _ in needs]),
        (Column("can be settled", numeric=False), ["yes" if need.least <= seeds else "no" for need in needs]),
        (Column("so far", numeric=False), [_so_far(need.verdict) for need in needs]),
        (Column("says", numeric=False), [need.text for need in needs]),
    ]
    dropped = len(plan.former)
    of_them = f", {dropped} of them dropped after runs had been seen" if dropped else ""
    note = f"At least: over {len(needs) + dropped} claims{of_them}, however large the effects."
    return Table.of(f"{replicate.capitalize()}s that can settle the claims", columns, note)


def _so_far(verdict: Verdict | None) -> str:
    """Returns what the runs that are there say, and how many probably settle what is open."""
    if verdict is None:
        return "–"
    if verdict.needed is None:
        return verdict.verdict
    return f"{verdict.verdict}, probably {_upto(verdict.needed.estimate)}"


def _upto(seeds: float) -> str:
    return f"{seeds:,.0f}" if seeds < MOST_SEEDS else "never"


def _label(point: Point, replicate: str) -> str:
    """Returns a run's name without its seed."""
    if replicate != "seed":
        return point.job.name
    return " ".join(word for word in point.job.name.split() if word != f"s{point.job.settings.seed}")


def _states(points: Sequence[Point]) -> str:
    """Returns how many of some runs are there, under way, interrupted, and missing."""
    counts = Counter(point.present.state for point in points)
    after = sorted({point.present.done for point in points if point.present.state == "interrupted"})
    words = {
        "finished": "there",
        "running": "under way elsewhere",
        "interrupted": f"interrupted after epoch {', '.join(map(str, after))}",
        "missing": "missing",
    }
    return ", ".join(f"{counts[state]} {text}" for state, text in words.items() if counts[state])


def _in_words(points: Sequence[Point]) -> str:
    count = len(points)
    return f"{count} run{'s' * (count != 1)}, {_states(points)}"


def _sources(points: Sequence[Point]) -> list[str]:
    return [*dict.fromkeys(SOURCES[point.source] for point in points)]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def in_words(seconds: float) -> str:
    """Returns a time in its two largest units.

    Examples:
        >>> in_words(42.4), in_words(3725.0), in_words(200_000.0)
        ('42 s', '1 h 2 min', '2 days 7 h')
    """
    for (size, unit), (smaller, smaller_unit) in zip(UNITS, [*UNITS[1:], (1.0, "")], strict=True):
        if seconds >= size and smaller_unit:
            whole = int(seconds // size)
            return f"{whole} {unit} {int((seconds - whole * size) // smaller)} {smaller_unit}"
    return f"{seconds:.0f} s"
