"""Measures added to finished runs: the model is loaded from the store, nothing is trained again."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.text import Text

from vae_lab import config, devices, tracking
from vae_lab.config.trust import check_trusted_loss
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.parts.datasets import run_data
from vae_lab.jobs.parts.own_metrics import own_metrics
from vae_lab.jobs.parts.stored import check_data, stored_config, trained_model, without_foreign_data
from vae_lab.jobs.progress import console
from vae_lab.jobs.runs.absence import measured_anew, without_absent
from vae_lab.jobs.runs.artifacts import evaluation_tag, final_measures
from vae_lab.jobs.runs.ran_on import ran_on, went_on
from vae_lab.metrics import EVALUATION_COUNTS, EVALUATION_SETTINGS
from vae_lab.report.conclusion import conclude
from vae_lab.report.terminal import plain
from vae_lab.studies.plan import PLAN_FILE, Plan
from vae_lab.studies.study import Study, load_study
from vae_lab.tracking import EVALUATION, RUN, Recorder, Store, StoredRun
from vae_lab.tracking.abandoned import close_abandoned
from vae_lab.tracking.records import DeletedRunError, measured_at

SUMMARY = {  # what a line says of the measures, as far as they were taken
    "test/negative_log_marginal": "-log p(x) {:.2f}",
    "eval/recognizable_share": "recognizable {:.0%}",
    "eval/frechet_distance": "Frechet {:.1f}",
    "test/collapsed_units": "collapsed {:.0f}",
}
RUN_KEYS = ["data", "objective", "seed", "fault"]  # of a run's config, that its measures depend on
OPEN_KEYS = ("evaluation", "data.root", "train.device", "train.threads")  # what is not settled with a run
OUTDATED = "vae_lab.outdated"  # tag of a parent: a command ended between new measures and its tables

Measured = Literal["new", "there", "failed"]


class Target(NamedTuple):
    """The finished runs that a name stands for, and the study that they are, if they are one."""

    runs: list[StoredRun]
    study: Study | None


def target_named(store: Store, name: str) -> Target:
    """Returns the finished runs of a run id, a parent's id or a study's name; closes those of dead processes.

    Raises:
        UserError: The store knows no such name, the run was deleted, or it has not finished.
    """
    try:
        run = store.record(name)
    except DeletedRunError:
        raise
    except UserError:
        run = None
    if run is None or run.kind != RUN:
        study = load_study(store, name)
        close_abandoned(store, [study.parent, *store.members(study.parent.run_id)])
        return Target([run for run in study.runs if run.status == "FINISHED"], study)
    if run.status != "FINISHED":
        raise UserError(f"{name}: is {run.status}; only finished runs have a model to measure.")
    return Target([run], None)


def evaluate(
    store: Store, name: str, wanted: DictConfig, *, trusted: Collection[str] = (), again: bool = False
) -> int:
    """Measures each finished run of `name` and logs it; writes a study's tables again when all are done.

    A command that ends in between is made up for by the next, also where nothing is left to be measured.

    Args:
        store: Where the runs are kept.
        name: A run's id, a parent's id or a study.
        wanted: The composed config whose `evaluation` and `train.device` are used, and `data.root` if given.
        trusted: Dotted names, beside the lab's own, that may be imported because a run names them.
        again: Measure runs too that have these measures already.

    Returns:
        The number of runs that could not be measured.
    """
    if not wants_measures(wanted):
        raise UserError(
            f"evaluation.{', '.join(EVALUATION_COUNTS)}: all 0, nothing to measure; evaluation.metrics is "
            "empty, too."
        )
    store.settle()  # before anything is measured that could not be kept
    target = target_named(store, name)
    outcomes: list[Measured] = []
    for number, run in enumerate(target.runs, 1):
        label = f"[{number}/{len(target.runs)}] {run.name}"
        try:
            settings = _settings_of(store, run, wanted, trusted)
        except LabError as error:
            outcomes.append(_print_failure(label, error))
            continue
        outcomes.append(add_measures(store, run, label, settings, trusted=trusted, again=again))
        if outcomes[-1] == "there":
            _print("=", "dim", f"{label}  has these measures")
        elif outcomes[-1] == "new" and outcomes.count("new") == 1 and target.study is not None:
            store.recorder(target.study.parent).tag({OUTDATED: "true"})
    if target.study is not None and ("new" in outcomes or OUTDATED in target.study.parent.tags):
        _conclude(store, target.study, wanted)
    return outcomes.count("failed")


def _conclude(store: Store, study: Study, wanted: DictConfig) -> None:
    """Writes a study's tables again, among whose metrics are now those of the user's own."""
    recorder = store.recorder(study.parent)
    if own := own_metrics(wanted.evaluation.metrics):
        record_plan(recorder, study.plan.with_metrics(chosen.metric for chosen in own))
    conclude(store, recorder)
    recorder.tag({OUTDATED: None})


def record_plan(recorder: Recorder, plan: Plan) -> None:
    """Writes a multirun's plan to its parent run, in the place of the one before."""
    with recorder.artifacts(sealed=[PLAN_FILE]) as folder:
        (folder / PLAN_FILE).write_text(plan.to_json(), encoding="utf-8")


