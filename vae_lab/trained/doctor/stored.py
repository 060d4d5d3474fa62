"""A run of a store as a subject: its model, data and loss as it was trained with them, and its record."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from omegaconf import DictConfig
from torch import Tensor

from vae_lab import config, devices, evaluation, objectives
from vae_lab.config.trust import check_trusted, check_trusted_loss
from vae_lab.data import Batches, Dataset
from vae_lab.errors import LabError, UserError
from vae_lab.evaluation.bounds import evenly_spaced
from vae_lab.jobs.parts.built import build_objective
from vae_lab.jobs.parts.prepared import first_model
from vae_lab.jobs.parts.stored import data_of, settings_of_params
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Objective
from vae_lab.studies.names import UnknownStudyError
from vae_lab.studies.study import load_study
from vae_lab.tracking import ERROR, FAULT, KIND, RUN, STEPS_FILE, Reader, StoredRun
from vae_lab.trained.doctor.audit import audited
from vae_lab.trained.doctor.findings import FAULT as WORST
from vae_lab.trained.doctor.findings import Report, worst_first
from vae_lab.trained.doctor.lab_model import lab_subject
from vae_lab.trained.doctor.subject import Recorded, Subject
from vae_lab.trained.doctor.training import of_record
from vae_lab.trained.loading import model_of
from vae_lab.trained.model import TrainedModel
from vae_lab.trained.reference import chosen_run

IMAGES = 1000  # held-out images of an audit
COMPARED = ("test/reconstruction", "test/kl", "test/loss")


def runs_named(store: Reader, name: str) -> list[StoredRun]:
    """Returns the runs that a name stands for: a study's, else the one that `vae_lab.load` would take.

    A run that did not finish is named by its id or its name, too, if no other run has that.

    Raises:
        UserError: The store has none of that name, or several.
    """
    try:
        return load_study(store, name).runs
    except UnknownStudyError:
        pass
    unfinished = [run for run in store.tagged(KIND, RUN) if run.status != "FINISHED"]
    named = [run for run in unfinished if name in (run.run_id, run.name)]
    try:
        return [chosen_run(store, name).run]
    except UserError:
        if len(named) != 1:
            raise
        return named


def audited_runs(
    store: Reader, runs: Sequence[StoredRun], *, device: str = "cpu", trusted: Collection[str] = ()
) -> Iterator[Report]:
    """Yields what the doctor finds of each run; of one among several that cannot be examined, why.

    Raises:
        LabError: The only run cannot be examined.
    """
    for run in runs:
        try:
            yield audited_run(store, run, device=device, trusted=trusted)
        except LabError as error:
            if len(runs) == 1:
                raise
            yield Report(run.name, [], failure=str(error))


def audited_run(
    store: Reader, run: StoredRun, *, device: str = "cpu", trusted: Collection[str] = ()
) -> Report:
    """Returns what the doctor finds of a run.

    Of one that did not finish there is no model: it is judged by its record, and by its first weights.

    Args:
        store: Where it is kept.
        run: The run.
        device: Where it is audited.
        trusted: Names of classes and functions, beside the lab's own, that may be imported.

    Raises:
        UserError: The run names a class that is not trusted.
        LabError: Its files cannot be read, or its data have changed.
    """
    injected = run.tags.get(FAULT, "")
    if run.status == "FINISHED":
        lab = model_of(store, run, device=device, trust=trusted)
        losses = _step_losses(store, run)
        subject = _subject(run, lab.config, lab.module, lab.objective, lab.data)
        report = audited(replace(subject, recorded=_recorded(store, lab), losses=losses))
        return Report(run.name, report.findings, report.unexamined, injected)
    settings = settings_of_params(run.params)
    check_trusted(settings.model._target_, trusted, f"{run.run_id}: model._target_")
    check_trusted_loss(settings, trusted, run.run_id)
    data = data_of(run, settings, devices.resolve(device, "device"), trusted)
    objective = build_objective(settings)
    model = first_model(settings, data, objective).to(data.test.pixels.device)
    subject = replace(_subject(run, settings, model.eval(), objective, data), trained=False)
    report = audited(subject)
    ended = of_record(Recorded({}, {}, None, None, run.tags.get(ERROR, "")))
    faults = [finding for finding in report.findings if finding.grade == WORST]
    why = f"the run is {run.status}: only its first weights were examined"
    name = f"{run.name} ({run.status})"
    return Report(name, worst_first([*faults, *ended]), {"trained model": why}, injected)


def _step_losses(store: Reader, run: StoredRun) -> list[float]:
    """Returns the losses of a run's steps: all of them, or where there is no file those of its chart."""
    try:
        rows = store.download(run.run_id, STEPS_FILE).read_text(encoding="utf-8").splitlines()[1:]
        return [float(row.partition(",")[2]) for row in rows]
    except (LabError, OSError, ValueError):
        return store.history(run.run_id, "train/step_loss")


def _subject(
    run: StoredRun, settings: DictConfig, model: VAE, objective: Objective, data: Dataset
) -> Subject:
    def loss(logits: Tensor, x: Tensor, posterior: Posterior) -> Tensor:
        if objective.draws is not None:
            raise LabError(f"it takes {objective.draws} draws of z an image, and is no sum of two terms")
        terms = objective(logits, x, posterior)
        return terms.loss - objective.penalty_weight * objectives.penalty(objective.penalty, posterior)

    return lab_subject(
        run.name,
        model,
        evenly_spaced(data.test.scaled(slice(None)), IMAGES),
        evenly_spaced(data.test.labels, IMAGES),
        loss=loss,
        beta=settings.objective.beta,
        expected=objective.likelihood.mean,
        negative_log=objective.likelihood.negative_log,
        train_images=_seen_in_training(settings, data),
    )


def _seen_in_training(settings: DictConfig, data: Dataset) -> Tensor:
    """Returns a minibatch of training images as the model saw them."""
    dynamic = settings.data.binarize == "dynamic"
    x, _ = next(Batches(data.train, batch_size=IMAGES, C=0, seed=settings.seed, dynamic=dynamic)(1))
    return x


def _recorded(store: Reader, lab: TrainedModel) -> Recorded:
    """Returns a run's record beside the same by the lab's own formulas."""
    settings = lab.config.copy()
    settings.fault = config.NOTHING
    sound = build_objective(settings)
    sound.likelihood = lab.likelihood  # with the weights that it learned, if it has any
    held_out = evaluation.held_out(
        lab.module,
        sound,
        lab.data.test,
        seed=settings.seed,
        batch_size=settings.evaluation.batch_size,
    )
    measured = {f"test/{key}": value for key, value in held_out._asdict().items()}
    rates = store.history(lab.run.run_id, "train/learning_rate")
    return Recorded(
        recorded=lab.metrics,
        recomputed={key: float(measured[key]) for key in COMPARED},
        rate=settings.optimizer.get("lr") if settings.scheduler is None else None,
        first_rate=rates[0] if rates else None,
        error="",
    )
