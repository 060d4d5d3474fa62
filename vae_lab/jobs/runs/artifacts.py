"""What a run leaves: pictures over epochs, final figures, the model, measures and a description."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from vae_lab import checkpoints, evaluation, tracking
from vae_lab.data import Dataset
from vae_lab.errors import without_credentials
from vae_lab.faults import FAULTS, config_with
from vae_lab.jobs.commands import run_command
from vae_lab.jobs.job import Job
from vae_lab.jobs.parts.built import build_objective
from vae_lab.jobs.parts.datasets import dataset
from vae_lab.jobs.parts.draws import seeded
from vae_lab.jobs.parts.own_losses import draws_itself
from vae_lab.jobs.parts.own_metrics import measured_by, own_metrics
from vae_lab.jobs.parts.prepared import Parts
from vae_lab.jobs.runs.absence import paragraph
from vae_lab.metrics import EVALUATION_COUNTS, EVALUATION_SETTINGS
from vae_lab.models import VAE
from vae_lab.objectives import Objective
from vae_lab.report import pictures
from vae_lab.report.charts.loss_curves import run_losses
from vae_lab.report.drawing import Drawing, save_figures

if TYPE_CHECKING:
    from numpy.typing import NDArray

PICTURE_SCALE = 2  # screen pixels a pixel, so that 28 x 28 images can be seen in the UI
PICTURE_ROWS = 4
SIDE = 10  # rows and columns of the final grids
STRIP = 20  # samples in the strip of the contact sheet


def final_measures(
    settings: DictConfig, data: Dataset, objective: Objective, model: VAE
) -> evaluation.Measures:
    """Returns what `evaluation` adds to a trained model's metrics; nothing with `evaluation=quick`."""
    # A loss of its own: the likelihood of this one may have weights on another device.
    draws = draws_itself(build_objective(settings), data.size, model.latent_size)
    with seeded(draws, settings.seed, "final measures", device=data.test.pixels.device):
        measures = _measures_of_lab(settings, data, objective, model)
    if settings.evaluation.metrics:
        in_hand = evaluation.ModelInHand(
            model, objective, device=data.test.pixels.device, load_data=lambda: data, name=data.name
        )
        measures.add(measured_by(own_metrics(settings.evaluation.metrics), in_hand, settings.seed))
    if len(data.test) == 1:
        measures.absent["test/active_units"] = "one held-out image has no variance"
    return measures


def _measures_of_lab(
    settings: DictConfig, data: Dataset, objective: Objective, model: VAE
) -> evaluation.Measures:
    plain = OmegaConf.merge(settings.data, {"binarize": "none"})
    assert isinstance(plain, DictConfig)
    measures = evaluation.full_evaluation(
        model,
        objective,
        data,
        dataset(plain, data.test.pixels.device),
        seed=settings.seed,
        posterior_draws=settings.evaluation.posterior_draws,
        importance_samples=settings.evaluation.importance_samples,
        importance_images=settings.evaluation.importance_images,
        samples=settings.evaluation.samples,
        judges=settings.evaluation.judges,
        batch_size=settings.evaluation.batch_size,
    )
    if settings.evaluation.annealed_images:
        chains = evaluation.annealed_measures(
            *(model, objective.likelihood, data.test),
            count=settings.evaluation.annealed_images,
            temperatures=settings.evaluation.temperatures,
            chains=settings.evaluation.chains,
            seed=settings.seed,
            batch_size=settings.evaluation.batch_size,
        )
        measures.take_all(chains)
    return measures


def evaluation_tag(settings: DictConfig, data: Dataset, absent: Collection[str] = ()) -> dict[str, str]:
    """Returns the tag that says how `final_measures` measured, and by which classifiers, if it did.

    Of the `absent` measures no metric of the user's own is in it: its code has measured nothing.
    """
    chosen = settings.evaluation
    counts = [key for key in EVALUATION_COUNTS if chosen[key]]
    others = [key for count in counts for key in EVALUATION_SETTINGS[count] if key not in counts]
    facts = {
        key: evaluation.classifier.key(data.checksum) if key == "classifier" else chosen[key]
        for key in (*counts, *others)
    }
    facts |= {own.metric.key: own.code for own in own_metrics(chosen.metrics) if own.metric.key not in absent}
    return {tracking.EVALUATION: " ".join(f"{key}={value}" for key, value in facts.items())} if facts else {}


def images_tag(data: Dataset) -> str:
    """Returns what a run says of its images, so that its model can be used where the data are not.

    The number of classes is left out where one of them has no training image.
    """
    said: dict[str, Any] = {"shape": data.shape}
    if len(data.trained_classes) == data.classes:
        said["classes"] = data.classes
    return json.dumps(said)


