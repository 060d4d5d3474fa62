"""The audit: every check that a subject allows, under one seed, in evaluation mode, without a gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch

from vae_lab.errors import LabError
from vae_lab.seeding import global_generator
from vae_lab.trained.doctor.findings import Finding, Report, UnexaminedError, reason_of, worst_first
from vae_lab.trained.doctor.latent import check_latent
from vae_lab.trained.doctor.loss import check_loss
from vae_lab.trained.doctor.pixels import (
    check_condition,
    check_decoder,
    check_grey,
    check_range,
    check_use_of_z,
    with_output,
)
from vae_lab.trained.doctor.sampling import check_sampling
from vae_lab.trained.doctor.subject import Subject, in_mode
from vae_lab.trained.doctor.training import check_losses, check_modes, check_record

CHECKS: dict[str, Callable[[Subject], Iterator[Finding]]] = {
    "pixel range": check_range,
    "loss": check_loss,
    "posterior": check_latent,
    "noise": check_sampling,
    "use of z": check_use_of_z,
    "condition": check_condition,
    "kind of pixels": check_grey,
    "modes": check_modes,
    "training": check_losses,
    "record": check_record,
}


def audited(subject: Subject, *, seed: int = 0) -> Report:
    """Returns what all checks found.

    Args:
        subject: What is audited; its modes, its buffers and torch's generators are left as they were.
        seed: Of the audit's draws.

    Raises:
        LabError: A function of the subject fails in the middle of a check.
    """
    findings: list[Finding] = []
    unexamined: dict[str, str] = {}
    device = subject.images.device
    with in_mode(subject.module, training=False), torch.no_grad():
        with global_generator(seed, "doctor", device=device):
            try:
                check_decoder(subject)
            except UnexaminedError as reason:
                unexamined["decoder"], subject = str(reason), replace(subject, decode=None)
            subject = with_output(subject)
        for name, check in CHECKS.items():
            with global_generator(seed, "doctor", name, device=device):
                try:
                    for finding in check(subject):  # what it yields before it gives up counts
                        findings.append(finding)
                except UnexaminedError as reason:
                    unexamined[name] = str(reason)
                except (RuntimeError, ValueError, TypeError) as error:  # of anybody's module
                    raise LabError(
                        f"{subject.name}: the check of its {name} fails: {reason_of(error)}"
                    ) from error
    return Report(subject.name, worst_first(findings), unexamined)
