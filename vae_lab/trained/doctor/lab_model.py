"""A model of the lab's as a subject: it takes its noise as an argument, and a label as a one-hot condition.

Shapes: N images, D pixels, Z latent dimensions, C condition.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vae_lab.evaluation.arguments import checked_labels
from vae_lab.models import VAE, Posterior
from vae_lab.trained.doctor.subject import LOGITS, Subject


def lab_subject(name: str, module: VAE, images: Tensor, labels: Tensor | None, **described: Any) -> Subject:
    """Returns a model of the lab's as a subject.

    Args:
        name: In the report.
        module: The model.
        images: (N, *) in [0, 1], of D pixels.
        labels: Whole numbers (N,); None for a VAE.
        described: Further fields of `Subject`.

    Raises:
        UserError: A CVAE has no labels, or those of classes that it does not know.
    """
    C, Z = module.condition_size, module.latent_size

    def condition(like: Tensor, c: Tensor | None) -> Tensor:
        return like.new_zeros(len(like), 0) if c is None else c.to(like)

    def passed(x: Tensor, c: Tensor | None) -> tuple[Tensor, Posterior]:
        noise = torch.randn(len(x), Z, dtype=x.dtype, device=x.device)
        logits, posterior = module(x, condition(x, c), noise)
        return logits, posterior

    return Subject(
        name=name,
        module=module,
        images=images.flatten(1),
        labels=checked_labels(labels, len(images), C, images.device) if C else None,
        encode=lambda x, c: module.posterior(x, condition(x, c)),
        decode=lambda z, c: module.logits(z, condition(z, c)),
        forward=passed,
        output=LOGITS,
        **described,
    )
