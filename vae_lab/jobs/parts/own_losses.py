"""Losses and likelihoods of the user's own: each is tried before a run, on numbers of a run's shapes.

Shapes: L noise draws, K runs of a stack, n images, D pixels, P outputs of the decoder, Z latent dimensions.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor

from vae_lab import seeding
from vae_lab.errors import LabError, UserError
from vae_lab.jobs.parts.arguments import reason_of
from vae_lab.jobs.parts.draws import noticed
from vae_lab.models import Posterior
from vae_lab.objectives import Objective, Terms, outputs_of, weights_of
from vae_lab.stacks import WEIGHTS, stack_objectives

IMAGES = 3  # n of a trial
PLAIN = (bool, int, float, complex, str, bytes, list, tuple, dict, set)  # their text tells what they are


def is_own(thing: object) -> bool:
    """Returns whether a loss or a likelihood is of a class of the user's own."""
    return type(thing).__module__ != "vae_lab.objectives"


def draws_itself(objective: Objective, data_size: int, latent_size: int) -> bool:
    """Returns whether a loss that has been tried draws from the global generator; the lab's own do not.

    Args:
        objective: The loss, on the CPU.
        data_size: D.
        latent_size: Z.
    """
    if not (is_own(objective) or is_own(objective.likelihood)):
        return False
    return try_loss(objective, {}, data_size, latent_size)


def try_loss(objective: Objective, names: Mapping[str, str], data_size: int, latent_size: int) -> bool:
    """Computes a loss or a likelihood of the user's own, in training and on held-out images.

    Args:
        objective: The loss, on the CPU.
        names: What the config calls loss and likelihood, `objective._target_` and `objective.likelihood`.
        data_size: D.
        latent_size: Z.

    Returns:
        Whether it has drawn from PyTorch's global generator.

    Raises:
        UserError: It fails, or gives what is no loss of every image.
    """
    with noticed() as has_drawn:
        _compute(objective, names, data_size, latent_size)
        return has_drawn()


def _compute(objective: Objective, names: Mapping[str, str], data_size: int, latent_size: int) -> None:
    numbers = logits, x, posterior, noise = _numbers(objective, (), data_size, latent_size)
    likelihood, asked = objective.likelihood, ""
    try:
        if is_own(likelihood):
            asked = "objective.likelihood"
            _check("negative_log", likelihood.negative_log(logits, x), tuple(logits.shape[:-1]))
            _check("mean", likelihood.mean(logits), (*logits.shape[:-1], data_size))
        asked = "objective._target_"
        encoded_logits, encoded = _as_encoded(logits, posterior, noise)
        terms = _checked(objective(encoded_logits, x, encoded, noise, epochs_done=0.5))
        torch.autograd.grad(terms.loss.sum(), encoded, allow_unused=True)
        with torch.no_grad():  # as on held-out images
            _checked(objective(*numbers, epochs_done=0.5))
    except LabError as error:
        raise UserError(f"{asked}={names.get(asked)}: {error}") from error
    except Exception as error:
        raise UserError(f"{asked}={names.get(asked)}: {reason_of(error)}") from error


def _checked(terms: object) -> Terms:
    if not isinstance(terms, Terms):
        raise UserError(f"gives a {type(terms).__name__}, not vae_lab.objectives.Terms.")
    for name, term in terms._asdict().items():
        _check(name, term, (IMAGES,))
    return terms


def _check(name: str, value: object, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        is_now = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise UserError(f"{name} must have shape {shape} for {IMAGES} images, and is of {is_now}.")
    if not bool(value.isfinite().all()):
        raise UserError(f"{name} is not finite for logits of a standard normal distribution.")


def state(objective: Objective) -> str:
    """Returns what a loss holds beside the weights in which runs of a stack may differ, if it is plain.

    A stack computes with the attributes of its first run: what a class derives from `beta` must be equal.

    Examples:
        >>> from vae_lab.objectives import likelihood
        >>> losses = [Objective(likelihood("bernoulli"), beta=beta, penalty="l1") for beta in (1.0, 4.0)]
        >>> {state(loss) for loss in losses}
        {"[('penalty', 'l1')]"}
    """
    held = {key: value for key, value in vars(objective).items() if key not in WEIGHTS}
    held = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in held.items()}
    return repr(
        sorted((key, value) for key, value in held.items() if value is None or isinstance(value, PLAIN))
    )


