"""Known faults of VAE code that a run can be given on purpose, for a class to find: `fault=kl_mean`.

A fault changes one of four parts of a run: its loss, its model, its data or its optimizer. docs/doctor.md
says where each has been made in public.

Shapes: n images of a minibatch, D pixels, Z latent dimensions, C condition, * any leading axes.
"""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.nn import functional

from vae_lab import seeding
from vae_lab.data import Dataset, Images, binarized
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Likelihood, Objective, Terms

OF_LOSS = {
    "kl_mean": "the KL is averaged over latent dimensions",
    "kl_sign": "the log-variance enters the KL with the wrong sign",
    "kl_sigma": "the KL has the standard deviation where its square belongs",
    "kl_weight": "the KL weighs a thousandth of what the config says",
    "reconstruction_mean": "the reconstruction is averaged over pixels",
    "batch_size": "the KL is summed over the minibatch, the reconstruction averaged",
    "sigmoid_missing": "logits are shown as images, without a sigmoid",
}
OF_MODEL = {
    "ignores_z": "the decoder does not use z",
    "std_variance": "noise is scaled by the variance instead of the standard deviation",
    "noise_scaled": "noise is a hundredth of what it should be",
    "noise_once": "noise is drawn once, not at every step",
    "sigma_stuck": "a softplus keeps the log-variance above 0",
    "log_variance_unbounded": "the log-variance overflows when its exponential is taken",
    "sigmoid_twice": "a sigmoid is applied to the logits before the loss applies its own",
    "modes_differ": "the encoder sees other pixels in training than in evaluation",
    "condition_ignored": "the decoder of a CVAE does not use the label",
}
OF_DATA = {
    "pixel_range": "pixels run from 0 to their largest byte instead of to 1",
    "grey_binarized": "training images are binarized, held-out images grey",
}
OF_OPTIMIZER = {"rate_too_high": "the learning rate is a hundred times the config's"}
FAULTS = OF_LOSS | OF_MODEL | OF_DATA | OF_OPTIMIZER

SMALL_WEIGHT = 1e-3  # of the KL
SMALL_NOISE = 1e-2  # share of the noise that is left
RATE = 100.0  # times the configured learning rate
OVERFLOW = 1e4  # times the log-variance


class FaultyObjective(Objective):
    """The lab's loss with one of the faults `OF_LOSS`.

    Args:
        fault: A key of `OF_LOSS`.
        likelihood: The likelihood of the pixels.
        arguments: Those of `Objective`.

    Examples:
        >>> from vae_lab.objectives import likelihood
        >>> posterior = Posterior(mean=torch.ones(1, 4), log_var=torch.zeros(1, 4))
        >>> sound, faulty = (
        ...     Objective(likelihood("bernoulli")),
        ...     FaultyObjective(fault="kl_mean", likelihood=likelihood("bernoulli")),
        ... )
        >>> [float(loss(torch.zeros(1, 8), torch.ones(1, 8), posterior).kl) for loss in (sound, faulty)]
        [2.0, 0.5]
    """

    def __init__(self, *, fault: str, likelihood: Likelihood, **arguments: Any) -> None:
        super().__init__(
            _WithoutSigmoid(likelihood) if fault == "sigmoid_missing" else likelihood, **arguments
        )
        self.fault = fault

    def __call__(
        self,
        logits: Tensor,
        x: Tensor,
        posterior: Posterior,
        noise: Tensor | None = None,
        *,
        epochs_done: float | Tensor = float("inf"),
    ) -> Terms:
        """Returns the terms (*), one of them wrong."""
        sound = super().__call__(logits, x, posterior, noise, epochs_done=epochs_done)
        kl = self._kl(sound.kl, posterior)
        reconstruction = sound.reconstruction
        if self.fault == "reconstruction_mean":
            reconstruction = reconstruction / x.shape[-1]
        weight = self.kl_weight(epochs_done)
        weighted = weight * kl * (SMALL_WEIGHT if self.fault == "kl_weight" else 1.0)
        penalized = sound.loss - sound.reconstruction - weight * sound.kl
        return Terms(reconstruction + weighted + penalized, reconstruction, kl)

    def _kl(self, kl: Tensor, posterior: Posterior) -> Tensor:
        mean, log_var = posterior
        if self.fault == "kl_mean":
            return kl / mean.shape[-1]
        if self.fault == "kl_sign":
            return (mean.square() + log_var.exp() - 1 + log_var).sum(-1) / 2
        if self.fault == "kl_sigma":
            return (mean.square() + (log_var / 2).exp() - 1 - log_var).sum(-1) / 2
        return kl * kl.shape[-1] if self.fault == "batch_size" else kl


