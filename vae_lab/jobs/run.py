"""One run under way: its parts, its record, and what is left to do after each epoch."""

from __future__ import annotations

import json
import logging
import math
import traceback
from contextlib import ExitStack
from typing import NamedTuple

import torch

from vae_lab import config, evaluation, tracking, training
from vae_lab.checkpoints import Checkpoint
from vae_lab.data import Batches
from vae_lab.errors import LabError, quoted, without_credentials
from vae_lab.files import DamagedError
from vae_lab.jobs.artifacts import (
    absent_tag,
    collapse_warning,
    description,
    evaluation_tag,
    final_measures,
    images_tag,
    log_pictures,
    read_back,
    write_artifacts,
    write_step_losses,
)
from vae_lab.jobs.built import build_model, build_objective, build_optimizer, build_schedule
from vae_lab.jobs.commands import run_command
from vae_lab.jobs.job import Job, UnderWayError
from vae_lab.jobs.present import can_go_on, last_epoch, recorded_params
from vae_lab.jobs.progress import Display
from vae_lab.jobs.ran_on import ran_on, went_on
from vae_lab.jobs.under_way import check_run
from vae_lab.objectives import join
from vae_lab.tracking import Recorder, RunFolder, Store, StoredRun
from vae_lab.tracking.abandoned import unfinished_runs
from vae_lab.tracking.environment import experiment_name
from vae_lab.training import DivergedError, Epoch

log = logging.getLogger(__name__)

STEP_LOSS = "train/step_loss"
CHARTED = 320  # of a run's step losses: what a chart of MLflow's UI draws of a curve


class Interrupted(NamedTuple):
    """A run that ended early and can be resumed; without a checkpoint it had no finished epoch."""

    stored: StoredRun
    folder: RunFolder
    checkpoint: Checkpoint | None