def other_weight(weight: float) -> float:
    """Returns another value for a weight of a loss.

    >>> other_weight(1.0)
    3.0
    """
    return 2 * weight + 1


def is_stackable(
    objective: Objective, data_size: int, latent_size: int, other: Objective | None = None
) -> bool:
    """Returns whether a loss of two runs at once is that of either alone, as it must be in a stack.

    Args:
        objective: The loss.
        data_size: D.
        latent_size: Z.
        other: The same with other weights, as its class makes it; without it, or if its `state` is another,
            with which it can be in no stack with the loss, a copy of the loss is given other weights.

    Examples:
        >>> from vae_lab.objectives import likelihood
        >>> is_stackable(Objective(likelihood("bernoulli"), beta=4.0), data_size=16, latent_size=2)
        True
    """
    if any(True for _ in weights_of(objective.likelihood)):
        return False  # each run has its own
    logits, x, posterior, noise = _numbers(objective, (2,), data_size, latent_size)
    if other is None or state(other) != state(objective):
        other = copy.copy(objective)
        for name in WEIGHTS:
            setattr(other, name, other_weight(getattr(objective, name)))
    warm = 1 + max(float(objective.warmup_epochs), float(other.warmup_epochs))
    try:
        stack = stack_objectives([objective, other], torch.device("cpu"))
        for epochs_done in (0.5, warm):
            together = _terms(stack, logits, x, posterior, noise, epochs_done)
            for run, alone in enumerate((objective, other)):
                of_run = Posterior(posterior.mean[run], posterior.log_var[run])
                parts = (logits.select(-3, run), x[run], of_run, noise.select(-3, run))
                for stacked, term in zip(together, _terms(alone, *parts, epochs_done), strict=True):
                    if not torch.allclose(stacked[run], term, rtol=1e-4, atol=1e-4):
                        return False
    except Exception:  # a class of the user's own, which knows of no further axis
        return False
    return True


def _terms(
    objective: Objective, logits: Tensor, x: Tensor, posterior: Posterior, noise: Tensor, epochs_done: float
) -> Terms:
    """Returns the terms, with gradients: a loss may take some, of all runs at once in a stack."""
    logits, posterior = _as_encoded(logits, posterior, noise)
    return objective(logits, x, posterior, noise, epochs_done=epochs_done)


def _as_encoded(logits: Tensor, posterior: Posterior, noise: Tensor) -> tuple[Tensor, Posterior]:
    """Returns logits and posterior as in training: with gradients, one by way of the other."""
    mean, log_var = (values.detach().requires_grad_().clone() for values in posterior)
    encoded = Posterior(mean, log_var)
    return logits + encoded.sample(noise).mean(-1, keepdim=True), encoded


def _numbers(
    objective: Objective, runs: tuple[int, ...], data_size: int, latent_size: int
) -> tuple[Tensor, Tensor, Posterior, Tensor]:
    """Returns logits (L, K, n, P), images (K, n, D), posterior and noise (L, K, n, Z), L and K if any."""
    generator = seeding.generator(0, "trial of a loss")

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    lead = (*objective.noise_shape(IMAGES, latent_size)[:-2], *runs, IMAGES)
    x = torch.rand(*runs, IMAGES, data_size, generator=generator)
    posterior = Posterior(normal(*runs, IMAGES, latent_size), normal(*runs, IMAGES, latent_size))
    outputs = outputs_of(objective.likelihood)
    return normal(*lead, outputs * data_size), x, posterior, normal(*lead, latent_size)
