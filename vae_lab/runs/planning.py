"""What a multirun sets out to do: its points, its plan, its name and the command that starts it again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vae_lab import config, tracking
from vae_lab.errors import LabError
from vae_lab.runs import progress
from vae_lab.runs.grid import REPLICATED, Axes, Point
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.tracking import Recorder, Store


class Round(NamedTuple):
    """What a multirun wants to have run: its axes, and its points by their runs' fingerprint and name."""

    axes: Axes
    points: dict[tuple[str, str], Point]


def plan(master: DictConfig, current: Round, name: str, sequential: bool) -> Plan:
    """What the multirun sets out to do, as its parent run keeps it."""
    first = next(iter(current.points.values())).settings
    base, study, varied = config.parameters(first), study_of(master), current.axes
    also = _named_points(current)
    alone = dict.fromkeys([*varied.one_at_a_time, *(key for each in also.values() for key in each)])
    return Plan(
        name=name,
        question=study["question"],
        cross=varied.cross,
        one_at_a_time=varied.one_at_a_time,
        replicate=varied.replicate or {REPLICATED: [str(first.seed)]},
        also=also,
        base={key: base[key] for key in alone if key in base and key not in varied.cross},
        reference=study["reference"],
        claims=study["claims"],
        sequential=sequential,
        oracle=None if first.study.oracle is None else _plain(first.study.oracle),
        runs=[list(key) for key in current.points],
    )


def _named_points(current: Round) -> dict[str, dict[str, str]]:
    """Each point of `sweep.also` with the parameters that it sets, as its runs record them."""
    found: dict[str, dict[str, str]] = {}
    for point in current.points.values():
        params = config.parameters(point.settings)
        for name in point.names:
            found.setdefault(name, {key: params[key] for key in current.axes.also[name] if key in params})
    return {name: found[name] for name in current.axes.also if name in found}


def study_name(master: DictConfig, axes: Axes) -> str:
    """The study's name, else the sweep's file name, else the keys that vary."""
    chosen = OmegaConf.select(master, "hydra.runtime.choices.sweeps")
    keys = [*axes.cross, *axes.one_at_a_time, *axes.also, *axes.replicate]
    varied = " x ".join(key.rpartition(".")[2] for key in keys)
    return config.quotable(str(master.study.name or chosen or varied)) or "multirun"


def command(master: DictConfig, arguments: Sequence[str]) -> str:
    """The line that starts this multirun again; the store is left out, as its address may hold a password."""
    sources = OmegaConf.select(master, "hydra.runtime.config_sources") or []
    own = [source.path for source in sources if source.provider == "command-line"]
    folders = [part for path in own for part in ("--config-dir", path)]
    kept = [argument for argument in arguments if not argument.startswith("tracking.")]
    return shlex.join(["vae-lab", "train", "-m", *folders, *kept])


def study_of(master: DictConfig) -> dict[str, Any]:
    """The study of a multirun's config, as plain values."""
    return _plain(master.study)


def _plain(node: DictConfig) -> dict[str, Any]:
    found = OmegaConf.to_container(node, resolve=True)
    assert isinstance(found, dict)
    return {str(key): value for key, value in found.items()}


def write_plan(recorder: Recorder, made: Plan) -> None:
    """Keeps the plan on the multirun's parent run."""
    with recorder.artifacts(sealed=[PLAN_FILE]) as folder:
        (folder / PLAN_FILE).write_text(made.to_json())


def chosen_by_verdicts(store: Store, name: str, current: Round) -> bool:
    """Whether runs of this multirun were trained by one of its name that added seeds until it was clear.

    Their number follows from their values, and only a sequential test allows for that.
    """
    for record in store.tagged(tracking.STUDY, name):
        if record.kind != tracking.SWEEP:
            continue
        try:
            before = Plan.from_json(store.download(record.run_id, PLAN_FILE).read_text())
        except (LabError, OSError, ValueError):  # it ended before it had a plan
            continue
        if before.sequential and {tuple(key) for key in before.runs} & current.points.keys():
            progress.console.print(
                f"{name}: seeds=auto chose runs of it, so its claims are judged sequentially."
            )
            return True
    return False