class _WithoutSigmoid:
    """A likelihood whose expected image is what the decoder gives, as if that were an image already."""

    def __init__(self, sound: Likelihood) -> None:
        self.sound = sound

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        return self.sound.negative_log(logits, x)

    def mean(self, logits: Tensor) -> Tensor:
        return logits


class FaultyVAE(VAE):
    """The fully connected VAE with one of the faults `OF_MODEL`; its weights are those of a sound one.

    Args:
        fault: A key of `OF_MODEL`.
        arguments: Those of `VAE`.

    Examples:
        >>> vae = FaultyVAE(data_size=64, fault="ignores_z")
        >>> z, c = torch.randn(2, 15), torch.zeros(2, 0)
        >>> torch.equal(*vae.logits(z, c))
        True
    """

    def __init__(self, *, fault: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.fault = fault

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """Returns q(z | x, c) for images x (*, D) and conditions c (*, C)."""
        if self.fault == "modes_differ" and self.training:
            spread = x.std(-2, correction=0, keepdim=True).clamp_min(1e-3)
            x = (x - x.mean(-2, keepdim=True)) / spread  # a batch norm whose running statistics never move
        mean, log_var = super().posterior(x, c)
        if self.fault == "sigma_stuck":
            log_var = functional.softplus(log_var)
        if self.fault == "log_variance_unbounded":
            log_var = OVERFLOW * log_var
        return Posterior(mean, log_var)

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Returns the pixel logits (*, D) decoded from latent vectors z (*, Z) and conditions c (*, C)."""
        if self.fault == "ignores_z":
            z = torch.zeros_like(z)
        if self.fault == "condition_ignored":
            c = torch.zeros_like(c)
        logits = super().logits(z, c)
        return logits.sigmoid() if self.fault == "sigmoid_twice" else logits

    def forward(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Returns pixel logits (*, D) and the posterior of x, for standard normal `noise` (*, Z)."""
        posterior = self.posterior(x, c)
        if self.fault == "noise_once":
            generator = seeding.generator(0, "noise drawn once", device=noise.device)
            noise = torch.randn(noise.shape[-2:], generator=generator, device=noise.device).expand_as(noise)
        if self.fault == "noise_scaled":
            noise = SMALL_NOISE * noise
        if self.fault == "std_variance":
            return self.logits(posterior.mean + posterior.log_var.exp() * noise, c), posterior
        return self.logits(posterior.sample(noise), c), posterior


def config_with(settings: DictConfig) -> DictConfig:
    """Returns the config that model, loss and optimizer of a run are built by: its own, but for its fault.

    Examples:
        >>> settings = OmegaConf.create({"fault": "rate_too_high", "optimizer": {"lr": 0.001}})
        >>> config_with(settings).optimizer.lr
        0.1
    """
    changes: dict[str, Any] = {}
    fault = settings.fault
    if fault in OF_LOSS:
        changes["objective"] = _of_class(FaultyObjective, fault)
    if fault in OF_MODEL:
        changes["model"] = _of_class(FaultyVAE, fault)
    if fault in OF_OPTIMIZER:
        changes["optimizer"] = {"lr": RATE * settings.optimizer.lr}
    if not changes:
        return settings
    built = settings.copy()
    OmegaConf.set_struct(built, False)  # as Hydra composes it, it takes no key that it has not
    built.merge_with(changes)
    return built


def _of_class(faulty: type, fault: str) -> dict[str, Any]:
    return {"_target_": f"{faulty.__module__}.{faulty.__qualname__}", "options": {"fault": fault}}


def data_with(fault: str, sound: Dataset) -> Dataset:
    """Returns the data with the fault, if the fault is one of the data; the checksum stays that of the data.

    Examples:
        >>> images = Images(torch.tensor([[0, 128, 255]], dtype=torch.uint8), torch.zeros(1), peak=255)
        >>> sound = Dataset("three pixels", images, images, (1, 1, 3), 1)
        >>> data_with("pixel_range", sound).train.scaled(slice(None)).tolist()
        [[0.0, 128.0, 255.0]]
    """
    if fault == "pixel_range":
        train, test = (Images(images.pixels, images.labels, 1) for images in (sound.train, sound.test))
        return sound._replace(train=train, test=test)
    if fault == "grey_binarized":
        return sound._replace(train=binarized(sound.train, "train"))
    return sound
