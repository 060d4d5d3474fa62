"""Likelihoods, the KL divergence and the loss, per example and in nats.

Shapes: D pixels, P outputs of the decoder, Z latent dimensions, L noise draws, * any leading axes; only the
last axis is summed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from vae_lab.errors import UserError, choices
from vae_lab.models import Posterior


def cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Returns -sum_d x_d log p_d + (1 - x_d) log (1 - p_d) (*) of pixels (*, D), with p = sigmoid(logits).

    Examples:
        >>> cross_entropy(torch.tensor([0.0, 100.0]), torch.tensor([1.0, 1.0]))
        tensor(0.6931)
    """
    return cast("Tensor", _CrossEntropy.apply(*torch.broadcast_tensors(logits, x)))  # type: ignore[no-untyped-call]


class _CrossEntropy(torch.autograd.Function):
    """PyTorch's binary_cross_entropy_with_logits, summed, without log1p and with a logarithm for many pixels.

    A pixel's is ([p > 1/2] - x) l - log max(p, 1 - p). The last is the log of a number from 1/2 to 1; many of
    these can be multiplied before one log is taken: on a CPU a product costs a fifth of a log.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, x: Tensor) -> Tensor:
        p = logits.sigmoid()
        ctx.save_for_backward(logits, x, p)
        larger = torch.rsub(p, 1)
        torch.maximum(larger, p, out=larger)
        logs = torch.unflatten(larger, -1, (-1, _factors(p.shape[-1]))).prod(-1).log_().sum(-1)
        return p.round().sub_(x).mul_(logits).sum(-1).sub_(logs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, x, p = ctx.saved_tensors
        gradient = gradient.unsqueeze(-1)
        logits_gradient = (p - x).mul_(gradient) if ctx.needs_input_grad[0] else None
        x_gradient = -logits * gradient if ctx.needs_input_grad[1] else None
        return logits_gradient, x_gradient


MOST_FACTORS = 120  # the product of as many halves is a normal float32


def _factors(D: int) -> int:
    """Returns the largest divisor of D up to `MOST_FACTORS`."""
    return next(divisor for divisor in range(MOST_FACTORS, 0, -1) if D % divisor == 0)


class Likelihood(Protocol):
    """The distribution p(x | z) of an image, with the decoder's outputs, the logits, as its parameters.

    One with several parameters a pixel says so with the attribute `outputs`: P = outputs D, all pixels' first
    parameter before the second. One with weights of its own is a torch.nn.Module.
    """

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        """Returns -log p(x | logits) (*) of images x (*, D), in nats, for logits (*, P)."""

    def mean(self, logits: Tensor) -> Tensor:
        """Returns the expected image (*, D), in [0, 1], for logits (*, P)."""


def outputs_of(likelihood: Likelihood) -> int:
    """Returns how many numbers a likelihood wants of the decoder for each pixel.

    >>> outputs_of(Bernoulli())
    1
    """
    return int(getattr(likelihood, "outputs", 1))


def weights_of(likelihood: Likelihood) -> Iterator[nn.Parameter]:
    """Returns a likelihood's own weights; those of the lab have none."""
    return likelihood.parameters() if isinstance(likelihood, nn.Module) else iter(())


PART = "likelihood"  # the name under which a model holds a likelihood with weights


def join(model: nn.Module, likelihood: Likelihood) -> None:
    """Makes a likelihood with weights a part of a model: it is trained, moved and kept with it.

    Raises:
        UserError: The model has something else of that name.
    """
    if isinstance(likelihood, nn.Module):
        if getattr(model, PART, likelihood) is not likelihood:
            raise UserError(
                f"{type(model).__name__}.{PART}: is where the likelihood's weights go; rename it."
            )
        model.add_module(PART, likelihood)


class Bernoulli:
    """Binary cross entropy between pixels and reconstruction.

    A likelihood for binarized images. For grey pixels it is the report's loss, but no likelihood: its
    minimum is the summed entropy of the pixels, not zero.
    """

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        """Returns -sum_d x_d log p_d + (1 - x_d) log (1 - p_d) (*), with p = sigmoid(logits)."""
        return cross_entropy(logits, x)

    def mean(self, logits: Tensor) -> Tensor:
        """Returns sigmoid(logits) (*, D)."""
        return logits.sigmoid()


