"""One run under way: its parts, its record, and what is left to do after each epoch."""

from __future__ import annotations

import json
import logging
import math
import traceback
from contextlib import ExitStack

import torch
from omegaconf import DictConfig

from vae_lab import config, devices, evaluation, machine, tracking, training
from vae_lab.checkpoints import Checkpoint
from vae_lab.data import Batches
from vae_lab.errors import LabError, UserError
from vae_lab.files import DamagedError
from vae_lab.models import parameter_count
from vae_lab.runs.artifacts import (
    READ_BACK,
    again,
    collapse,
    description,
    full_measures,
    log_pictures,
    measured_at,
    write_results,
)
from vae_lab.runs.parts import build_model, build_optimizer, build_schedule, prepare
from vae_lab.runs.progress import Display
from vae_lab.tracking import Recorder, RunFolder, Store, StoredRun
from vae_lab.training import DivergedError, Epoch

log = logging.getLogger(__name__)


class Run:
    """A configuration that is being trained; `open`, then `after` every epoch, then `close` or `fail`.

    After every epoch the run is kept on this machine as a `Checkpoint`, before anything of that epoch is
    recorded. One that ended in between is gone on with from there, and says again what it may not have said:
    records of the same time are kept once.

    Args:
        settings: the checked config.
        overrides: the command line's part of it, for the command that the record names.

    Raises:
        UserError: the config is not valid here; nothing has been written.
    """

    def __init__(self, settings: DictConfig, overrides: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self.overrides = overrides
        check_alone(settings)
        self.parts = prepare(settings)
        self.name = settings.tracking.run_name or config.run_name(settings)
        self.model = build_model(settings, self.parts.model_arguments).to(self.parts.device)
        self.optimizer = build_optimizer(settings, self.model.parameters())
        self.scheduler = build_schedule(settings, self.optimizer)
        self.batches = Batches(
            self.parts.data.train,
            batch_size=settings.train.batch_size,
            C=self.model.condition_size,
            seed=settings.seed,
            dynamic=settings.data.binarize == "dynamic",
        )
        self.precision = training.chosen_precision(
            settings.train.precision, self.model, self.parts.objective, self.batches, settings.seed
        )
        self.history: list[dict[str, float]] = []
        self.done = 0  # finished epochs
        self._at = 0  # when the last one was recorded
        self._hold: RunFolder | None = None
        self._display = ExitStack()

    def open(self, store: Store, display: Display, *, together: int = 1) -> None:
        """Starts the record, or goes on with an interrupted one; `together` runs are trained as one stack."""
        self.shown = self._display.enter_context(display.run(self.name, self.settings.train.epochs))
        params = config.parameters(self.settings) | {"model.parameters": str(parameter_count(self.model))}
        tags = self._tags(together)
        found = None if self.settings.reuse == "never" else self._interrupted(store, params)
        if found is None:
            self.recorder = store.start(
                self.settings.tracking.experiment, self.name, kind=tracking.RUN, tags=tags
            )
            self._hold = _held(store, self.recorder.run_id)
            kept = None
        else:
            record, self._hold, kept = found
            self.recorder = store.reopen(record.run_id)
            self.recorder.tag(tags)
        self.recorder.params(params)
        self.recorder.dataset(self.parts.data)
        if kept is None:
            kept = self._keep([])
        else:
            self._restore(kept)
        self._record(kept)

    def after(self, epoch: Epoch) -> None:
        """Measures on held-out images, keeps the run as it is now, and records the epoch."""
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
        metrics = {
            **{
                f"train/{key}": value
                for key, value in epoch._asdict().items()
                if key not in ("number", "step_losses")
            },
            "train/total_seconds": before + epoch.seconds,
            **{f"test/{key}": float(value) for key, value in held_out._asdict().items()},
        }
        self.history.append(metrics)
        self.done = epoch.number
        self._record(self._keep(epoch.step_losses))
        self.shown.epoch(epoch.number, epoch.loss, held_out.loss)
        self.shown.remark = collapse(metrics, self.settings.model.latent_size)

    def close(self) -> str:
        """Records the final measures, figures and the model; gives the id of the MLflow run."""
        settings, parts, recorder = self.settings, self.parts, self.recorder
        measures = full_measures(settings, parts.data, parts.objective, self.model)
        recorder.log(measures, settings.train.epochs, when=self._at)
        final = self.history[-1] | measures
        self.shown.remark = collapse(final, settings.model.latent_size)
        recorder.tag(measured_at(settings, parts.data))
        with recorder.artifacts(sealed=READ_BACK) as folder:
            write_results(settings, parts, self.model, self.history, folder, self.name)
        recorder.tag({tracking.NOTE: description(settings, parts, final, self.overrides)})
        recorder.finish("FINISHED")
        if self._hold is not None:
            self._hold.release(forget=True)
        self._display.close()
        return recorder.run_id

    def fail(self, error: BaseException) -> None:
        """Closes the record as FAILED, or KILLED after an interruption, with the reason."""
        try:
            if hasattr(self, "recorder"):
                _record_failure(self.recorder, error)
        finally:
            if self._hold is not None:
                self._hold.release()
            self._display.__exit__(type(error), error, error.__traceback__)

    def _keep(self, step_losses: list[float]) -> Checkpoint:
        """Puts the run as it is now on the disk of this machine."""
        assert self._hold is not None
        self._at = self.recorder.now()
        kept = Checkpoint(
            fingerprint=self.parts.fingerprint,
            epoch=self.done,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler=None if self.scheduler is None else self.scheduler.state_dict(),
            precision=self.precision,
            threads=torch.get_num_threads(),
            history=self.history,
            step_losses=step_losses,
            at=self._at,
        )
        try:
            kept.save(self._hold.checkpoint)
        except OSError as error:
            raise LabError(
                f"{self._hold.folder}: epoch {self.done} cannot be kept here: {error.strerror or error}. "
                "Free some space; then the same command goes on after the last epoch that is kept."
            ) from error
        return kept

    def _record(self, kept: Checkpoint) -> None:
        """Records an epoch that is kept; again, if it is not known whether it was."""
        if kept.epoch:
            curve = ("train/step_loss", kept.step_losses, (kept.epoch - 1) * len(self.batches) + 1)
            beat = {tracking.HEARTBEAT: json.dumps({"epoch": kept.epoch, "at": kept.at})}
            self.recorder.log(kept.history[-1], kept.epoch, curve, tags=beat, when=kept.at)
        log_pictures(self.settings, self.parts, self.model, self.recorder, step=kept.epoch, when=kept.at)

    def _interrupted(
        self, store: Store, params: dict[str, str]
    ) -> tuple[StoredRun, RunFolder, Checkpoint | None] | None:
        """A run of the same result to go on with: one that has a checkpoint, or no epoch yet."""
        for record in store.unfinished(tracking.FINGERPRINT, self.parts.fingerprint):
            if any(params.get(key) != value for key, value in record.params.items()):
                continue
            hold = RunFolder.lock(store.uri, record.run_id)
            if hold is None:  # another process goes on with it
                continue
            try:
                return record, hold, Checkpoint.load(hold.checkpoint)
            except FileNotFoundError:
                if not record.metrics:
                    return record, hold, None
                hold.release()
                log.info(f"{self.name}: what run {record.run_id[:8]} needs to go on is not on this machine.")
            except DamagedError as error:
                hold.release(forget=True)
                log.warning(f"{error} {self.name} is trained from the start, as a new run.")
            self._take_place_of(store, record)
        return None

    def _take_place_of(self, store: Store, record: StoredRun) -> None:
        """Takes a run that cannot go on out of the multirun in which this one is trained in its place."""
        parent = self.settings.tracking.parent_run_id
        if parent is not None and (member := tracking.member_tag(parent)) in record.tags:
            Recorder(store, record.run_id, record.experiment_id).tag({member: None})

    def _restore(self, kept: Checkpoint) -> None:
        self.model.load_state_dict(kept.model)
        self.optimizer.load_state_dict(kept.optimizer)
        if self.scheduler is not None and kept.scheduler is not None:
            self.scheduler.load_state_dict(kept.scheduler)
        self.precision, self.history = kept.precision, kept.history
        self.done, self._at = kept.epoch, kept.at
        if self.parts.device.type == "cpu":
            torch.set_num_threads(kept.threads)
        if kept.epoch:
            self.shown.goes_on(kept.epoch)

    def _tags(self, together: int) -> dict[str, str | None]:
        settings, parts = self.settings, self.parts
        tags: dict[str, str | None] = {
            tracking.FINGERPRINT: parts.fingerprint,
            "vae_lab.data": f"{parts.data.name} {parts.data.checksum}",
            "vae_lab.device": devices.describe(parts.device),
            tracking.ENVIRONMENT: json.dumps(machine.describe(parts.device)),
            tracking.COMMAND: again(settings, self.overrides),
        }
        if self.precision != settings.train.precision:
            tags["vae_lab.precision"] = self.precision
        if together > 1:
            tags["vae_lab.stack"] = str(together)
        if settings.tracking.parent_run_id:
            tags[tracking.PARENT] = settings.tracking.parent_run_id
            tags[tracking.member_tag(settings.tracking.parent_run_id)] = "1"
        if study := settings.tracking.study or settings.study.name:
            tags[tracking.STUDY] = study
        return tags


def _check_finite(held_out: evaluation.HeldOut, epoch: int) -> None:
    """A step's terms are looked at before its update; that of the last step shows only here."""
    for term, value in held_out._asdict().items():
        if not math.isfinite(value):
            raise DivergedError.of(f"held-out {term}", value, f"after epoch {epoch}")


def check_alone(settings: DictConfig) -> None:
    """Raises a UserError if a run that is no multirun's was given what only a multirun has."""
    if settings.seeds is not None and settings.tracking.parent_run_id is None:
        raise UserError(
            f"seeds={settings.seeds}: is for a multirun; add -m, or choose sweeps=... or experiments=..."
        )


def _held(store: Store, run_id: str) -> RunFolder:
    try:
        hold = RunFolder.lock(store.uri, run_id)
    except OSError as error:
        raise tracking.unwritable(store.uri, error) from error
    assert hold is not None, "a run that was just made has no other process"
    return hold


def _record_failure(recorder: Recorder, error: BaseException) -> None:
    stopped = isinstance(error, KeyboardInterrupt)
    try:
        recorder.tag({tracking.ERROR: (str(error) or type(error).__name__).splitlines()[0][:500]})
        if not stopped and not isinstance(error, LabError):
            with recorder.artifacts() as folder:
                (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    finally:
        recorder.finish("KILLED" if stopped else "FAILED")
