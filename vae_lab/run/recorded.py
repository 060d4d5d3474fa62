"""One run, from its config to its record."""

from __future__ import annotations

import json
import traceback

import torch
from omegaconf import DictConfig

from vae_lab import config, devices, environment, evaluation, progress, tracking, training
from vae_lab.data import Batches
from vae_lab.errors import LabError, UserError
from vae_lab.models import VAE, parameter_count
from vae_lab.run.parts import Parts, build_model, build_optimizer, build_schedule, prepare
from vae_lab.run.results import again, description, full_measures, log_pictures, measured_at, write_results
from vae_lab.tracking import Recorder, Store


def run(composed: DictConfig, overrides: tuple[str, ...] = ()) -> str:
    """Trains and records one configuration; gives the id of its MLflow run.

    Raises:
        UserError: the config is not valid here; nothing has been written.
        LabError: the run failed; its record says so.
    """
    settings = config.checked(composed)
    if settings.seeds is not None and settings.tracking.parent_run_id is None:
        raise UserError(
            f"seeds={settings.seeds}: is for a multirun; add -m, or choose sweeps=... or experiments=..."
        )
    parts = prepare(settings)
    if settings.train.threads is not None:
        torch.set_num_threads(settings.train.threads)
    model = build_model(settings, parts.model_arguments).to(parts.device)
    store = Store.open(settings.tracking.uri, create=True)
    name = settings.tracking.run_name or config.run_name(settings)
    with (
        progress.current(settings.train.epochs) as display,
        display.run(name, settings.train.epochs) as shown,
    ):
        recorder = _start(store, settings, parts, name, parameter_count(model), overrides)
        try:
            _train(settings, parts, model, recorder, shown, overrides)
        except BaseException as error:
            _record_failure(recorder, error)
            raise
        recorder.finish("FINISHED")
    return recorder.run_id


def _start(
    store: Store,
    settings: DictConfig,
    parts: Parts,
    name: str,
    weights: int,
    overrides: tuple[str, ...],
) -> Recorder:
    tags = {
        tracking.FINGERPRINT: parts.fingerprint,
        "vae_lab.data": f"{parts.data.name} {parts.data.checksum}",
        "vae_lab.device": devices.describe(parts.device),
        tracking.ENVIRONMENT: json.dumps(environment.describe(parts.device)),
        tracking.COMMAND: again(settings, overrides),
    }
    if settings.tracking.parent_run_id:
        tags[tracking.PARENT] = settings.tracking.parent_run_id
        tags[tracking.member_tag(settings.tracking.parent_run_id)] = "1"
    study = settings.tracking.study or settings.study.name
    if study:
        tags[tracking.STUDY] = study
    params = config.parameters(settings) | {"model.parameters": str(weights)}
    recorder = store.start(settings.tracking.experiment, name, kind=tracking.RUN, params=params, tags=tags)
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


def _train(
    settings: DictConfig,
    parts: Parts,
    model: VAE,
    recorder: Recorder,
    shown: progress.RunDisplay,
    overrides: tuple[str, ...],
) -> None:
    optimizer = build_optimizer(settings, model.parameters())
    minibatches = Batches(
        parts.data.train,
        batch_size=settings.train.batch_size,
        C=model.condition_size,
        seed=settings.seed,
        dynamic=settings.data.binarize == "dynamic",
    )
    log_pictures(settings, parts, model, recorder, step=0)
    history: list[dict[str, float]] = []
    total_seconds = 0.0
    for epoch in training.train(
        model,
        parts.objective,
        optimizer,
        minibatches,
        epochs=settings.train.epochs,
        seed=settings.seed,
        scheduler=build_schedule(settings, optimizer),
        precision=settings.train.precision,
    ):
        held_out = evaluation.held_out(
            model,
            parts.objective,
            parts.data.test,
            seed=settings.seed,
            batch_size=settings.evaluation.batch_size,
            active_threshold=settings.evaluation.active_threshold,
        )
        total_seconds += epoch.seconds
        metrics = {
            **{
                f"train/{key}": value
                for key, value in epoch._asdict().items()
                if key not in ("number", "step_losses")
            },
            "train/total_seconds": total_seconds,
            **{f"test/{key}": value for key, value in held_out._asdict().items()},
        }
        first_step = (epoch.number - 1) * len(minibatches) + 1
        recorder.log(metrics, epoch.number, ("train/step_loss", epoch.step_losses, first_step))
        log_pictures(settings, parts, model, recorder, step=epoch.number)
        history.append(metrics)
        shown.epoch(epoch.number, epoch.loss, held_out.loss)
    recorder.log(full_measures(settings, parts.data, parts.objective, model), settings.train.epochs)
    recorder.tag(measured_at(settings, parts.data))
    with recorder.artifacts() as folder:
        write_results(settings, parts, model, history, folder, shown.name)
    recorder.tag({tracking.NOTE: description(settings, parts, history[-1], overrides)})
