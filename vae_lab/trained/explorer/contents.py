"""What an explorer's page holds: its words, held-out images, and each model as operations and weights."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from vae_lab import __version__
from vae_lab.data import Dataset, one_hot
from vae_lab.errors import UserError, visible
from vae_lab.evaluation.latent import COLLAPSED
from vae_lab.metrics import metric_named
from vae_lab.report.page.setup import CHANGES, COMMIT
from vae_lab.studies.study import Study
from vae_lab.tracking import STUDY, StoredRun
from vae_lab.trained.explorer.choice import MOST
from vae_lab.trained.explorer.graph import UnknownOperationError, check_answers, traced
from vae_lab.trained.explorer.weights import DECODED, ENCODED, coarsest_steps, packed

if TYPE_CHECKING:
    from vae_lab.trained.model import TrainedModel

MOST_IMAGES = 500  # held-out images on a page
MOST_PIXELS = 400_000  # of all of them
SPREAD = 2.0  # standard deviations of the latent vectors at which rounded weights are tried
LEVELS = 255  # of a pixel
FIGURES = ("test/loss",)
MAP = ".map"  # the tensor of the places on a model's map; a weight may be called `map`


class Contents(NamedTuple):
    """Everything on a page; `data` is what its script reads, as JSON that can stand in HTML."""

    kind: str  # Study or Run
    title: str
    question: str
    facts: list[tuple[str, list[str]]]
    data: str
    remarks: list[str]  # models that are shown without images, and why


class _HeldOut(NamedTuple):
    """The held-out images of a page, spread evenly over the data set's."""

    places: Tensor  # (N,)
    x: Tensor  # (N, D) in [0, 1]
    labels: Tensor  # (N,)


def gather(models: Sequence[TrainedModel], study: Study | None = None) -> Contents:
    """Returns the contents of a page of one to four models.

    Args:
        models: The models in the hand; all have seen the same data.
        study: The study that they are of.

    Raises:
        UserError: Their data differ, or they are more than four.
        LabError: The data cannot be had.
    """
    _check_that_they_share(models)
    first = models[0]
    held_out = _held_out(first.data)
    names = short_names([visible(model.run.name) for model in models])
    described = [_described(model, name, held_out) for model, name in zip(models, names, strict=True)]
    content = {
        "shape": first.shape,
        "look": first.look._asdict(),
        "classes": [str(label) for label in range(first.data.classes)],
        "trained": first.classes,
        "collapsed": COLLAPSED,
        "heldOut": packed({"images": held_out.x}, {"images": 1 / LEVELS}, alike=False),
        "labels": held_out.labels.tolist(),
        "numbers": (held_out.places + 1).tolist(),
        "first": 0,
        "models": described,
    }
    runs = [model.run for model in models]
    return Contents(
        kind="Run" if study is None else "Study",
        title=first.run.name if study is None else study.plan.name,
        question="" if study is None else study.plan.question or "",
        facts=_facts(runs, study, first.data),
        data=_json(content),
        remarks=[f"{model['name']}: {model['reason']}" for model in described if model["reason"]],
    )


def _check_that_they_share(models: Sequence[TrainedModel]) -> None:
    first = models[0]
    if len(models) > MOST:
        raise UserError(f"{len(models)} models; at most {MOST} stand side by side.")
    for other in models[1:]:
        if (other.shape, other.data.checksum) != (first.shape, first.data.checksum):
            raise UserError(
                f"{other.run.name}: was trained on {other.data.name}, {first.run.name} on {first.data.name}; "
                "models share a page if they share their images."
            )
        if not torch.equal(_held_out(other.data).x, _held_out(first.data).x):
            raise UserError(
                f"{other.run.name}: sees the held-out images of {other.data.name} with {_seen_with(other)}, "
                f"{first.run.name} with {_seen_with(first)}; models share a page if they share their images."
            )