def pictures_of(settings: DictConfig, parts: Parts, model: VAE) -> dict[str, NDArray[Any]]:
    """Returns the pictures that the UI shows with a slider over epochs, by their names."""
    if not settings.evaluation.pictures:
        return {}
    columns, likelihood = settings.evaluation.columns, parts.objective.likelihood
    drawn: dict[str, Any] = {"seed": settings.seed, "classes": parts.data.trained_classes}
    grids = {
        "images/samples": evaluation.prior_samples(model, likelihood, PICTURE_ROWS * columns, **drawn),
        "images/reconstructions": _beside_originals(parts, model, columns, PICTURE_ROWS // 2),
    }
    if model.condition_size:
        grids["images/class_grid"] = evaluation.class_samples(model, likelihood, columns, **drawn)
    shape = parts.data.shape
    return {
        key: pictures.enlarged(pictures.tile(images, shape, columns), PICTURE_SCALE)
        for key, images in grids.items()
    }


def _beside_originals(parts: Parts, model: VAE, columns: int, pairs: int) -> torch.Tensor:
    """Returns held-out images, each row followed by the row of their reconstructions (2 pairs columns, D)."""
    images = parts.data.test.first(pairs * columns)
    originals = torch.split(images.scaled(slice(None)).cpu(), columns)
    decoded = torch.split(evaluation.reconstructions(model, parts.objective.likelihood, images), columns)
    return torch.cat([row for pair in zip(originals, decoded, strict=True) for row in pair])


def read_back(model: VAE) -> list[str]:
    """Returns the artifacts of a run that the lab reads again later: their checksums are kept."""
    pictures_read = [tracking.STRIP_FILE, tracking.INTERPOLATION_FILE]
    of_classes = [tracking.CLASS_FILE] if model.condition_size else []
    return ["config.yaml", "model/model.pt", tracking.STEPS_FILE, *pictures_read, *of_classes]


def write_config(settings: DictConfig, folder: Path) -> None:
    """Writes a run's config, which is whole only where the run is recorded."""
    (folder / "config.yaml").write_text(without_credentials(OmegaConf.to_yaml(settings)), encoding="utf-8")


def write_artifacts(
    job: Job, parts: Parts, model: VAE, history: list[dict[str, float]], folder: Path
) -> None:
    """Writes the run's artifacts: the trained model, the final figures and a strip of samples."""
    settings = job.settings
    (folder / "model").mkdir()
    checkpoints.save_model(
        model,
        folder / "model" / "model.pt",
        target=config_with(settings).model._target_,
        arguments=parts.model_arguments,
    )
    shape, likelihood = parts.data.shape, parts.objective.likelihood
    drawn: dict[str, Any] = {"seed": settings.seed, "classes": parts.data.trained_classes}
    blends = evaluation.interpolation(model, likelihood, parts.data.test, SIDE)
    samples = evaluation.prior_samples(model, likelihood, SIDE * SIDE, **drawn)
    compared = _beside_originals(parts, model, SIDE, SIDE // 2)

    def grid(name: str, images: torch.Tensor, title: str, rows: list[str] | None = None) -> Drawing:
        return pictures.image_grid(name, images, shape, SIDE, f"{job.name}: {title}", rows or [])

    drawings = [
        grid("samples", samples, "prior samples"),
        grid("reconstructions", compared, "held-out images, reconstructions below"),
        grid("interpolation", blends, "blends of four latent vectors"),
        run_losses(history, job.name),
    ]
    grids = {tracking.INTERPOLATION_FILE: blends}
    if model.condition_size:
        classes = evaluation.class_samples(model, likelihood, SIDE, **drawn)
        labels = [str(label) for label in parts.data.trained_classes]
        drawings.append(grid("class_grid", classes, "one row a class, one latent vector a column", labels))
        grids[tracking.CLASS_FILE] = classes
    (folder / "grids").mkdir()
    for file, images in grids.items():
        pictures.save_picture(pictures.tile(images, shape, SIDE), folder / file)
    save_figures(folder, drawings)
    strip = pictures.tile(evaluation.prior_samples(model, likelihood, STRIP, **drawn), shape, STRIP)
    pictures.save_picture(strip, folder / tracking.STRIP_FILE)


def write_step_losses(losses: Sequence[float], folder: Path) -> None:
    """Writes the loss of every step of a run as a table that pandas reads."""
    rows = [f"{step},{loss!r}\n" for step, loss in enumerate(losses, 1)]
    (folder / tracking.STEPS_FILE).write_text("".join(["step,loss\n", *rows]), encoding="utf-8")


def collapse_warning(metrics: Mapping[str, float], latent_size: int) -> str:
    """Returns a warning of latent dimensions that carry next to nothing of an image; empty if there are none.

    Args:
        metrics: A run's; without `test/collapsed_units`, dimensions that are not active count.
        latent_size: How many there are.

    >>> collapse_warning({"test/active_units": 9.0}, 15)
    '6 of 15 latent dimensions collapsed'
    """
    collapsed = metrics.get(
        "test/collapsed_units", latent_size - metrics.get("test/active_units", latent_size)
    )
    return f"{collapsed:.0f} of {latent_size} latent dimensions collapsed" if collapsed else ""


def description(job: Job, metrics: Mapping[str, float], absent: str = "") -> str:
    """Returns the run's Markdown page: what it was, what came of it, what is absent, how to do it again."""
    settings, parts = job.settings, job.parts
    size = settings.model.latent_size
    collapsed = collapse_warning(metrics, size)
    warning = (
        f" **Posterior collapse**: {collapsed}; they carry next to nothing of an image." if collapsed else ""
    )
    fault = (
        f"**Injected fault `{settings.fault}`**: {FAULTS[settings.fault]}; made for a class to find.\n\n"
        if settings.fault in FAULTS
        else ""
    )
    undefined = f"\n\n{paragraph(absent)}" if absent else ""
    weighted = "" if settings.objective.beta == 1 else f" (weighted by {settings.objective.beta:g})"
    active = metrics.get("test/active_units")
    used = "" if active is None else f"; {active:.0f} of {size} latent dimensions are active"
    kind = "CVAE" if parts.model_arguments["condition_size"] else "VAE"
    return (
        f"{fault}**{kind}** of {settings.model.layers} layers and {size} latent dimensions on "
        f"{parts.data.name}, {settings.train.epochs} epochs, seed {settings.seed}.\n\n"
        f"Held-out loss **{metrics['test/loss']:.2f}** nats per image: reconstruction "
        f"{metrics['test/reconstruction']:.2f}, KL {metrics['test/kl']:.2f}{weighted}{used}."
        f"{warning}{undefined}\n\n"
        f"Pictures: *Model metrics* (a slider over epochs) and *Artifacts*, `figures/`.\n\n"
        f"Again: `{run_command(job)}`"
    )
