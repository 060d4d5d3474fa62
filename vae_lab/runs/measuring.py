"""Measures added to finished runs: the model is loaded from the store, nothing is trained again."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape

from vae_lab import checkpoints, config, devices
from vae_lab.config.trust import check_trusted
from vae_lab.data import only_read
from vae_lab.errors import LabError, UserError
from vae_lab.metrics import EVALUATION_KEYS, SETTINGS
from vae_lab.report.conclusion import conclude
from vae_lab.runs.artifacts import full_measures, measured_at
from vae_lab.runs.parts import build_objective, dataset
from vae_lab.runs.progress import console
from vae_lab.studies.comparison import Study, load_study
from vae_lab.tracking import EVALUATION, RUN, Recorder, Store, StoredRun

SHOWN = {  # what a line tells of the measures, as far as they were taken
    "test/negative_log_marginal": "-log p(x) {:.2f}",
    "eval/recognizable_share": "recognizable {:.0%}",
    "eval/frechet_distance": "Frechet {:.1f}",
    "test/collapsed_units": "collapsed {:.0f}",
}

Outcome = Literal["new", "there", "failed"]
WHERE = ("evaluation", "data.root", "train.device", "train.threads")  # what is not settled with a run


class Target(NamedTuple):
    """The runs that a name stands for, and the study that they are, if they are one."""

    runs: list[StoredRun]
    study: Study | None


def find(store: Store, name: str) -> Target:
    """The finished runs of a run id, a parent's id or a study's name.

    Raises:
        UserError: the store knows no such name, or the run has not finished.
    """
    try:
        record = store.record(name)
    except UserError:
        record = None
    if record is None or record.kind != RUN:
        study = load_study(store, name)
        return Target([run for run in study.runs if run.status == "FINISHED"], study)
    if record.status != "FINISHED":
        raise UserError(f"{name}: is {record.status}; only finished runs have a model to measure.")
    return Target([record], None)


def evaluate(
    store: Store, name: str, wanted: DictConfig, *, trusted: Collection[str] = (), again: bool = False
) -> int:
    """Measures each finished run of `name` and logs it; gives the number of runs that could not be measured.

    A study's tables are written again when all of it was gone through.

    Args:
        store: where the runs are kept.
        name: a run's id, a parent's id or a study.
        wanted: the composed config whose `evaluation` and `train.device` are used, and `data.root` if given.
        trusted: dotted names, beside the lab's own, that may be imported because a run names them.
        again: measure runs too that have these measures already.
    """
    if not wants_measures(wanted):
        raise UserError("evaluation.posterior_draws, importance_samples, samples: all 0, nothing to measure.")
    target = find(store, name)
    outcomes: list[Outcome] = []
    for number, record in enumerate(target.runs, 1):
        label = f"[{number}/{len(target.runs)}] {record.name}"
        try:
            settings = _settings(store, record, wanted, trusted)
        except LabError as error:
            outcomes.append(_failed(label, error))
            continue
        outcomes.append(add(store, record, label, settings, trusted=trusted, again=again))
        if outcomes[-1] == "there":
            console.print(f"[dim]=[/dim] {escape(label)}  has these measures", soft_wrap=True)
    if target.study is not None and "new" in outcomes:
        parent = target.study.parent
        conclude(store, Recorder(store, parent.run_id, parent.experiment_id))
    return outcomes.count("failed")


def wants_measures(settings: DictConfig) -> bool:
    """Whether the evaluation asks for more than what every run has."""
    return any(settings.evaluation[measures] for measures in EVALUATION_KEYS)


def add(
    store: Store,
    record: StoredRun,
    label: str,
    settings: DictConfig,
    *,
    trusted: Collection[str] = (),
    again: bool = False,
) -> Outcome:
    """Measures one run and prints a line that begins with `label`, unless it has the measures already."""
    started = time.monotonic()
    try:
        with console.status(escape(label)):
            found = measure(store, record, settings, trusted=trusted, again=again)
    except LabError as error:
        return _failed(label, error)
    if found is None:
        return "there"
    told = [text.format(found[key]) for key, text in SHOWN.items() if key in found]
    seconds = f"{time.monotonic() - started:.0f} s"
    console.print(f"[green]✓[/green] {escape(label)}  {'  '.join([*told, seconds])}", soft_wrap=True)
    return "new"


def _failed(label: str, error: LabError) -> Outcome:
    console.print(f"[red]✗[/red] {escape(label)}  {escape(str(error))}", soft_wrap=True)
    return "failed"


def measure(
    store: Store,
    record: StoredRun,
    settings: DictConfig,
    *,
    trusted: Collection[str] = (),
    again: bool = False,
) -> dict[str, float] | None:
    """Those of the wanted measures that the run lacks, logged to it too; None if it lacks none.

    What it has at other settings is measured again at the wanted ones; what is not wanted stays.

    Args:
        store: where the run is kept.
        record: a finished run.
        settings: a checked config with the run's data, objective and seed and the measures that are wanted.
        trusted: names of model classes that may be imported, beside the lab's own and that of `settings`.
        again: measure what it has, too.

    Raises:
        LabError: its model cannot be read, or its data have changed.
    """
    settings = settings.copy()
    data = dataset(settings.data, devices.resolve(settings.train.device))
    trained_on = record.tags.get("vae_lab.data", "").rpartition(" ")[2]
    if trained_on and trained_on != data.checksum:
        raise LabError(
            f"{record.run_id}: was trained on data {trained_on}, but {data.name} is now {data.checksum}."
        )
    has = _stated(record.tags)
    wants = _stated(measured_at(settings, data))
    for measures, said in SETTINGS.items():
        if not again and all(has.get(key) == wants.get(key) for key in said):
            settings.evaluation[measures] = 0
    if not wants_measures(settings):
        return None
    path = store.download(record.run_id, "model/model.pt")
    names = (settings.model._target_, *trusted)
    model = checkpoints.load_model(path, device=str(data.test.pixels.device), trusted=names)
    found = full_measures(settings, data, build_objective(settings), model)
    recorder = Recorder(store, record.run_id, record.experiment_id)
    recorder.log(found, _last_step(store, record))
    # Last, so that a run is said to have only what it has.
    recorder.tag({EVALUATION: " ".join(f"{key}={value}" for key, value in (has | wants).items())})
    return found


def _stated(tags: Mapping[str, str]) -> dict[str, str]:
    """What a run's tag says of how it was measured: `posterior_draws=5 samples=5000 ...`."""
    parts = (part.partition("=") for part in tags.get(EVALUATION, "").split())
    return {key: value for key, _, value in parts}