class Run:
    """A job under way: `start_or_resume`, then `record_epoch` after every epoch, then `close` or `fail`.

    After every epoch the run is saved on this machine as a `Checkpoint`, before anything of that epoch is
    recorded. A run that was interrupted in between is resumed from there and records that epoch again:
    records of the same time are stored once.

    Args:
        job: What is trained.

    Raises:
        UserError: The config is not valid here; nothing has been written.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        # A loss of its own: several runs of a job do not share the weights that a likelihood may have.
        self.parts = job.parts._replace(objective=build_objective(job.settings))
        settings, parts = self.settings, self.parts
        self.model = build_model(settings, parts.model_arguments)
        join(self.model, parts.objective.likelihood)
        self.model.to(parts.device)
        self.optimizer = build_optimizer(settings, self.model.parameters())
        self.scheduler = build_schedule(settings, self.optimizer)
        self.batches = Batches(
            parts.data.train,
            batch_size=settings.train.batch_size,
            C=self.model.condition_size,
            seed=settings.seed,
            dynamic=settings.data.binarize == "dynamic",
        )
        self.precision = training.chosen_precision(
            settings.train.precision, self.model, parts.objective, self.batches, settings.seed
        )
        self.history: list[dict[str, float]] = []
        self.step_losses: list[float] = []
        self.done = 0  # finished epochs
        self._at = 0  # when the last one was recorded
        self._recorded: dict[int, int] = {}  # epochs that the store has already, and when they were recorded
        self._folder: RunFolder | None = None
        self._display = ExitStack()

    def start_or_resume(self, store: Store, display: Display, *, together: int = 1) -> None:
        """Starts the record, or resumes an interrupted one; `together` runs are trained as one stack."""
        self.shown = self._display.enter_context(display.run(self.job.name, self.settings.train.epochs))
        params = recorded_params(self.job)
        tags = self._tags(together)
        checkpoint = None
        with tracking.start_lock(store.uri):  # of two equal commands at once, the second sees the first's run
            interrupted = None if self.settings.reuse == "never" else self._find_interrupted(store, params)
            if interrupted is None:
                experiment = experiment_name(store, self.settings.tracking.experiment)
                tags |= ran_on(self.parts.device)
                self.recorder = store.start(experiment, self.job.name, kind=tracking.RUN, tags=tags)
                self._folder = _new_folder(store, self.recorder.run_id)
            else:
                self._folder, checkpoint = interrupted.folder, interrupted.checkpoint
                stored, done = interrupted.stored, checkpoint.epoch if checkpoint else 0
                self.recorder = store.reopen(stored.run_id)
                self.recorder.tag(tags | went_on(stored.tags, self.parts.device, done))
        self.recorder.params(params)
        data = self.parts.data
        sizes = {"train": len(data.train), "test": len(data.test), "classes": data.classes}
        self.recorder.dataset(name=data.name, digest=data.checksum, source=data.origin, profile=sizes)
        if checkpoint is None:
            checkpoint = self._save()
        else:
            self._restore(checkpoint)
            self._repair(store)
        self._record(checkpoint)

    def record_epoch(self, epoch: Epoch | DivergedError) -> None:
        """Measures on held-out images, saves the run as it is now, and records the epoch.

        Raises:
            DivergedError: The epoch did, or a held-out term is not finite.
        """
        if isinstance(epoch, DivergedError):
            raise epoch
        settings = self.settings
        held_out = evaluation.held_out(
            self.model,
            self.parts.objective,
            self.parts.data.test,
            seed=settings.seed,
            batch_size=settings.evaluation.batch_size,
            active_threshold=settings.evaluation.active_threshold,
        )
        _check_finite(held_out, epoch.number)
        before = self.history[-1]["train/total_seconds"] if self.history else 0.0
        trained = {
            f"train/{key}": value
            for key, value in epoch._asdict().items()
            if key not in ("number", "step_losses")
        }
        terms = held_out._asdict().items()
        measured = {f"test/{key}": float(value) for key, value in terms if value is not None}
        metrics = {**trained, "train/total_seconds": before + epoch.seconds, **measured}
        self.history.append(metrics)
        self.done = epoch.number
        self.step_losses += epoch.step_losses
        self._record(self._save())
        self.shown.epoch(epoch.number, epoch.loss, held_out.loss)
        self.shown.remark = collapse_warning(metrics, settings.model.latent_size)

    def close(self) -> str:
        """Records the final measures, figures and the model.

        Returns:
            The id of the MLflow run.
        """
        settings, parts, recorder = self.settings, self.parts, self.recorder
        measures = final_measures(settings, parts.data, parts.objective, self.model)
        recorder.log(measures.metrics, settings.train.epochs, when=self._at)
        metrics = self.history[-1] | measures.metrics
        self.shown.remark = collapse_warning(metrics, settings.model.latent_size)
        recorder.tag(evaluation_tag(settings, parts.data) | absent_tag(measures))
        with recorder.artifacts(sealed=read_back(self.model)) as folder:
            write_artifacts(self.job, parts, self.model, self.history, folder)
            write_step_losses(self.step_losses, folder)
        recorder.tag({tracking.NOTE: description(self.job, metrics, measures.reasons())})
        recorder.finish("FINISHED")
        if self._folder is not None:
            self._folder.release(forget=True)
        self._display.close()
        return recorder.run_id

    def fail(self, error: BaseException) -> None:
        """Closes the record as FAILED, or KILLED after an interruption, with the reason."""
        try:
            if hasattr(self, "recorder"):
                _record_failure(self.recorder, error)
        finally:
            if self._folder is not None:
                self._folder.release()
            self._display.__exit__(type(error), error, error.__traceback__)

    def _save(self) -> Checkpoint:
        """Writes the run as it is now to the disk of this machine."""
        assert self._folder is not None
        self._at = self.recorder.now()
        checkpoint = Checkpoint(
            fingerprint=self.parts.fingerprint,
            epoch=self.done,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=None if self.scheduler is None else self.scheduler.state_dict(),
            precision=self.precision,
            threads=torch.get_num_threads(),
            history=self.history,
            step_losses=self.step_losses,
            at=self._at,
        )
        try:
            checkpoint.save(self._folder.checkpoint)
        except OSError as error:
            raise LabError(
                f"{self._folder.folder}: epoch {self.done} cannot be kept here: {error.strerror or error}. "
                "Free some space; then the same command goes on after the last epoch that is kept."
            ) from error
        return checkpoint

    def _record(self, checkpoint: Checkpoint) -> None:
        """Records the epoch of a checkpoint; again, if it is not known whether it was."""
        step = checkpoint.epoch
        self._at = at = self._recorded.get(step, checkpoint.at)
        if step and step not in self._recorded:
            heartbeat = {tracking.HEARTBEAT: json.dumps({"epoch": step, "at": at})}
            self.recorder.log(checkpoint.history[-1], step, self._curve(step), tags=heartbeat, when=at)
        log_pictures(self.settings, self.parts, self.model, self.recorder, step=step, when=at)

    def _curve(self, epoch: int) -> tuple[str, dict[int, float]]:
        """Returns those losses of an epoch's steps that the store's chart shows; the run's file has all."""
        steps = len(self.batches)
        every = -(-self.settings.train.epochs * steps // CHARTED)
        last = epoch * steps
        shown = {step for step in range(last - steps + 1, last + 1) if (step - 1) % every == 0} | {last}
        return STEP_LOSS, {step: self.step_losses[step - 1] for step in sorted(shown)}

    def _find_interrupted(self, store: Store, params: dict[str, str]) -> Interrupted | None:
        """Returns a run of the same result to resume: one that has a checkpoint, or no epoch yet.

        Raises:
            UnderWayError: Another process is at work on one, or about to be.
        """
        unfinished = unfinished_runs(store, tracking.FINGERPRINT, self.parts.fingerprint)
        check_run(self.job, unfinished)
        for stored in unfinished:
            if not can_go_on(stored, params):
                continue
            folder = RunFolder.lock(store.uri, stored.run_id)
            if folder is None:
                raise UnderWayError(f"{self.job.name}: another process goes on with it at this moment.")
            try:
                return Interrupted(stored, folder, last_epoch(stored, folder.checkpoint))
            except FileNotFoundError:
                folder.release()
                run_id = stored.run_id[:8]
                log.info(f"{self.job.name}: what run {run_id} needs to go on is not on this machine.")
            except DamagedError as error:
                folder.release(forget=True)
                log.warning(f"{error} {self.job.name} is trained from the start, as a new run.")
            self._replace_in_multirun(store, stored)
        return None

    def _replace_in_multirun(self, store: Store, stored: StoredRun) -> None:
        """Takes a run that cannot be resumed out of the multirun, in which this one takes its place."""
        if self.job.multirun is not None:
            member = tracking.member_tag(self.job.multirun.parent_run_id)
            if member in stored.tags:
                store.recorder(stored).tag({member: None})

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if self.scheduler is not None and checkpoint.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint.scheduler)
        self.precision, self.history = checkpoint.precision, checkpoint.history
        self.step_losses = checkpoint.step_losses
        self.done, self._at = checkpoint.epoch, checkpoint.at
        if self.parts.device.type == "cpu":
            torch.set_num_threads(checkpoint.threads)
        if checkpoint.epoch:
            self.shown.show_resumed(checkpoint.epoch)

    def _repair(self, store: Store) -> None:
        """Compares checkpoint and store, of which a backup may have set back either.

        What the store lacks is recorded from the checkpoint; what it has already is not recorded again.
        """
        recorded = store.recorded_at(self.recorder.run_id, "test/loss")
        if recorded is None:
            return
        self._recorded = recorded
        missing = [epoch for epoch in range(1, self.done) if epoch not in recorded]
        for epoch in missing:
            at = self._at - (self.done - epoch)
            self.recorder.log(self.history[epoch - 1], epoch, self._curve(epoch), when=at)
        if missing:
            log.warning(
                f"{self.job.name}: the store had lost {len(missing)} epochs between {missing[0]} and "
                f"{missing[-1]}: their metrics are recorded again."
            )

    def _tags(self, together: int) -> dict[str, str | None]:
        parts, multirun = self.parts, self.job.multirun
        tags: dict[str, str | None] = {
            tracking.FINGERPRINT: parts.fingerprint,
            "vae_lab.data": f"{parts.data.name} {parts.data.checksum}",
            tracking.IMAGES: images_tag(parts.data),
            tracking.COMMAND: run_command(self.job),
            tracking.STUDY: multirun.study if multirun else self.settings.study.name,
        }
        if self.settings.fault != config.NOTHING:
            tags[tracking.FAULT] = self.settings.fault
        if self.precision != self.settings.train.precision:
            tags["vae_lab.precision"] = self.precision
        if together > 1:
            tags["vae_lab.stack"] = str(together)
        if multirun:
            tags[tracking.PARENT] = multirun.parent_run_id
            tags[tracking.member_tag(multirun.parent_run_id)] = "1"
        return {key: value for key, value in tags.items() if value is not None}


def _check_finite(held_out: evaluation.HeldOut, epoch: int) -> None:
    """Raises a DivergedError: a step's terms are checked before its update, the last step's only here."""
    for term, value in held_out._asdict().items():
        if value is not None and not math.isfinite(value):
            raise DivergedError.of(f"held-out {term}", value, f"after epoch {epoch}")


def _new_folder(store: Store, run_id: str) -> RunFolder:
    folder = RunFolder.lock(store.uri, run_id)
    assert folder is not None, "a run that was just made has no other process"
    return folder


def _record_failure(recorder: Recorder, error: BaseException) -> None:
    stopped = isinstance(error, KeyboardInterrupt)
    try:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        recorder.tag({tracking.ERROR: quoted(reason, 500)})
        if not stopped and not isinstance(error, LabError):
            with recorder.artifacts() as folder:
                text = without_credentials("".join(traceback.format_exception(error)))
                (folder / "traceback.txt").write_text(text, encoding="utf-8")
    finally:
        recorder.finish("KILLED" if stopped else "FAILED")
