"""Any torch VAE as a subject, and what is asked of the arguments that describe it.

Shapes: N images, D pixels of an image over all channels, Z latent dimensions, C condition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vae_lab.errors import UserError, choices, quoted
from vae_lab.evaluation.arguments import checked_seed, is_number
from vae_lab.models import VAE
from vae_lab.seeding import global_generator
from vae_lab.trained.doctor.audit import audited
from vae_lab.trained.doctor.calls import TRIED, Call, Calls
from vae_lab.trained.doctor.findings import Report
from vae_lab.trained.doctor.lab_model import lab_subject
from vae_lab.trained.doctor.subject import OUTPUTS, Subject, in_mode

SPREADS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "log_var": (lambda spread: spread, lambda log_var: log_var),
    "log_std": (lambda spread: 2 * spread, lambda log_var: log_var / 2),
    "std": (lambda spread: 2 * spread.log(), lambda log_var: (log_var / 2).exp()),
    "var": (lambda spread: spread.log(), lambda log_var: log_var.exp()),
}  # of the encoder's second output, from it to the log-variance and back


DESCRIBED = ("encode", "decode", "forward", "output", "spread", "train_images", "losses")


def audited_module(module: nn.Module, images: Any, labels: Any, *, seed: int, **described: Any) -> Report:
    """Returns what the doctor finds of a module; the arguments are those of `vae_lab.doctor`.

    Raises:
        UserError: An argument is not what it must be, or the module cannot be called in a way that is known.
        LabError: A function fails in the middle of a check.
    """
    for name in described.keys() - {"loss", "beta", *DESCRIBED}:
        raise UserError(f"{quoted(name)}: unknown argument{choices(name, DESCRIBED)}")
    number = checked_seed(seed)
    return audited(subject_of(module, images, labels, **described), seed=number)


def subject_of(
    module: nn.Module,
    images: Any,
    labels: Any = None,
    *,
    loss: Call | None = None,
    beta: float = 1.0,
    output: str | None = None,
    spread: str = "log_var",
    train_images: Any = None,
    losses: Sequence[float] | None = None,
    **calls: Call | None,
) -> Subject:
    """Returns a module as a subject; `calls` are its functions, where they are not found by their names."""
    _check(module, output, spread)
    _check_functions({"loss": loss, **calls})
    like = next((weight for weight in module.parameters() if weight.is_floating_point()), torch.empty(0))
    x, condition = _images("images", images, like), _labels(labels, len(images), like.device)
    to_log_var, to_spread = SPREADS[spread]
    name = f"{type(module).__module__}.{type(module).__qualname__}"
    told: dict[str, Any] = {
        "loss": None if loss is None else lambda out, x, q: total(loss(out, x, q.mean, to_spread(q.log_var))),
        "beta": _weight(beta),
        "train_images": None if train_images is None else _images("train_images", train_images, like),
        "losses": _numbers("losses", losses),
    }
    if isinstance(module, VAE):
        _check_that_nothing_else_is_said({"output": output, **calls})
        if (pixels := x.flatten(1).shape[1]) != module.data_size:
            raise UserError(f"images: have {pixels} pixels; the model takes {module.data_size}.")
        return lab_subject(name, module, x, condition, **told)
    known = Calls(module, to_log_var=to_log_var, **calls)
    with in_mode(module, training=False), global_generator(0, "doctor", "calls", device=like.device):
        x = known.settle(x, condition)
    told |= {"forward": known.passed, "decode": known.decoded if known.decode else None, "output": output}
    told |= {"undecoded": known.undecoded}
    return Subject(name, module, x, known.encoded, condition, **told)


def _check(module: nn.Module, output: str | None, spread: str) -> None:
    if not isinstance(module, nn.Module):
        raise UserError(f"module={quoted(module)}: must be a torch.nn.Module.")
    if output is not None and not (isinstance(output, str) and output in OUTPUTS):
        raise UserError(f"output={quoted(output)}: unknown{choices(output, OUTPUTS)}")
    if not isinstance(spread, str) or spread not in SPREADS:
        raise UserError(f"spread={quoted(spread)}: unknown{choices(spread, SPREADS)}")


def _check_functions(functions: Mapping[str, Any]) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise UserError(f"{name}={quoted(function)}: must be a function.")


def _check_that_nothing_else_is_said(described: Mapping[str, Any]) -> None:
    for name, value in described.items():
        if value is not None:
            raise UserError(
                f"{name}={quoted(value)}: must be left out for a model of the lab's, which is known."
            )


def _weight(beta: Any) -> float:
    try:
        weight = float(beta) if is_number(beta) else -1.0
    except (TypeError, ValueError):  # an array's text is a number of no axes, too
        weight = -1.0
    if not 0 <= weight < float("inf"):
        raise UserError(f"beta={quoted(beta)}: must be a finite number of at least 0.")
    return weight


def _numbers(name: str, values: Any) -> list[float]:
    try:
        if isinstance(values, str):
            raise TypeError
        return [float(value) for value in (() if values is None else values)]
    except (TypeError, ValueError, RuntimeError):
        raise UserError(f"{name}={quoted(values)}: must be a list of numbers, one a step.") from None


def total(result: Any) -> Tensor:
    """Returns the total of what a loss returns: a tensor, the first of several, or the one named `loss`.

    Examples:
        >>> total((torch.tensor(3.0), torch.tensor(2.0))), total({"loss": torch.tensor(3.0)})
        (tensor(3.), tensor(3.))
    """
    if isinstance(result, Mapping):
        result = next((result[name] for name in ("loss", "total", "total_loss") if name in result), None)
    elif isinstance(result, tuple | list):
        result = result[0] if result else None
    elif hasattr(result, "loss"):
        result = result.loss
    if not isinstance(result, Tensor):
        raise TypeError("it returns no tensor, no (total, ...) and no {'loss': ...}")
    return result


def _images(name: str, given: Any, like: Tensor) -> Tensor:
    """Returns images as numbers of the type that the module computes with, and on its device."""
    images = _tensor(name, given, like.device).to(like.dtype)
    if images.ndim < 2 or len(images) < TRIED:
        raise UserError(
            f"{name}: have shape {tuple(images.shape)}; needed are N >= {TRIED} images, (N, channels, "
            "height, width) or (N, pixels)."
        )
    if not bool(images.isfinite().all()):
        raise UserError(f"{name}: have pixels that are no numbers.")
    return images


def _labels(given: Any, count: int, device: torch.device) -> Tensor | None:
    if given is None:
        return None
    labels = _tensor("labels", given, device)
    labels = labels if labels.ndim else labels.expand(count)
    if len(labels) != count:
        raise UserError(
            f"labels: have shape {tuple(labels.shape)} for {count} images; needed is one an image, or "
            "one for all."
        )
    return labels


def _tensor(name: str, given: Any, device: torch.device) -> Tensor:
    try:
        return torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given)).to(device)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{name}: are no array: {quoted(error, 200)}") from None
