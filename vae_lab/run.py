"""One run, from its config to its record."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import shlex
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, get_method, instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from vae_lab import (
    checkpoints,
    config,
    devices,
    environment,
    evaluation,
    figures,
    models,
    objectives,
    progress,
    seeding,
    tracking,
    training,
)
from vae_lab.data import Batches, Dataset, batches, binarized
from vae_lab.errors import LabError, UserError, choices
from vae_lab.models import VAE, parameter_count
from vae_lab.objectives import Objective, likelihood
from vae_lab.tracking import Recorder, Store

PICTURE_SCALE = 2  # screen pixels a pixel, so that 28 x 28 images can be seen in the UI
PICTURE_ROWS = 4
GRID_SIDE = 10  # rows and columns of the final grids
STRIP = 20  # samples in the strip of the contact sheet
# What a run's command leaves out, and what makes a multirun of a command that does not say otherwise.
MULTIRUN_KEYS, MULTIRUN_GROUPS = ("seeds=", "reuse="), ("sweeps=", "experiments=")

_loading = threading.Lock()


class Parts(NamedTuple):
    """What a config comes to on this machine, before anything is written."""

    fingerprint: str  # of config, data and code: equal for runs of equal results
    device: torch.device
    data: Dataset
    objective: Objective
    model_arguments: dict[str, Any]


def prepare(settings: DictConfig) -> Parts:
    """Loads the data and tries every part of a checked config.

    Raises:
        UserError: an absent device, or a class or argument that does not exist or does not work.
        LabError: the data cannot be had.
    """
    device = devices.resolve(settings.train.device)
    devices.check_precision(settings.train.precision, device)
    data = dataset(settings.data, device)
    model = settings.model
    arguments: dict[str, Any] = {
        "data_size": data.size,
        "condition_size": data.classes if model.conditional else 0,
        "latent_size": model.latent_size,
        "layers": model.layers,
        "encoder_layers": model.encoder_layers,
        "decoder_layers": model.decoder_layers,
        "hidden_size": OmegaConf.to_object(model.hidden_size)
        if OmegaConf.is_config(model.hidden_size)
        else model.hidden_size,
        "activation": model.activation,
        "init": model.init,
        **OmegaConf.to_container(model.options),  # type: ignore[dict-item]
    }
    with torch.device("meta"), _named("model"):
        build_class(model._target_, nn.Module, "model._target_")(**arguments)
    weight = nn.Parameter(torch.zeros(1))
    optimizer = build_optimizer(settings, [weight])
    schedule = build_schedule(settings, optimizer)
    with _named("scheduler"):
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return Parts(fingerprint(settings, data), device, data, build_objective(settings), arguments)


def build_objective(settings: DictConfig) -> Objective:
    """The configured loss."""
    chosen = settings.objective
    return Objective(
        likelihood(chosen.likelihood, chosen.std),
        chosen.beta,
        warmup_epochs=chosen.warmup_epochs,
        penalty=chosen.penalty,
        penalty_weight=chosen.penalty_weight,
    )


def fingerprint(settings: DictConfig, data: Dataset) -> str:
    """Twelve hex digits of what determines a result: config, data and the code of the training path."""
    text = " ".join([config.fingerprint(settings), data.checksum, _code_of_training()])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@functools.cache
def _code_of_training() -> str:
    hashed = hashlib.sha256()
    for module in (seeding, devices, batches, models, objectives, training):
        hashed.update(Path(str(module.__file__)).read_bytes())
    return hashed.hexdigest()


def dataset(data: DictConfig, device: torch.device) -> Dataset:
    """The configured data on `device`; a process loads each data set once."""
    with _loading, _named("data"):
        return _dataset(data._target_, data.root, data.binarize, device)


@functools.lru_cache(maxsize=4)
def _dataset(target: str, root: str | None, binarize: str, device: torch.device) -> Dataset:
    if device.type != "cpu" or binarize != "none":
        grey = _dataset(target, root, "none", torch.device("cpu")).to(device)
        if binarize == "none":
            return grey
        # Dynamic binarization redraws the training images in every batch; held-out images are drawn once.
        train = grey.train if binarize == "dynamic" else binarized(grey.train, "train")
        return grey._replace(train=train, test=binarized(grey.test, "test"))
    try:
        loaded = get_method(target)(root=root)
    except (ImportError, ValueError) as error:
        raise UserError(f"data._target_={target}: no function of that name can be imported.") from error
    if not isinstance(loaded, Dataset):
        raise UserError(
            f"data._target_={target}: gives a {type(loaded).__name__}, not a vae_lab.data.Dataset."
        )
    return loaded


def build_class(target: str, kind: type, key: str) -> Any:
    """The class of a dotted name, a subclass of `kind`."""
    try:
        found = get_class(target)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}={target}: no class of that name can be imported.") from error
    if not issubclass(found, kind):
        raise UserError(f"{key}={target}: is no {kind.__module__}.{kind.__name__}.")
    return found


def build_model(settings: DictConfig, arguments: Mapping[str, Any]) -> VAE:
    """The untrained model; its first weights follow from the run's seed alone, on every device."""
    with _named("model"), seeding.global_generator(settings.seed, "weights"):
        return build_class(settings.model._target_, nn.Module, "model._target_")(**arguments)  # type: ignore[no-any-return]


