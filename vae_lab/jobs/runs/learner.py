"""One run in training: its model, its optimizer and what it has measured; it knows of no store."""

from __future__ import annotations

import math
import tempfile
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig

from vae_lab import evaluation
from vae_lab.checkpoints import Checkpoint
from vae_lab.data import Batches
from vae_lab.errors import LabError
from vae_lab.files import full_disk_told
from vae_lab.jobs.parts.built import build_model, build_objective, build_optimizer, build_schedule
from vae_lab.jobs.parts.draws import seeded
from vae_lab.jobs.parts.precision import TRIAL_SEED, fastest_precision
from vae_lab.jobs.parts.prepared import Parts
from vae_lab.jobs.runs.absence import absent_tag
from vae_lab.jobs.runs.artifacts import (
    description,
    evaluation_tag,
    final_measures,
    pictures_of,
    read_back,
    write_artifacts,
    write_step_losses,
)
from vae_lab.jobs.runs.ran_on import ran_on
from vae_lab.jobs.runs.reports import Assignment, Began, Finished, Reached
from vae_lab.models import VAE, is_stochastic
from vae_lab.objectives import Objective, join
from vae_lab.training import DivergedError, Epoch


class Learner:
    """A run in training: `begun` and `reached`, then `advance` after every epoch, then `finish`.

    Args:
        place: By which its reports name it.
        assignment: What is trained.

    Raises:
        UserError: A part of the config does not work here.
    """

    def __init__(self, place: int, assignment: Assignment) -> None:
        self.place, self.job, self.until = place, assignment.job, assignment.until
        self.settings = settings = self.job.settings
        # A loss of its own: several runs of a job do not share the weights that a likelihood may have.
        self.model, objective = _first_weights(settings, self.job.parts)
        self.parts = parts = self.job.parts._replace(objective=objective)
        self._seeded = partial(seeded, parts.draws, settings.seed, device=parts.device)
        if parts.draws and not is_stochastic(self.model):
            self.model.draws = True  # type: ignore[assignment]  # by which its epochs are seeded
        with self._seeded("optimizer"):
            self.optimizer = build_optimizer(settings, self.model.parameters())
        self.scheduler = build_schedule(settings, self.optimizer)
        self.batches = Batches(
            parts.data.train,
            batch_size=settings.train.batch_size,
            C=self.model.condition_size,
            seed=settings.seed,
            dynamic=settings.data.binarize == "dynamic",
        )
        self.history: list[dict[str, float]] = []
        self.step_losses: list[float] = []
        self.done = 0  # finished epochs
        if assignment.checkpoint is None:
            self.precision = self._chosen_precision()
        else:
            self._restore(assignment.checkpoint)

    def begun(self) -> Began:
        """Returns what it is trained on."""
        return Began(self.place, ran_on(self.parts.device), self.precision)

    def advance(self, epoch: Epoch | DivergedError) -> Reached:
        """Measures on held-out images after an epoch, and returns the state of the run.

        Raises:
            DivergedError: The epoch did, or a held-out term is not finite.
        """
        if isinstance(epoch, DivergedError):
            raise epoch
        settings = self.settings
        with self._seeded("evaluation"):
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
        self.history.append({**trained, "train/total_seconds": before + epoch.seconds, **measured})
        self.done = epoch.number
        self.step_losses += epoch.step_losses
        return self.reached()

    def reached(self) -> Reached:
        """Returns the state of the run as it is now; its tensors are those that training goes on with."""
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
        )
        with self._seeded("pictures"):
            pictures = pictures_of(self.settings, self.parts, self.model)
        return Reached(self.place, checkpoint, pictures)

    def finish(self) -> Finished:
        """Returns the final measures, figures and the model."""
        settings, parts = self.settings, self.parts
        measures = final_measures(settings, parts.data, parts.objective, self.model)
        with tempfile.TemporaryDirectory() as name, full_disk_told(Path(name), _unwritable):
            folder = Path(name)
            with self._seeded("pictures"):
                write_artifacts(self.job, parts, self.model, self.history, folder)
            write_step_losses(self.step_losses, folder)
            paths = sorted(path for path in folder.rglob("*") if path.is_file())
            files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        return Finished(
            self.place,
            metrics=measures.metrics,
            tags=evaluation_tag(settings, parts.data, measures.absent) | absent_tag(measures.reasons()),
            files=files,
            read_back=tuple(read_back(self.model)),
            note=description(self.job, self.history[-1] | measures.metrics, measures.reasons()),
        )

    def _chosen_precision(self) -> str:
        """Returns the number format; `auto` comes to the same for every seed of a configuration."""
        if self.settings.train.precision != "auto":
            return str(self.settings.train.precision)
        settings, seed = self.settings.copy(), TRIAL_SEED
        settings.seed = seed
        model, objective = _first_weights(settings, self.parts)
        return fastest_precision(model, objective, self.batches, seed)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.model.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        if self.scheduler is not None and checkpoint.scheduler is not None:
            self.scheduler.load_state_dict(checkpoint.scheduler)
        self.precision, self.history = checkpoint.precision, checkpoint.history
        self.step_losses = checkpoint.step_losses
        self.done = checkpoint.epoch


def _first_weights(settings: DictConfig, parts: Parts) -> tuple[VAE, Objective]:
    """Returns the untrained model on its device and the loss; a likelihood's weights are in both."""
    objective = build_objective(settings)
    model = build_model(settings, parts.model_arguments)
    join(model, objective.likelihood)
    return model.to(parts.device), objective


def _unwritable(error: OSError) -> LabError:
    return LabError(
        f"{tempfile.gettempdir()}: what a run leaves cannot be written here: {error.strerror or error}. "
        "Free some space, or choose another folder with TMPDIR."
    )


def _check_finite(held_out: evaluation.HeldOut, epoch: int) -> None:
    """Raises a DivergedError: a step's terms are checked before its update, the last step's only here."""
    for term, value in held_out._asdict().items():
        if value is not None and not math.isfinite(value):
            raise DivergedError.of(f"held-out {term}", value, f"after epoch {epoch}")