def _seen_with(model: TrainedModel) -> str:
    """Returns what a model's config says of how it sees its images."""
    return f"data.binarize={model.config.data.binarize}, fault={model.config.fault}"


def _held_out(data: Dataset) -> _HeldOut:
    count = max(1, min(len(data.test), MOST_IMAGES, MOST_PIXELS // data.size))
    index = torch.linspace(0, len(data.test) - 1, count).round().long()
    there = index.to(data.test.pixels.device)
    return _HeldOut(index, data.test.scaled(there), data.test.labels_at(there))


def short_names(names: Sequence[str]) -> list[str]:
    """Returns names without the words that all share, such as a seed; as they are where none is left.

    Examples:
        >>> short_names(["vae L2 Z15 s0", "cvae L2 Z30 s0"]), short_names(["vae L2 s0"])
        (['vae Z15', 'cvae Z30'], ['vae L2 s0'])
    """
    shared = set.intersection(*(set(name.split()) for name in names)) if len(names) > 1 else set()
    short = [" ".join(word for word in name.split() if word not in shared) for name in names]
    return short if all(short) and len({*short}) == len(names) else list(names)


def _described(model: TrainedModel, name: str, held_out: _HeldOut) -> dict[str, Any]:
    """Returns a model as the page reads it; why, if its images cannot be decoded there."""
    posterior = model.encode(held_out.x.reshape(-1, *model.shape), held_out.labels)
    means = np.nan_to_num(posterior.mean.cpu().double().numpy())  # of a model that training has broken
    kl = np.nan_to_num(model.kl.numpy()).tolist()
    used = sum(value >= COLLAPSED for value in kl)
    metrics = [metric_named(key) for key in FIGURES if key in model.metrics]
    figures = [f"{metric.heading} {model.metrics[metric.key]:.2f} {metric.unit}" for metric in metrics]
    centre, axes, coordinates, variance = principal_plane(means)
    described = {
        "name": name,
        "summary": [*figures, f"{used} of {len(kl)} dimensions used"],
        "latent": model.latent_size,
        "conditions": model.module.condition_size,
        "order": model.order.tolist(),
        "kl": kl,
        "reach": np.ceil(np.abs(means).max(axis=0)).tolist(),
        "centre": centre.tolist(),
        "axes": axes.tolist(),
        "variance": variance,
        "reason": "",
    }
    there = {MAP: torch.from_numpy(coordinates)}
    try:
        return {**described, **_decodable(model, held_out, there)}
    except UnknownOperationError as error:
        return {**described, "reason": visible(str(error)), "weights": packed(there, {})}


def _decodable(model: TrainedModel, held_out: _HeldOut, further: dict[str, Tensor]) -> dict[str, Any]:
    """Returns a model's networks, and their weights with `further` tensors.

    Raises:
        UnknownOperationError: The page cannot compute what the model does.
    """
    module, mean, device = model.module, model.likelihood.mean, model.device
    x, z = torch.zeros(1, math.prod(model.shape)).to(device), torch.zeros(1, model.latent_size).to(device)
    c = torch.zeros(1, module.condition_size).to(device)

    def encode(x: Tensor, c: Tensor) -> tuple[Tensor, ...]:
        return tuple(module.posterior(x, c))

    def decode(z: Tensor, c: Tensor) -> Tensor:
        return mean(module.logits(z, c))

    encoder, decoder = traced(module, "encode", encode, x, c), traced(module, "decode", decode, z, c)
    tensors = {**encoder.tensors, **decoder.tensors}
    check_answers(encoder._replace(tensors=tensors), encode, x, c)  # with what the page has of both
    check_answers(decoder._replace(tensors=tensors), decode, z, c)
    if not all(bool(values.isfinite().all()) for values in tensors.values()):
        raise UnknownOperationError("its weights are no finite numbers")
    steps = _steps(model, held_out, set(encoder.tensors), set(decoder.tensors))
    networks = {"encode": encoder.described(), "decode": decoder.described()}
    return {"networks": networks, "weights": packed(tensors | further, steps)}


@torch.inference_mode()
def _steps(model: TrainedModel, held_out: _HeldOut, encoder: set[str], decoder: set[str]) -> dict[str, float]:
    """Returns the steps of the weights, by what rounding does to reconstructions and draws."""
    x, c = held_out.x, one_hot(held_out.labels, model.module.condition_size)
    means = model.module.posterior(x, c).mean
    generator = torch.Generator().manual_seed(0)
    drawn = SPREAD * torch.randn(means.shape, generator=generator).to(means)
    latents, conditions = torch.cat([means, drawn]), torch.cat([c, c])

    def decoded(module: Any, z: Tensor, c: Tensor) -> Tensor:
        return model.likelihood.mean(module.logits(z, c))

    exact, reconstructed = decoded(model.module, latents, conditions), decoded(model.module, means, c)

    def decoder_error(module: nn.Module) -> float:
        return float((decoded(module, latents, conditions) - exact).abs().max())

    def encoder_error(module: Any) -> float:
        return float((decoded(model.module, module.posterior(x, c).mean, c) - reconstructed).abs().max())

    return coarsest_steps(model.module, encoder - decoder, encoder_error, ENCODED) | coarsest_steps(
        model.module, decoder, decoder_error, DECODED
    )


def principal_plane(means: np.ndarray[Any, Any]) -> tuple[Any, Any, Any, float]:
    """Returns the plane in which vectors vary most.

    Args:
        means: The vectors, (N, Z).

    Returns:
        Their mean (Z,), two orthonormal directions (2, Z), their coordinates along these (N, 2), and the
        share of the variance that lies in the plane. The second direction is 0 where Z = 1.

    Examples:
        >>> line = np.array([[0.0, 1.0], [2.0, 1.0], [4.0, 1.0]])
        >>> centre, axes, coordinates, share = principal_plane(line)
        >>> centre.tolist(), axes[0].tolist(), coordinates[:, 0].tolist(), share
        ([2.0, 1.0], [1.0, 0.0], [-2.0, 0.0, 2.0], 1.0)
    """
    centre = means.mean(axis=0)
    _, sizes, directions = np.linalg.svd(means - centre, full_matrices=False)
    axes = np.zeros((2, means.shape[1]))
    axes[: len(directions[:2])] = directions[:2]
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.where(axes[[0, 1], largest] < 0, -1, 1)[:, None]  # else the sign would be the library's whim
    total = float((sizes**2).sum())
    share = float((sizes[:2] ** 2).sum()) / total if total else 1.0
    return centre, axes, (means - centre) @ axes.T, share


def _facts(runs: Sequence[StoredRun], study: Study | None, data: Dataset) -> list[tuple[str, list[str]]]:
    commits = dict.fromkeys(
        run.tags[COMMIT] + " with uncommitted changes" * ("true" in run.tags.get(CHANGES, ""))
        for run in runs
        if COMMIT in run.tags
    )
    named = dict.fromkeys(run.tags[STUDY] for run in runs if run.tags.get(STUDY))
    studies = [*named] if study is None else [f"{study.plan.name}, parent run {study.parent.run_id}"]
    return [
        *([("Study", studies)] if studies else []),
        ("Runs", [f"{run.name}, {run.run_id}" for run in runs]),
        ("Commit", [*commits] or ["not recorded"]),
        ("Trained", [*dict.fromkeys(_date(run.started) for run in runs)]),
        ("Data", [f"{data.name}, checksum {data.checksum}, {len(data.test):,} held-out images"]),
        ("Page written", [f"{_date(int(time.time() * 1000))}, by vae_lab {__version__}"]),
    ]


def _date(at: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at / 1000))


def _json(content: Any) -> str:
    """Returns JSON that can stand in a script element: no sign in it ends the element."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