def wants_measures(settings: DictConfig) -> bool:
    """Returns whether the evaluation asks for more than what every run has."""
    return any(settings.evaluation[key] for key in (*EVALUATION_COUNTS, "metrics"))


def add_measures(
    store: Store,
    run: StoredRun,
    label: str,
    settings: DictConfig,
    *,
    trusted: Collection[str] = (),
    again: bool = False,
) -> Measured:
    """Measures one run and prints a line that begins with `label`, unless it has the measures already."""
    started = time.monotonic()
    try:
        with console.status(plain(label)):
            metrics = measure_run(store, run, settings, trusted=trusted, again=again)
    except LabError as error:
        return _print_failure(label, error)
    if metrics is None:
        return "there"
    words = [text.format(metrics[key]) for key, text in SUMMARY.items() if key in metrics]
    seconds = f"{time.monotonic() - started:.0f} s"
    _print("✓", "green", "  ".join([label, *words, seconds]))
    return "new"


def _print_failure(label: str, error: LabError) -> Measured:
    _print("✗", "red", f"{label}  {error}")
    return "failed"


def _print(sign: str, style: str, words: str) -> None:
    console.print(Text.assemble((sign, style), " ", plain(words)), soft_wrap=True)


def measure_run(
    store: Store, run: StoredRun, settings: DictConfig, *, trusted: Collection[str] = (), again: bool = False
) -> dict[str, float] | None:
    """Takes those of the wanted measures that the run lacks, and logs them to it.

    What it has at other settings is measured again at the wanted ones; what is not wanted stays.

    Args:
        store: Where the run is kept.
        run: A finished run.
        settings: A checked config with the run's data, objective and seed and the measures that are wanted.
        trusted: Names of model classes that may be imported, beside the lab's own and that of `settings`.
        again: Measure what it has, too.

    Returns:
        The measures; None if it lacks none.

    Raises:
        LabError: Its model cannot be read, or its data have changed.
    """
    data = check_data(run, run_data(settings, devices.resolve(settings.train.device)))
    present = without_absent(measured_at(run.tags), run)
    wanted = measured_at(evaluation_tag(settings, data))
    settings = settings if again else _without_present(settings, present, wanted)
    if not wants_measures(settings):
        return None
    recorder = store.recorder(run)
    names = (settings.model._target_, *trusted)
    model, objective = trained_model(store, run.run_id, settings, data.test.pixels.device, names)
    measured = final_measures(settings, data, objective, model)
    step = _last_step(store, run)
    metrics, tags = measured_anew(run, settings, measured)
    now = ran_on(data.test.pixels.device) | tracking.code_tags()
    recorder.tag(tags | went_on(run.tags, now, step))
    recorder.log(metrics, step)
    # Last, so that a run is said to have only what it has.
    facts = {key: value for key, value in (present | wanted).items() if key not in measured.absent}
    recorder.tag({EVALUATION: " ".join(f"{key}={value}" for key, value in facts.items()) or None})
    return measured.metrics


def _without_present(
    settings: DictConfig, present: Mapping[str, str], wanted: Mapping[str, str]
) -> DictConfig:
    """Returns the settings without the measures that a run has, taken in the way that is wanted."""
    settings = settings.copy()
    for measures, facts in EVALUATION_SETTINGS.items():
        if all(present.get(fact) == wanted.get(fact) for fact in facts):
            settings.evaluation[measures] = 0
    settings.evaluation.metrics = [
        own.name
        for own in own_metrics(settings.evaluation.metrics)
        if present.get(own.metric.key) != own.code
    ]
    return settings


def _settings_of(store: Store, run: StoredRun, wanted: DictConfig, trusted: Collection[str]) -> DictConfig:
    """Returns `wanted` with the run's own data, objective and seed; what it lacks has today's default."""
    stored = stored_config(store, run.run_id)
    try:
        merged = OmegaConf.merge(wanted, OmegaConf.masked_copy(stored, RUN_KEYS))
    except (ValueError, OmegaConfBaseException) as error:
        raise LabError(f"{run.run_id}: its config.yaml cannot be read: {error}") from error
    assert isinstance(merged, DictConfig)
    if wanted.data.root is not None:
        merged.data.root = wanted.data.root
    settings = config.checked(merged)
    check_trusted_loss(settings, trusted, run.run_id)
    return without_foreign_data(settings, run.run_id, trusted, wanted.data.root)


def _last_step(store: Store, run: StoredRun) -> int:
    """Returns the last epoch, where the measures stand in a run that had `evaluation=full` from the start."""
    logged = store.points([run.run_id], ["test/loss"])
    return max([1, *logged.get(run.run_id, {}).get("test/loss", {})])


def evaluation_overrides(overrides: Sequence[str]) -> list[str]:
    """Returns the overrides for a composed config, with `evaluation=full` unless another is chosen.

    Raises:
        UserError: A key that a finished run has settled.

    >>> evaluation_overrides(["train.device=cpu"])
    ['evaluation=full', 'train.device=cpu']
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in OPEN_KEYS and not key.startswith("evaluation."):
            raise UserError(
                f"{override}: a finished run keeps its settings. Valid: evaluation=quick|full|annealed, "
                f"evaluation.*, {', '.join(OPEN_KEYS[1:])}."
            )
    chosen = any(override.startswith("evaluation=") for override in overrides)
    return list(overrides) if chosen else ["evaluation=full", *overrides]