def _settings(store: Store, record: StoredRun, wanted: DictConfig, trusted: Collection[str]) -> DictConfig:
    """`wanted` with the run's own data, objective and seed; what an older run lacks has today's default.

    Its config says which function loads the data and from where: only a trusted one is called, and only a
    folder into which nothing would be fetched is used.
    """
    path = store.download(record.run_id, "config.yaml")
    try:
        text = path.read_text()
        config.check_size(text, "config.yaml")
        own = OmegaConf.create(yaml.safe_load(text))
        assert isinstance(own, DictConfig)
        kept = OmegaConf.masked_copy(own, ["data", "objective", "seed"])
        merged = OmegaConf.merge(wanted, kept)
    except (
        *(OSError, ValueError, AssertionError, RecursionError),
        *(yaml.YAMLError, OmegaConfBaseException),
    ) as error:
        raise LabError(f"{record.run_id}: its config.yaml cannot be read: {error}") from error
    assert isinstance(merged, DictConfig)
    if wanted.data.root is not None:
        merged.data.root = wanted.data.root
    checked = config.checked(merged)
    target = check_trusted(checked.data._target_, trusted, f"{record.run_id}: data._target_")
    if checked.data.root is not None and not only_read(target, checked.data.root):
        checked.data.root = wanted.data.root
    return checked


def _last_step(store: Store, record: StoredRun) -> int:
    """The last epoch: where the measures of `evaluation=full` stand in a run that had it from the start."""
    return max(1, len(store.history(record.run_id, "test/loss")))


def allowed(overrides: Sequence[str]) -> list[str]:
    """The overrides for a composed config, with `evaluation=full` unless another is chosen.

    Raises:
        UserError: a key that a finished run has settled.
    """
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in WHERE and not key.startswith("evaluation."):
            raise UserError(
                f"{override}: a finished run keeps its settings. Valid: evaluation=quick|full, evaluation.*, "
                f"{', '.join(WHERE[1:])}."
            )
    chosen = any(override.startswith("evaluation=") for override in overrides)
    return list(overrides) if chosen else ["evaluation=full", *overrides]
