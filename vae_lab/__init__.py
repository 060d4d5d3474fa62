"""Experiments with fully connected VAEs: Hydra describes, MLflow keeps, the lab compares and hands out."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not from `typing`, whose import takes longer than a user's Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from pandas import DataFrame
    from PIL.Image import Image
    from torch import nn

    from vae_lab.evaluation.arguments import Numbers
    from vae_lab.trained.doctor.findings import Report
    from vae_lab.trained.model import TrainedModel

__version__ = "0.1.0"
__all__ = ["__version__", "curves", "doctor", "load", "picture", "runs"]

# OpenMP reads this when torch is imported. By default its threads spin while they wait, and one busy
# neighbour process then makes training tens of times slower; a short spin costs nothing on a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def load(
    reference: str, *, uri: str | None = None, device: str = "cpu", trust: Collection[str] = ()
) -> TrainedModel:
    """Returns the trained model of a run, to encode, decode, reconstruct, sample, traverse and interpolate.

    Args:
        reference: What names the run: its id or the first letters of it, six at least; its name, as
            "cvae L3 Z15 s0"; a study's run, as "reference:cvae L3 Z15 s0"; a study's best run,
            "reference:best" for the lowest held-out loss and "reference:best:eval/recognizable_share" for
            another metric. A study's name stands for its newest multirun.
        uri: The tracking store; by default the one that `vae-lab train` uses in this folder.
        device: Where the weights are put: auto, cpu, cuda, cuda:N or mps.
        trust: Dotted names of models, losses, likelihoods and data functions of your own that may be
            imported, such as my_models.Tempered.

    Raises:
        UserError: No run has that name, or several have; or the run's model, loss or likelihood is neither
            the lab's nor trusted.
        LabError: A run without a model, or a damaged file.

    Examples:
        The images that a CVAE decodes from the mean of the prior, one a class::

            lab = vae_lab.load("reference:cvae L3 Z15 s0")
            images = lab.decode(torch.zeros(10, lab.latent_size), labels=range(10))     # (10, 1, 28, 28)
            vae_lab.picture(images).save("digits.png")
    """
    from vae_lab.trained import loading

    return loading.load(reference, uri=uri, device=device, trust=trust)


def runs(study: str | None = None, *, uri: str | None = None) -> DataFrame:
    """Returns a table with a row a run: what was varied, every metric, every other parameter, and its id.

    Metrics have the names and units of docs/metrics.md. A notebook shows the table of a study as
    `vae-lab compare` does; what is made of it is an ordinary DataFrame. An SQLite store is read in
    milliseconds.

    Args:
        study: A study, for its newest multirun, or the id of a parent run; without one all runs of the store.
        uri: The tracking store; by default the one that `vae-lab train` uses in this folder.

    Raises:
        UserError: There is no such store or study.
        LabError: It cannot be read.

    Examples:
        The held-out loss over the number of layers::

            runs = vae_lab.runs("reference")
            runs.groupby(["model", "model.layers"])["test/loss"].mean()
    """
    from vae_lab.trained import frames

    return frames.runs(study, uri=uri)


def curves(study: str, *, uri: str | None = None) -> DataFrame:
    """Returns a table with a row for each run and epoch: what was varied, and the metrics of that epoch.

    Args:
        study: A study, for its newest multirun, or the id of a parent run.
        uri: The tracking store; by default the one that `vae-lab train` uses in this folder.

    Raises:
        UserError: There is no such store or study.
        LabError: It cannot be read.

    Examples:
        A line a run::

            vae_lab.curves("reference")["test/loss"].unstack("run").plot()
    """
    from vae_lab.trained import frames

    return frames.curves(study, uri=uri)


def picture(images: Numbers, columns: int | None = None, scale: int | None = None) -> Image:
    """Returns images side by side as a picture, which a notebook shows and `.save("grid.png")` keeps.

    Args:
        images: Pixels in [0, 1], (N, C, H, W); or (rows, columns, C, H, W), as `traverse` gives them.
        columns: Images in a row; 10 if there are no rows already.
        scale: Screen pixels a pixel; by default an image is at least 56 wide.

    Raises:
        UserError: They have another shape.
    """
    from vae_lab.trained.pictures import picture as drawn

    return drawn(images, columns, scale)


def doctor(
    module: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    loss: Callable[..., Any] | None = None,
    beta: float = 1.0,
    seed: int = 0,
    **described: Any,
) -> Report:
    """Audits any torch VAE: names known faults, each with a number, a threshold and a remedy.

    The module and its loss are asked for what they do with images, z and posteriors, some of them made up.
    Nothing is trained; modes, buffers and generators are left as they were.

    Args:
        module: A VAE. What encodes, decodes and passes is found by the names of public code.
        images: At least 16 held-out images in [0, 1], (N, channels, height, width) or (N, pixels).
        labels: Conditions, N, as the module takes them behind images and z; None without a condition.
        loss: lambda reconstruction, x, mean, log_var: the loss of a minibatch, a total or (total, ...).
        beta: The weight that the KL is meant to have.
        seed: Of the audit's own draws.
        described: What else there is to say of the module: `encode`, `decode`, `forward`, `output`, `spread`,
            `train_images`, `losses`; docs/doctor.md has them in a table.

    Raises:
        UserError: An argument is not what it must be, or the module cannot be called in a known way.
        LabError: A function fails in the middle of a check.

    Examples:
        >>> import torch, vae_lab.models
        >>> _ = torch.manual_seed(0)
        >>> report = vae_lab.doctor(vae_lab.models.VAE(64, latent_size=4), 255 * torch.rand(32, 64))
        >>> report.worst, report.of_grade("fault")
        ('fault', ['pixel_range'])
    """
    from vae_lab.trained.doctor.torch_module import audited_module

    return audited_module(module, images, labels, seed=seed, loss=loss, beta=beta, **described)