class ContinuousBernoulli:
    """The Bernoulli density on [0, 1], normalized.

    References:
        Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, eqs. 4 to 8.
    """

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        """Returns the cross entropy minus log C(lambda) (*), with lambda = sigmoid(logits)."""
        return cross_entropy(logits, x) - self._log_norm(logits).sum(-1)

    def mean(self, logits: Tensor) -> Tensor:
        """Returns 1 / (1 - exp(-l)) - 1 / l (*, D) for logits l; around l = 0 it is 1/2 + l / 12."""
        near_zero, safe = _apart_from_zero(logits)
        return torch.where(near_zero, 0.5 + logits / 12, -1 / torch.expm1(-safe) - 1 / safe)

    @staticmethod
    def _log_norm(logits: Tensor) -> Tensor:
        # With l the logit, C = l / tanh(l / 2) (eq. 5, since 2 atanh(1 - 2 lambda) = -l and
        # 1 - 2 lambda = -tanh(l / 2)); log C = log 2 + l^2 / 12 + O(l^4) around l = 0.
        near_zero, safe = _apart_from_zero(logits)
        magnitude = safe.abs()
        exact = magnitude.log() + torch.log1p((-magnitude).exp()) - torch.log(-torch.expm1(-magnitude))
        return torch.where(near_zero, math.log(2) + logits.square() / 12, exact)


def _apart_from_zero(logits: Tensor) -> tuple[Tensor, Tensor]:
    # Around zero the formulas are 0 / 0; with a 1 in its place the gradient that is not used is finite, too.
    near_zero = logits.abs() < 1e-2
    return near_zero, torch.where(near_zero, torch.ones_like(logits), logits)


class Gaussian:
    """Independent normal pixels around sigmoid(logits).

    Args:
        std: The standard deviation of every pixel, in units where white is 1.

    Examples:
        >>> pixels = Gaussian(std=1.0)
        >>> nats = pixels.negative_log(torch.zeros(2, 784), torch.full((2, 784), 0.5))  # x at the mean
        >>> [round(value, 2) for value in nats.tolist()]  # 784 / 2 log(2 pi) each
        [720.45, 720.45]
    """

    def __init__(self, std: float) -> None:
        self.std = std

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        """Returns the sum over pixels of ((x - mean) / std)^2 / 2 + log(std sqrt(2 pi)) (*)."""
        error = (x - logits.sigmoid()) / self.std
        return (error.square() / 2 + math.log(self.std * math.sqrt(2 * math.pi))).sum(-1)

    def mean(self, logits: Tensor) -> Tensor:
        """Returns sigmoid(logits) (*, D)."""
        return logits.sigmoid()


def likelihood(name: str, std: float = 0.1) -> Likelihood:
    """Returns the likelihood of that name: bernoulli, continuous_bernoulli or gaussian (with `std`).

    Raises:
        UserError: The name is unknown.

    Examples:
        >>> likelihood("bernoulli").mean(torch.zeros(3))
        tensor([0.5000, 0.5000, 0.5000])
    """
    if name == "gaussian":
        return Gaussian(std)
    without_std: dict[str, type[Likelihood]] = {
        "bernoulli": Bernoulli,
        "continuous_bernoulli": ContinuousBernoulli,
    }
    if name not in without_std:
        raise UserError(f"objective.likelihood={name}: unknown{choices(name, [*without_std, 'gaussian'])}")
    return without_std[name]()


def kl_per_dimension(posterior: Posterior) -> Tensor:
    """Returns KL(q(z_j | x) || N(0, 1)) (*, Z) of every latent dimension.

    Examples:
        >>> prior = Posterior(mean=torch.zeros(2), log_var=torch.zeros(2))
        >>> kl_per_dimension(prior), kl_per_dimension(prior._replace(mean=torch.tensor([2.0, 0.0])))
        (tensor([0., 0.]), tensor([2., 0.]))

    References:
        Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix B.
    """
    mean, log_var = posterior
    return (torch.addcmul(log_var.exp() - log_var, mean, mean) - 1) / 2


PENALTIES = ("none", "l1", "ard")


