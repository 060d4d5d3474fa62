"""What a run leaves: pictures over epochs, final figures, the model, measures and a description."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from vae_lab import checkpoints, evaluation, tracking
from vae_lab.data import Dataset
from vae_lab.metrics import EVALUATION_KEYS
from vae_lab.models import VAE
from vae_lab.objectives import Objective
from vae_lab.report import pictures
from vae_lab.runs.parts import Parts, dataset
from vae_lab.tracking import Recorder

PICTURE_SCALE = 2  # screen pixels a pixel, so that 28 x 28 images can be seen in the UI
PICTURE_ROWS = 4
GRID_SIDE = 10  # rows and columns of the final grids
READ_BACK = ("config.yaml", "model/model.pt")  # what the lab reads again later: their checksums are kept
STRIP = 20  # samples in the strip of the contact sheet
# What a run's command leaves out, and what makes a multirun of a command that does not say otherwise.
MULTIRUN_KEYS, MULTIRUN_GROUPS = ("seeds=", "max_seeds=", "reuse="), ("sweeps=", "experiments=")


def again(settings: DictConfig, overrides: tuple[str, ...]) -> str:
    """The command that trains this configuration again, alone even where a sweep trained it."""
    kept = [each for each in overrides if not each.startswith(MULTIRUN_KEYS)]
    swept = settings.tracking.parent_run_id or any(each.startswith(MULTIRUN_GROUPS) for each in kept)
    return shlex.join(["vae-lab", "train", *kept, *(["hydra.mode=RUN"] if swept else [])])


def full_measures(settings: DictConfig, data: Dataset, objective: Objective, model: VAE) -> dict[str, float]:
    """What `evaluation=full` adds to a trained model's metrics; nothing with `evaluation=quick`."""
    return evaluation.full_evaluation(
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
    kept = {key: chosen[key] for key in EVALUATION_KEYS if chosen[key]}
    if chosen.importance_samples:
        kept["importance_images"] = chosen.importance_images
    if chosen.samples:
        kept["classifier"] = evaluation.classifier.key(data.checksum)
    return {tracking.EVALUATION: " ".join(f"{key}={value}" for key, value in kept.items())} if kept else {}


def log_pictures(
    settings: DictConfig, parts: Parts, model: VAE, recorder: Recorder, *, step: int, when: int
) -> None:
    """The pictures that the UI shows with a slider over epochs; the same `when` replaces them."""
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
        picture = pictures.enlarged(pictures.tile(images, shape, columns), PICTURE_SCALE)
        recorder.image(f"images/{key}", picture, step, when=when)


def _beside_originals(parts: Parts, model: VAE, columns: int, pairs: int) -> torch.Tensor:
    """Held-out images, each row of them followed by the row of their reconstructions (2 pairs columns, D)."""
    images = parts.data.test.first(pairs * columns)
    originals = torch.split(images.scaled(slice(None)).cpu(), columns)
    decoded = torch.split(evaluation.reconstructions(model, parts.objective.likelihood, images), columns)
    return torch.cat([row for pair in zip(originals, decoded, strict=True) for row in pair])


def write_results(
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
        "samples": pictures.grid_figure(
            evaluation.prior_samples(model, likelihood, side * side, seed=seed),
            shape,
            side,
            f"{name}: prior samples",
        ),
        "reconstructions": pictures.grid_figure(
            _beside_originals(parts, model, side, side // 2),
            shape,
            side,
            f"{name}: held-out images, reconstructions below",
        ),
        "interpolation": pictures.grid_figure(blends, shape, side, f"{name}: blends of four latent vectors"),
        "loss_curves": pictures.loss_curves(history, name),
    }
    grids = {tracking.INTERPOLATION_FILE: blends}
    if model.condition_size:
        classes = evaluation.class_samples(model, likelihood, side, seed=seed)
        drawn["class_grid"] = pictures.grid_figure(
            classes,
            shape,
            side,
            f"{name}: one row a class, one latent vector a column",
            [str(label) for label in range(model.condition_size)],
        )
        grids[tracking.CLASS_FILE] = classes
    (folder / "grids").mkdir()
    for file, images in grids.items():
        pictures.save_picture(pictures.tile(images, shape, side), folder / file)
    pictures.save_figures(folder, drawn)
    strip = pictures.tile(evaluation.prior_samples(model, likelihood, STRIP, seed=seed), shape, STRIP)
    pictures.save_picture(strip, folder / tracking.STRIP_FILE)


def collapse(measured: Mapping[str, float], latent_size: int) -> str:
    """What a reader is warned of: latent dimensions that tell the decoder nothing; empty if there are none.

    Args:
        measured: a run's metrics; without `test/collapsed_units`, dimensions that are not active count.
        latent_size: how many there are.
    """
    collapsed = measured.get("test/collapsed_units", latent_size - measured["test/active_units"])
    return f"{collapsed:.0f} of {latent_size} latent dimensions collapsed" if collapsed else ""


def description(
    settings: DictConfig, parts: Parts, final: Mapping[str, float], overrides: tuple[str, ...]
) -> str:
    """The run's Markdown page: what it was, what came of it, how to do it again."""
    found = collapse(final, settings.model.latent_size)
    kind = "CVAE" if parts.model_arguments["condition_size"] else "VAE"
    return (
        f"**{kind}** of {settings.model.layers} layers and {settings.model.latent_size} latent dimensions on "
        f"{parts.data.name}, {settings.train.epochs} epochs, seed {settings.seed}.\n\n"
        f"Held-out loss **{final['test/loss']:.2f}** nats per image: reconstruction "
        f"{final['test/reconstruction']:.2f}, KL {final['test/kl']:.2f}"
        f"{'' if settings.objective.beta == 1 else f' (weighted by {settings.objective.beta:g})'}; "
        f"{final['test/active_units']:.0f} of {settings.model.latent_size} latent dimensions are active."
        f"{f' **Posterior collapse**: {found}; the decoder learns nothing from them.' if found else ''}\n\n"
        f"Pictures: *Model metrics* (a slider over epochs) and *Artifacts*, `figures/`.\n\n"
        f"Again: `{again(settings, overrides)}`"
    )
