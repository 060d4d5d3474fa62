"""The record of one run under way: begun or resumed, kept on this machine after each epoch, and closed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from vae_lab import config, tracking
from vae_lab.checkpoints import Checkpoint
from vae_lab.errors import LabError, quoted
from vae_lab.jobs.commands import run_command
from vae_lab.jobs.job import Job, Result
from vae_lab.jobs.progress import Display
from vae_lab.jobs.runs.artifacts import collapse_warning, images_tag, write_config
from vae_lab.jobs.runs.interrupted import find_interrupted
from vae_lab.jobs.runs.present import recorded_params
from vae_lab.jobs.runs.ran_on import went_on
from vae_lab.jobs.runs.reports import (
    Assignment,
    Began,
    Failed,
    Finished,
    Reached,
    Report,
    drop_frames,
    trace_of,
)
from vae_lab.tracking import Recorder, RunFolder, Store
from vae_lab.tracking.environment import experiment_name

if TYPE_CHECKING:
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MARKS = {tracking.STOPPED, tracking.WAITING}  # tags of a run that nobody is at work on
STEP_LOSS = "train/step_loss"
CHARTED = 320  # of a run's step losses: what a chart of MLflow's UI draws of a curve


class Run:
    """The record of a job under way: `start_or_resume`, then `take` what its training reports, or `fail`.

    After every epoch the run is saved on this machine as a `Checkpoint`, before anything of that epoch is
    recorded. A run that was interrupted in between is resumed from there and records that epoch again:
    records of the same time are stored once.

    Args:
        job: What is trained.
    """

    def __init__(self, job: Job) -> None:
        self.job, self.settings = job, job.settings
        self.result: Result | None = None  # once it has ended
        self.lost_workers = 0  # of those that trained it
        self.done: int | None = None  # epochs in the file of its checkpoint; None before there is one
        self.history: list[dict[str, float]] = []  # metrics of every epoch
        self._metrics: dict[str, float] = {}  # of its last epoch
        self._at = 0  # when the last one was recorded
        self._code: dict[str, str] = {}  # tags of the code that it goes on with; a new run has them already
        self._ran_on: dict[str, str] = {}  # tags of what the epochs behind it ran on
        self._runs_on: dict[str, str] = {}  # the same, with what it is trained on now
        self._recorded: dict[int, int] = {}  # epochs that the store has already, and when they were recorded
        self._marks: dict[str, None] = {}  # tags that it takes off once it has gone on
        self._folder: RunFolder | None = None
        self._display = ExitStack()

    def start_or_resume(self, store: Store, display: Display, *, together: int = 1) -> None:
        """Starts the record, or resumes an interrupted one; `together` runs are trained as one stack.

        Raises:
            UnderWayError: Another process is at work on it; nothing has been written.
        """
        self.shown = self._display.enter_context(display.run(self.job.name, self.settings.train.epochs))
        params = recorded_params(self.job)
        tags = self._tags(together)
        checkpoint = None
        with tracking.start_lock(store.uri):  # of two equal commands at once, the second sees the first's run
            interrupted = find_interrupted(self.job, store, params)
            if interrupted is None:
                experiment = experiment_name(store, self.settings.tracking.experiment)
                self.recorder = store.start(experiment, self.job.name, kind=tracking.RUN, tags=tags)
                self._folder = _new_folder(store, self.recorder.run_id)
            else:
                self._folder, checkpoint = interrupted.folder, interrupted.checkpoint
                self._ran_on, self._code = dict(interrupted.stored.tags), tracking.code_tags()
                self.recorder = store.reopen(interrupted.stored.run_id)
                self.recorder.tag(tags | dict.fromkeys(MARKS & self._ran_on.keys()))
        self.recorder.params(params)
        data = self.job.parts.data
        sizes = {"train": len(data.train), "test": len(data.test), "classes": data.classes}
        self.recorder.dataset(name=data.name, digest=data.checksum, source=data.origin, profile=sizes)
        if checkpoint is not None:
            self._resume(checkpoint, store)

    def start_or_fail(self, store: Store, display: Display, *, together: int) -> None:
        """Starts or resumes the record; what fails ends the run."""
        try:
            self.start_or_resume(store, display, together=together)
        except Exception as error:
            self.fail(error, trace_of(error))

    @property
    def is_open(self) -> bool:
        """Whether its record has been started and not closed."""
        return hasattr(self, "recorder") and self.result is None

    def ended(self) -> Result:
        """Returns what became of a run that has ended."""
        assert self.result is not None
        return self.result

    def assignment(self, until: int | None = None) -> Assignment:
        """Returns what is left to train, up to an epoch; None for all of it."""
        assert self._folder is not None
        checkpoint = None if self.done is None else Checkpoint.load(self._folder.checkpoint)
        return Assignment(self.job, checkpoint, self.settings.train.epochs if until is None else until)

    def take(self, report: Report) -> None:
        """Records what the training of this run reports; what fails ends the run."""
        try:
            match report:
                case Began():
                    self._begin(report)
                case Reached():
                    self.reach(report)
                case Finished():
                    self.close(report)
                case Failed():
                    self.fail(report.error, report.trace)
        except Exception as error:
            self.fail(error, trace_of(error))

    def reach(self, reached: Reached) -> None:
        """Saves the run as it is now and records the epoch; again, if it is not known whether it was."""
        checkpoint = reached.checkpoint
        is_new = self.done is None or checkpoint.epoch > self.done
        checkpoint = self._save(checkpoint) if is_new else checkpoint._replace(at=self._at)
        if is_new:  # else who trains it has come to nothing yet, and may be lost before
            self._ran_on |= self._runs_on
        self._record(checkpoint, reached.pictures)
        if is_new:
            self._take_off_marks()  # not before: until then its last sign of life is of before it waited
        if checkpoint.epoch:
            self.history = checkpoint.history
            self._metrics = metrics = checkpoint.history[-1]
            if is_new:
                self.shown.epoch(checkpoint.epoch, metrics["train/loss"], metrics["test/loss"])
            self._warn_of_collapse()

    def close(self, finished: Finished) -> None:
        """Records the final measures, figures and the model."""
        recorder = self.recorder
        self._take_off_marks()
        recorder.log(finished.metrics, self.settings.train.epochs, when=self._at)
        self._metrics = {**self._metrics, **finished.metrics}
        self._warn_of_collapse()
        at_end = finished.tags.get(tracking.EVALUATION, tracking.NO_EVALUATION)
        recorder.tag({**finished.tags, tracking.EVALUATION_AT_END: at_end})
        with recorder.artifacts(sealed=finished.read_back) as folder:
            write_config(self.settings, folder)
            for path, content in finished.files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)
        recorder.tag({tracking.NOTE: finished.note})
        recorder.finish("FINISHED")
        if self._folder is not None:
            self._folder.release(forget=True)
        self._display.close()
        self.result = recorder.run_id

    def pause(self, waits_for: str) -> None:
        """Takes the run off the display until it goes on, and records what it waits for, TURN or WORKER.

        Other machines hear nothing of it meanwhile, and know by this that they have to ask for others.
        """
        self.shown.hide()
        self._marks = {tracking.WAITING: None}
        try:
            self.recorder.tag({tracking.WAITING: waits_for})
        except Exception as error:
            self.fail(error, trace_of(error))

    def _take_off_marks(self) -> None:
        self.recorder.tag(self._marks)
        self._marks = {}

    def stop(self) -> None:
        """Closes the record of a run that pauses and is not wanted any longer; the same command goes on."""
        self.recorder.tag({**self._marks, tracking.STOPPED: str(self.done or 0)})
        self.recorder.finish("KILLED")
        if self._folder is not None:
            self._folder.release()
        self.shown.stop(self.done or 0)
        self._display.close()
        self.result = self.recorder.run_id

    def fail(self, error: BaseException, trace: str = "") -> None:
        """Closes the record as FAILED, or KILLED after an interruption, with the reason and the trace."""
        try:
            if hasattr(self, "recorder"):
                _record_failure(self.recorder, error, trace)
        finally:
            if self._folder is not None:
                self._folder.release()
            self._display.__exit__(type(error), error, error.__traceback__)
            if isinstance(error, Exception):
                self.result = error

    def let_go(self) -> None:
        """Lets go of what nobody asks of a run that has ended: its curves, and the frames of its error."""
        self.history, self._recorded = [], {}
        if isinstance(self.result, Exception):
            drop_frames(self.result)

    def _begin(self, began: Began) -> None:
        """Records what the run is trained on, beside what its epochs until now ran on.

        It begins anew with every worker that it is given to, and with every segment of a search.
        """
        self._runs_on = went_on(self._ran_on, {**began.tags, **self._code}, self.done or 0)
        tags = dict(self._runs_on)
        if began.precision != self.settings.train.precision:
            tags["vae_lab.precision"] = began.precision
        self.recorder.tag(tags)

    def _warn_of_collapse(self) -> None:
        self.shown.remark = collapse_warning(self._metrics, self.settings.model.latent_size)

    def _save(self, state: Checkpoint) -> Checkpoint:
        """Writes a state of the run to the disk of this machine; returns it with the time of its record."""
        assert self._folder is not None
        self._at = self.recorder.now()
        checkpoint = state._replace(at=self._at)
        try:
            checkpoint.save(self._folder.checkpoint)
        except OSError as error:
            raise LabError(
                f"{self._folder.folder}: epoch {state.epoch} cannot be kept here: {error.strerror or error}. "
                "Free some space; then the same command goes on after the last epoch that is kept."
            ) from error
        self.done = state.epoch
        return checkpoint

    def _record(self, checkpoint: Checkpoint, pictures: Mapping[str, NDArray[Any]]) -> None:
        """Records the epoch of a checkpoint; again, if it is not known whether it was."""
        step = checkpoint.epoch
        self._at = at = self._recorded.get(step, checkpoint.at)
        if step and step not in self._recorded:
            heartbeat = {tracking.HEARTBEAT: json.dumps({"epoch": step, "at": at})}
            self.recorder.log(
                checkpoint.history[-1], step, self._curve(checkpoint, step), tags=heartbeat, when=at
            )
        for key, picture in pictures.items():
            self.recorder.image(key, picture, step, when=at)

    def _curve(self, checkpoint: Checkpoint, epoch: int) -> tuple[str, dict[int, float]]:
        """Returns those losses of an epoch's steps that the store's chart shows; the run's file has all."""
        steps = len(checkpoint.step_losses) // checkpoint.epoch
        every = -(-self.settings.train.epochs * steps // CHARTED)
        last = epoch * steps
        shown = {step for step in range(last - steps + 1, last + 1) if (step - 1) % every == 0} | {last}
        return STEP_LOSS, {step: checkpoint.step_losses[step - 1] for step in sorted(shown)}

    def _resume(self, checkpoint: Checkpoint, store: Store) -> None:
        self.done, self._at, self.history = checkpoint.epoch, checkpoint.at, checkpoint.history
        if checkpoint.epoch:
            self.shown.show_resumed(checkpoint.epoch)
        self._repair(checkpoint, store)

    def _repair(self, checkpoint: Checkpoint, store: Store) -> None:
        """Compares checkpoint and store, of which a backup may have set back either.

        What the store lacks is recorded from the checkpoint; what it has already is not recorded again.
        """
        recorded = store.recorded_at(self.recorder.run_id, "test/loss")
        if recorded is None:
            return
        self._recorded = recorded
        done = checkpoint.epoch
        missing = [epoch for epoch in range(1, done) if epoch not in recorded]
        for epoch in missing:
            at = checkpoint.at - (done - epoch)
            self.recorder.log(checkpoint.history[epoch - 1], epoch, self._curve(checkpoint, epoch), when=at)
        if missing:
            log.warning(
                f"{self.job.name}: the store had lost {len(missing)} epochs between {missing[0]} and "
                f"{missing[-1]}: their metrics are recorded again."
            )

    def _tags(self, together: int) -> dict[str, str | None]:
        parts, multirun = self.job.parts, self.job.multirun
        tags: dict[str, str | None] = {
            tracking.FINGERPRINT: parts.fingerprint,
            "vae_lab.data": f"{parts.data.name} {parts.data.checksum}",
            tracking.IMAGES: images_tag(parts.data),
            tracking.COMMAND: run_command(self.job),
            tracking.STUDY: multirun.study if multirun else self.settings.study.name,
        }
        if self.settings.fault != config.NOTHING:
            tags[tracking.FAULT] = self.settings.fault
        if together > 1:
            tags["vae_lab.stack"] = str(together)
        if multirun:
            tags[tracking.PARENT] = multirun.parent_run_id
            tags[tracking.member_tag(multirun.parent_run_id)] = "1"
        return {key: value for key, value in tags.items() if value is not None}


def _new_folder(store: Store, run_id: str) -> RunFolder:
    folder = RunFolder.lock(store.uri, run_id)
    assert folder is not None, "a run that was just made has no other process"
    return folder


def _record_failure(recorder: Recorder, error: BaseException, trace: str) -> None:
    try:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        recorder.tag({tracking.ERROR: quoted(reason, 500)})
        if trace:
            with recorder.artifacts() as folder:
                (folder / "traceback.txt").write_text(trace, encoding="utf-8")
    finally:
        recorder.finish("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