def penalty(name: str, posterior: Posterior) -> Tensor:
    """Returns a cost (*) on posterior means (*, Z) that pushes whole latent dimensions to zero.

    `l1` is sum_j |mean_j|, sparse for each image. `ard` is the group lasso over images, sum_j rms_j with
    rms_j the root mean square of dimension j over the images (the last leading axis), written as the
    reweighted squares (mean_j^2 / rms_j + rms_j) / 2 of automatic relevance determination, whose mean and
    gradient are the same.

    Raises:
        UserError: The name is none of `PENALTIES`.

    Examples:
        >>> means = torch.tensor([[1.0, -2.0], [0.0, 0.5]])
        >>> penalty("l1", Posterior(means, torch.zeros(2, 2)))
        tensor([3.0000, 0.5000])

    References:
        Yuan & Lin 2006, Model selection with grouped variables; Wipf & Nagarajan 2007, A new view of ARD.
    """
    means = posterior.mean
    if name == "none":
        return torch.zeros_like(means[..., 0])
    if name == "l1":
        return means.abs().sum(-1)
    if name == "ard":
        rms = means.detach().square().mean(-2, keepdim=True).sqrt().clamp_min(1e-6)
        return ((means.square() / rms + rms) / 2).sum(-1)
    raise UserError(f"objective.penalty={name}: unknown{choices(name, PENALTIES)}")


class Terms(NamedTuple):
    """The parts of a loss; each has shape (*), in nats per image."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor


class Objective:
    """Reconstruction + beta KL + penalty: for beta = 1 without a penalty the negative ELBO.

    The weights may be tensors (K, 1) as well: one for each run of a stack. A class that inherits from this
    one can set `draws` to a number L: it is then given L noise draws of every image, along a first axis.

    Args:
        likelihood: The likelihood of the pixels.
        beta: Weight of the KL.
        warmup_epochs: Epochs over which that weight rises linearly from 0 to beta.
        penalty: A name of `PENALTIES`.
        penalty_weight: Its weight.

    Examples:
        >>> objective = Objective(likelihood("bernoulli"), beta=4.0)
        >>> posterior = Posterior(mean=torch.ones(1, 2), log_var=torch.zeros(1, 2))
        >>> terms = objective(torch.zeros(1, 8), torch.ones(1, 8), posterior)
        >>> [round(float(nats), 3) for nats in terms]  # loss = reconstruction + 4 KL
        [9.545, 5.545, 1.0]

    References:
        Kingma & Welling 2014, eq. 3; Higgins et al. 2017, beta-VAE, eq. 4; Sonderby et al. 2016, section 2.2.
    """

    draws: int | None = None  # noise draws of an image; None: one, without an axis for it

    def __init__(
        self,
        likelihood: Likelihood,
        beta: float | Tensor = 1.0,
        *,
        warmup_epochs: float | Tensor = 0,
        penalty: str = "none",
        penalty_weight: float | Tensor = 0.0,
    ) -> None:
        self.likelihood = likelihood
        self.beta = beta
        self.warmup_epochs = warmup_epochs
        self.penalty, self.penalty_weight = penalty, penalty_weight

    def __call__(
        self,
        logits: Tensor,
        x: Tensor,
        posterior: Posterior,
        noise: Tensor | None = None,
        *,
        epochs_done: float | Tensor = float("inf"),
    ) -> Terms:
        """Returns the terms (*) of pixel logits (*, P), images x (*, D) and the posterior of x.

        The warm-up's weight follows from `epochs_done`, which counts the part of the present epoch, too. The
        noise (*, Z), from which posterior.sample makes the latent vectors, is for losses that need these.
        """
        reconstruction = self.likelihood.negative_log(logits, x)
        kl = kl_per_dimension(posterior).sum(-1)
        loss = reconstruction + self.kl_weight(epochs_done) * kl
        if self.penalty != "none":
            loss = loss + self.penalty_weight * penalty(self.penalty, posterior)
        return Terms(loss, reconstruction, kl)

    def noise_shape(self, images: int, latent_size: int) -> tuple[int, ...]:
        """Returns the shape of the noise for a number of images: (n, Z), or (L, n, Z) where `draws` is set.

        >>> Objective(Bernoulli()).noise_shape(128, 15)
        (128, 15)
        """
        return (*(() if self.draws is None else (self.draws,)), images, latent_size)

    def kl_weight(self, epochs_done: float | Tensor) -> float | Tensor:
        """Returns beta, or the part of it that the warm-up has reached."""
        if isinstance(self.warmup_epochs, Tensor):
            ramp = epochs_done / self.warmup_epochs.clamp_min(1e-9)
            return self.beta * torch.where(self.warmup_epochs > 0, ramp.clamp_max(1), 1.0)
        if not self.warmup_epochs:
            return self.beta
        share = epochs_done / self.warmup_epochs
        return self.beta * (share.clamp_max(1) if isinstance(share, Tensor) else min(1.0, share))
