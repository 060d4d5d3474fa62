"""One run under way: its parts, its record, and what is left to do after each epoch."""

from __future__ import annotations

import json
import traceback
from contextlib import ExitStack

from omegaconf import DictConfig

from vae_lab import config, devices, environment, evaluation, tracking, training
from vae_lab.data import Batches
from vae_lab.errors import LabError, UserError
from vae_lab.models import parameter_count
from vae_lab.progress import Display
from vae_lab.run.parts import build_model, build_optimizer, build_schedule, prepare
from vae_lab.run.results import again, description, full_measures, log_pictures, measured_at, write_results
from vae_lab.tracking import Recorder, Store
from vae_lab.training import Epoch


class Run:
    """A configuration that is being trained; `open`, then `after` every epoch, then `close` or `fail`.

    Args:
        settings: the checked config.
        overrides: the command line's part of it, for the command that the record names.

    Raises:
        UserError: the config is not valid here; nothing has been written.
    """

    def __init__(self, settings: DictConfig, overrides: tuple[str, ...] = ()) -> None:
        self.settings = settings
        self.overrides = overrides
        if settings.seeds is not None and settings.tracking.parent_run_id is None:
            raise UserError(
                f"seeds={settings.seeds}: is for a multirun; add -m, or choose sweeps=... or experiments=..."
            )
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
        self._total_seconds = 0.0
        self._display = ExitStack()

    def open(self, store: Store, display: Display, *, together: int = 1) -> None:
        """Starts the record; `together` runs are trained as one stack."""
        self.shown = self._display.enter_context(display.run(self.name, self.settings.train.epochs))
        self.recorder = self._start(store, together)
        log_pictures(self.settings, self.parts, self.model, self.recorder, step=0)

    def after(self, epoch: Epoch) -> None:
        """Measures on held-out images and records an epoch."""
        settings = self.settings
        held_out = evaluation.held_out(
            self.model,
            self.parts.objective,
            self.parts.data.test,
            seed=settings.seed,
            batch_size=settings.evaluation.batch_size,
            active_threshold=settings.evaluation.active_threshold,
        )
        self._total_seconds += epoch.seconds
        metrics = {
            **{
                f"train/{key}": value
                for key, value in epoch._asdict().items()
                if key not in ("number", "step_losses")
            },
            "train/total_seconds": self._total_seconds,
            **{f"test/{key}": value for key, value in held_out._asdict().items()},
        }
        first_step = (epoch.number - 1) * len(self.batches) + 1
        self.recorder.log(metrics, epoch.number, ("train/step_loss", epoch.step_losses, first_step))
        log_pictures(settings, self.parts, self.model, self.recorder, step=epoch.number)
        self.history.append(metrics)
        self.shown.epoch(epoch.number, epoch.loss, held_out.loss)

    def close(self) -> str:
        """Records the final measures, figures and the model; gives the id of the MLflow run."""
        settings, parts, recorder = self.settings, self.parts, self.recorder
        recorder.log(full_measures(settings, parts.data, parts.objective, self.model), settings.train.epochs)
        recorder.tag(measured_at(settings, parts.data))
        with recorder.artifacts() as folder:
            write_results(settings, parts, self.model, self.history, folder, self.name)
        recorder.tag({tracking.NOTE: description(settings, parts, self.history[-1], self.overrides)})
        recorder.finish("FINISHED")
        self._display.close()
        return recorder.run_id

    def fail(self, error: BaseException) -> None:
        """Closes the record as FAILED, or KILLED after an interruption, with the reason."""
        try:
            if hasattr(self, "recorder"):
                _record_failure(self.recorder, error)
        finally:
            self._display.__exit__(type(error), error, error.__traceback__)

    def _start(self, store: Store, together: int) -> Recorder:
        settings, parts = self.settings, self.parts
        tags = {
            tracking.FINGERPRINT: parts.fingerprint,
            "vae_lab.data": f"{parts.data.name} {parts.data.checksum}",
            "vae_lab.device": devices.describe(parts.device),
            tracking.ENVIRONMENT: json.dumps(environment.describe(parts.device)),
            tracking.COMMAND: again(settings, self.overrides),
        }
        if self.precision != settings.train.precision:
            tags["vae_lab.precision"] = self.precision
        if together > 1:
            tags["vae_lab.stack"] = str(together)
        if settings.tracking.parent_run_id:
            tags[tracking.PARENT] = settings.tracking.parent_run_id
            tags[tracking.member_tag(settings.tracking.parent_run_id)] = "1"
        study = settings.tracking.study or settings.study.name
        if study:
            tags[tracking.STUDY] = study
        params = config.parameters(settings) | {"model.parameters": str(parameter_count(self.model))}
        recorder = store.start(
            settings.tracking.experiment, self.name, kind=tracking.RUN, params=params, tags=tags
        )
        recorder.dataset(parts.data)
        return recorder


def _record_failure(recorder: Recorder, error: BaseException) -> None:
    stopped = isinstance(error, KeyboardInterrupt)
    try:
        recorder.tag({tracking.ERROR: (str(error) or type(error).__name__).splitlines()[0][:500]})
        if not stopped and not isinstance(error, LabError):
            with recorder.artifacts() as folder:
                (folder / "traceback.txt").write_text("".join(traceback.format_exception(error)))
    finally:
        recorder.finish("KILLED" if stopped else "FAILED")