def build_optimizer(settings: DictConfig, weights: Any) -> torch.optim.Optimizer:
    """The configured optimizer over `weights`."""
    target = build_class(settings.optimizer._target_, torch.optim.Optimizer, "optimizer._target_")
    with _named("optimizer", target):
        return instantiate(settings.optimizer, weights)  # type: ignore[no-any-return]


def build_schedule(
    settings: DictConfig, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler | None:
    """The configured learning-rate schedule, if there is one."""
    if settings.scheduler is None:
        return None
    target = build_class(
        settings.scheduler._target_, torch.optim.lr_scheduler.LRScheduler, "scheduler._target_"
    )
    with _named("scheduler", target):
        return instantiate(settings.scheduler, optimizer)  # type: ignore[no-any-return]


@contextmanager
def _named(group: str, target: Any = None) -> Iterator[None]:
    """Turns what a constructor says of its arguments into one line that names the group."""
    try:
        yield
    except LabError:
        raise
    except (
        InstantiationException,
        TypeError,
        ValueError,
        RuntimeError,
        ArithmeticError,
        MemoryError,
    ) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        valid = ""
        if target is not None and "unexpected keyword" in reason:
            names = list(inspect.signature(target).parameters)[1:]
            valid = choices(reason.rpartition("argument ")[2].strip("'"), names)
        raise UserError(f"{group}: {reason.rstrip('.')}{valid or '.'}") from error


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


def again(settings: DictConfig, overrides: tuple[str, ...]) -> str:
    """The command that trains this configuration again, alone even where a sweep trained it."""
    kept = [each for each in overrides if not each.startswith(MULTIRUN_KEYS)]
    swept = settings.tracking.parent_run_id or any(each.startswith(MULTIRUN_GROUPS) for each in kept)
    return shlex.join(["vae-lab", "train", *kept, *(["hydra.mode=RUN"] if swept else [])])


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
        recorder.tag({"vae_lab.error": (str(error) or type(error).__name__).splitlines()[0][:500]})
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
    _log_pictures(settings, parts, model, recorder, step=0)
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
        _log_pictures(settings, parts, model, recorder, step=epoch.number)
        history.append(metrics)
        shown.epoch(epoch.number, epoch.loss, held_out.loss)
    recorder.log(full_measures(settings, parts.data, parts.objective, model), settings.train.epochs)
    recorder.tag(measured_at(settings, parts.data))
    with recorder.artifacts() as folder:
        _write_results(settings, parts, model, history, folder, shown.name)
    recorder.tag({tracking.NOTE: _description(settings, parts, history[-1], overrides)})


def full_measures(settings: DictConfig, data: Dataset, objective: Objective, model: VAE) -> dict[str, float]:
    """What `evaluation=full` adds to a trained model's metrics; nothing with `evaluation=quick`."""
    return evaluation.full(
        model,
        objective,
        data,
        dataset(OmegaConf.merge(settings.data, {"binarize": "none"}), data.test.pixels.device),  # type: ignore[arg-type]
        seed=settings.seed,
        posterior_draws=settings.evaluation.posterior_draws,
        importance_samples=settings.evaluation.importance_samples,
        importance_images=settings.evaluation.importance_images,
        samples=settings.evaluation.samples,
        batch_size=settings.evaluation.batch_size,
    )


def measured_at(settings: DictConfig, data: Dataset) -> dict[str, str]:
    """The tag that says how `full_measures` measured, and with which classifier; none if it did not."""
    chosen = settings.evaluation
    kept = {key: chosen[key] for key in ("posterior_draws", "importance_samples", "samples") if chosen[key]}
    if chosen.importance_samples:
        kept["importance_images"] = chosen.importance_images
    if chosen.samples:
        kept["classifier"] = evaluation.classifier.key(data.checksum)
    return {tracking.EVALUATION: " ".join(f"{key}={value}" for key, value in kept.items())} if kept else {}


def _log_pictures(settings: DictConfig, parts: Parts, model: VAE, recorder: Recorder, step: int) -> None:
    if not settings.evaluation.pictures:
        return
    columns, shape, likelihood = settings.evaluation.columns, parts.data.shape, parts.objective.likelihood
    samples = evaluation.prior_samples(model, likelihood, PICTURE_ROWS * columns, seed=settings.seed)
    shown = {
        "samples": samples,
        "reconstructions": _beside_originals(parts, model, columns, PICTURE_ROWS // 2),
    }
    if model.condition_size:
        shown["class_grid"] = evaluation.class_samples(model, likelihood, columns, seed=settings.seed)
    for key, images in shown.items():
        recorder.image(
            f"images/{key}", figures.enlarged(figures.tile(images, shape, columns), PICTURE_SCALE), step
        )


def _beside_originals(parts: Parts, model: VAE, columns: int, pairs: int) -> torch.Tensor:
    """Held-out images, each row of them followed by the row of their reconstructions (2 pairs columns, D)."""
    images = parts.data.test.first(pairs * columns)
    originals = torch.split(images.scaled(slice(None)).cpu(), columns)
    decoded = torch.split(evaluation.reconstructions(model, parts.objective.likelihood, images), columns)
    return torch.cat([row for pair in zip(originals, decoded, strict=True) for row in pair])


def _write_results(
    settings: DictConfig, parts: Parts, model: VAE, history: list[dict[str, float]], folder: Path, name: str
) -> None:
    """The run's artifacts: its config, the trained model, the final figures and a strip of samples."""
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(settings))
    (folder / "model").mkdir()
    checkpoints.save_model(
        model, folder / "model" / "model.pt", target=settings.model._target_, arguments=parts.model_arguments
    )
    shape, likelihood, seed = parts.data.shape, parts.objective.likelihood, settings.seed
    side = GRID_SIDE
    blends = evaluation.interpolation(model, likelihood, parts.data.test, side)
    drawn = {
        "samples": figures.grid_figure(
            evaluation.prior_samples(model, likelihood, side * side, seed=seed),
            shape,
            side,
            f"{name}: prior samples",
        ),
        "reconstructions": figures.grid_figure(
            _beside_originals(parts, model, side, side // 2),
            shape,
            side,
            f"{name}: held-out images, reconstructions below",
        ),
        "interpolation": figures.grid_figure(blends, shape, side, f"{name}: blends of four latent vectors"),
        "loss_curves": figures.loss_curves(history, name),
    }
    grids = {tracking.INTERPOLATION_FILE: blends}
    if model.condition_size:
        classes = evaluation.class_samples(model, likelihood, side, seed=seed)
        drawn["class_grid"] = figures.grid_figure(
            classes,
            shape,
            side,
            f"{name}: one row a class, one latent vector a column",
            [str(label) for label in range(model.condition_size)],
        )
        grids[tracking.CLASS_FILE] = classes
    (folder / "grids").mkdir()
    for file, images in grids.items():
        figures.save_picture(figures.tile(images, shape, side), folder / file)
    tracking.save_figures(folder, drawn)
    strip = figures.tile(evaluation.prior_samples(model, likelihood, STRIP, seed=seed), shape, STRIP)
    figures.save_picture(strip, folder / tracking.STRIP_FILE)


def _description(
    settings: DictConfig, parts: Parts, final: Mapping[str, float], overrides: tuple[str, ...]
) -> str:
    kind = "CVAE" if parts.model_arguments["condition_size"] else "VAE"
    return (
        f"**{kind}** of {settings.model.layers} layers and {settings.model.latent_size} latent dimensions on "
        f"{parts.data.name}, {settings.train.epochs} epochs, seed {settings.seed}.\n\n"
        f"Held-out loss **{final['test/loss']:.2f}** nats per image: reconstruction "
        f"{final['test/reconstruction']:.2f}, KL {final['test/kl']:.2f}"
        f"{'' if settings.objective.beta == 1 else f' (weighted by {settings.objective.beta:g})'}; "
        f"{final['test/active_units']:.0f} of {settings.model.latent_size} latent dimensions are active.\n\n"
        f"Pictures: *Model metrics* (a slider over epochs) and *Artifacts*, `figures/`.\n\n"
        f"Again: `{again(settings, overrides)}`"
    )
