"""Models of the user's own: two are tried as a stack before any runs of them are trained as one.

Shapes: L noise draws, K runs of a stack, n images, D pixels, C condition, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from vae_lab import config, faults, seeding
from vae_lab.jobs.parts.built import class_named, model_of
from vae_lab.models import VAE, Decoding, autoencoded
from vae_lab.objectives import Objective
from vae_lab.stacks import Stack

IMAGES = 3  # n of a trial
ROUNDING = 1e-4  # of a norm: what batched products in float32 may differ by, and no other computation

# What a multirun's points share is tried once: by the class and the settings that it is built from.
_trials: dict[tuple[type, str], bool] = {}


def can_be_stacked(settings: DictConfig, arguments: Mapping[str, Any], objective: Objective) -> bool:
    """Returns whether models of the configured class do in a stack what they do alone.

    A class of the lab's does. Two models of any other are built and tried on a few images.

    Args:
        settings: A config whose model is `stacks.stackable`.
        arguments: What the model is built with.
        objective: The loss, for the shape of the noise.
    """
    target = class_named(faults.config_with(settings).model._target_, nn.Module, "model._target_")
    if target.__module__.partition(".")[0] == "vae_lab":
        return True
    chosen = target, str((config.plain(settings, ["model", "fault"]), arguments, objective.draws))
    if chosen not in _trials:

        def build(run: int) -> VAE:
            with seeding.global_generator(run, "trial of a stack"):
                return _with_spread_weights(model_of(settings, arguments))

        noise_shape = objective.noise_shape(IMAGES, arguments["latent_size"])
        _trials[chosen] = is_stackable(
            build, arguments["data_size"], arguments["condition_size"], noise_shape
        )
    return _trials[chosen]


def is_stackable(
    build: Callable[[int], VAE], data_size: int, condition_size: int, noise_shape: tuple[int, ...]
) -> bool:
    """Returns whether two models as a stack give what each gives alone, and get the same gradients.

    Args:
        build: Returns the model of a run, 0 or 1, in training mode on the CPU.
        data_size: D.
        condition_size: C.
        noise_shape: (n, Z), or (L, n, Z) of several draws an image.

    Examples:
        >>> is_stackable(lambda run: VAE(16, 3, latent_size=2), 16, 3, (4, 2))
        True
    """
    *draws, images, latent_size = noise_shape
    generator = seeding.generator(0, "numbers for the trial of a stack")
    x = torch.rand(2, images, data_size, generator=generator)
    c = torch.rand(2, images, condition_size, generator=generator)
    noise = torch.randn(*draws, 2, images, latent_size, generator=generator)
    try:
        models = [build(0), build(1)]
        alone = []  # before their weights are those of a stack
        for run, model in enumerate(models):
            outputs = _outputs_of_a_step(model, x[run], c[run], noise.select(-3, run))
            alone.append([*outputs, *(weights.grad for weights in model.parameters())])
        stack = Stack(models)
        logits, *posterior = _outputs_of_a_step(stack.model, x, c, noise)
        gradients = [weights.grad for weights, _ in stack.parameters]
        for run, expected in enumerate(alone):
            of_run = [part[run] for part in (*posterior, *gradients) if part is not None]
            pairs = zip([logits.select(-3, run), *of_run], expected, strict=True)
            if not all(_agree(in_stack, tensor) for in_stack, tensor in pairs):
                return False
    except Exception:  # a class of the user's own, which knows of no further axis
        return False
    return True


@torch.enable_grad()
def _outputs_of_a_step(model: Decoding, x: Tensor, c: Tensor, noise: Tensor) -> list[Tensor]:
    """Returns logits, posterior mean and log-variance; the weights have gradients of all three."""
    logits, posterior = autoencoded(model, x, c, noise)
    outputs = [logits, *posterior]
    torch.stack([part.square().sum() for part in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    return [part.detach() for part in outputs]


def _agree(in_stack: Tensor, alone: Tensor | None) -> bool:
    """Returns whether two tensors are equal up to rounding; what is not finite is equal to nothing."""
    if alone is None or in_stack.shape != alone.shape:
        return False
    return bool((in_stack - alone).norm() <= ROUNDING * alone.norm())


@torch.no_grad()
def _with_spread_weights(model: VAE) -> VAE:
    """Returns the model, each weight moved a little: one that begins at zero would hide what follows it."""
    for weights in model.parameters():
        weights.add_(torch.randn_like(weights), alpha=0.1 / max(1, weights.shape[-1]) ** 0.5)
    return model
