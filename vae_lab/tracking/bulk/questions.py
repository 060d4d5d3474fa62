"""What is asked about many runs at once, and the form of the answers; each end checks what it gets."""

from __future__ import annotations

from msgspec import Struct

FORMAT = 1  # of questions and answers: an end that knows another one does not ask, and is not answered
ROOT = "/api/2.0/vae-lab"
OFFER, IDS, RUNS, POINTS, TAG = (f"{ROOT}/{name}" for name in ("offer", "ids", "runs", "points", "tag"))
LARGEST = 1000  # runs, values or metrics of a question; databases take some ten thousand values at once
TAGS = "vae_lab."  # what a tag begins with that is given to many runs at once: none of MLflow's own


class Offer(Struct):
    """That a server answers these questions."""

    format: int


class IdsQuestion(Struct):
    """Which runs have a tag with one of these values?"""

    key: str
    values: list[str]
    running: bool = False  # whether only those are wanted which the store holds for running


class RunId(Struct, array_like=True):
    """A run, and when it began: in milliseconds since 1970."""

    run_id: str
    started: int


class Ids(Struct):
    """The active runs, in no order."""

    runs: list[RunId]


class RunsQuestion(Struct):
    """What is kept of these runs?"""

    run_ids: list[str]
    measured: bool = True  # whether their metrics are wanted


class Run(Struct):
    """What is kept of a run; a metric that is no number is None."""

    run_id: str
    experiment_id: str
    name: str
    status: str
    started: int
    ended: int
    params: dict[str, str] = {}
    metrics: dict[str, float | None] = {}
    tags: dict[str, str] = {}


class Runs(Struct):
    """Those of the runs that are there, active and may be read by whoever asks, in no order."""

    runs: list[Run]


class PointsQuestion(Struct):
    """What did these runs log of these metrics?"""

    run_ids: list[str]
    metrics: list[str]


class Point(Struct, array_like=True):
    """A value: its run and metric by their places in the question; None where it is no number."""

    run: int
    metric: int
    step: int
    value: float | None


class Points(Struct):
    """The values, in the order in which they were logged."""

    points: list[Point]


class TagQuestion(Struct):
    """Give all of these runs a tag."""

    run_ids: list[str]
    key: str
    value: str
