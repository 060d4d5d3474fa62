"""What the doctor says of models of the lab's whose likelihood, outputs or depth are not the usual ones."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import vae_lab
from benchmarks.plain_faults import TorchVAE
from vae_lab.data import digits
from vae_lab.faults import FaultyObjective, FaultyVAE
from vae_lab.models import VAE
from vae_lab.objectives import Bernoulli, Likelihood, Objective
from vae_lab.trained.doctor.audit import audited
from vae_lab.trained.doctor.findings import Report
from vae_lab.trained.doctor.lab_model import lab_subject

SIZES: dict[str, Any] = {"data_size": 64, "latent_size": 6, "hidden_size": 64, "layers": 2}


@pytest.fixture(scope="module")
def x() -> Tensor:
    return digits(root=None).test.scaled(slice(None))[:256]


class Normal:
    """Normal pixels around a location, of a spread that the decoder gives for each pixel."""

    outputs = 2

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        location, log_var = logits.chunk(2, dim=-1)
        return ((x - location.sigmoid()).square() / log_var.exp() + log_var).sum(-1) / 2

    def mean(self, logits: Tensor) -> Tensor:
        return logits.chunk(2, dim=-1)[0].sigmoid()


class Laplace:
    """Laplace pixels around what the decoder gives, which are the images themselves."""

    def __init__(self, scale: float = 0.1) -> None:
        self.scale = scale

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        return ((x - logits).abs() / self.scale + math.log(2 * self.scale)).sum(-1)

    def mean(self, logits: Tensor) -> Tensor:
        return logits


class Bounded(VAE):
    """A decoder that ends in a sigmoid."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        return super().logits(z, c).sigmoid()


def report_of(
    model: VAE, objective: Objective, x: Tensor, labels: Tensor | None = None, trained: bool = True
) -> Report:
    """What the doctor says of a model and of the loss that it is trained with."""
    pixels: Likelihood = objective.likelihood
    subject = lab_subject(
        "model",
        model,
        x,
        labels,
        loss=lambda logits, x, posterior: objective(logits, x, posterior).loss,
        expected=pixels.mean,
        negative_log=pixels.negative_log,
        trained=trained,
    )
    return audited(subject)


@pytest.mark.parametrize("fault", ["", "kl_mean", "kl_weight", "kl_sigma", "reconstruction_mean"])
def test_a_loss_is_examined_whose_likelihood_wants_several_numbers_of_a_pixel(fault: str, x: Tensor) -> None:
    pixels = Normal()
    objective = FaultyObjective(fault=fault, likelihood=pixels) if fault else Objective(pixels)
    report = report_of(VAE(**SIZES, outputs=2), objective, x)
    assert "loss" not in report.unexamined
    assert report.of_grade("fault") == [fault] * bool(fault), str(report)


def test_a_model_of_several_numbers_a_pixel_is_examined_without_its_likelihood(x: Tensor) -> None:
    report = vae_lab.doctor(VAE(**SIZES, outputs=2), x)
    assert report.of_grade("fault") == []
    assert report.unexamined["pixel range"].startswith("the decoder gives 128 numbers for 64 pixels")
    assert "modes" not in report.unexamined
    ignoring = vae_lab.doctor(FaultyVAE(fault="ignores_z", **SIZES, outputs=2), x)
    assert ignoring.of_grade("fault") == ["ignores_z"]
    told = vae_lab.doctor(FaultyVAE(fault="modes_differ", **SIZES, outputs=2), x)
    assert "nan" not in told.finding("modes_differ", "fault").seen


def test_a_loss_that_the_doctor_does_not_know_is_not_said_to_fail(x: Tensor) -> None:
    report = vae_lab.doctor(VAE(**SIZES, outputs=2), x, loss=lambda outputs, x, mean, log_var: outputs.sum())
    assert report.unexamined["loss"].startswith("the reconstruction is neither cross entropy nor ")


def test_outputs_that_the_likelihood_takes_as_images_may_end_in_a_sigmoid(x: Tensor) -> None:
    report = report_of(Bounded(**SIZES), Objective(Laplace()), x)
    assert report.of_grade("fault") == [], str(report)
    told = vae_lab.doctor(
        Bounded(**SIZES),
        x,
        loss=lambda images, x, mean, log_var: (
            functional.binary_cross_entropy(images, x, reduction="sum") / len(x)
            - (1 + log_var - mean**2 - log_var.exp()).sum() / 2 / len(x)
        ),
    )
    assert told.of_grade("fault") == [], str(told)


@pytest.mark.parametrize("pixels", [Bernoulli(), Normal()])
def test_outputs_that_the_likelihood_takes_as_logits_may_not(pixels: Likelihood, x: Tensor) -> None:
    outputs = getattr(pixels, "outputs", 1)
    report = report_of(Bounded(**SIZES, outputs=outputs), Objective(pixels), x)
    assert report.of_grade("fault") == ["sigmoid_twice"], str(report)
    assert vae_lab.doctor(Bounded(**SIZES), x).of_grade("fault") == ["sigmoid_twice"]


@pytest.mark.parametrize(
    ("layers", "fault"), [(10, ""), (30, ""), (30, "ignores_z"), (30, "condition_ignored")]
)
def test_first_weights_ignore_neither_z_nor_the_label_however_deep_the_decoder(
    layers: int, fault: str, x: Tensor
) -> None:
    torch.manual_seed(0)
    sizes = {**SIZES, "layers": layers, "condition_size": 3}
    model = FaultyVAE(fault=fault, **sizes) if fault else VAE(**sizes)
    report = report_of(model, Objective(Bernoulli()), x[:32], torch.arange(32) % 3, trained=False)
    assert report.of_grade("fault") == [fault] * bool(fault), str(report)


@pytest.mark.parametrize("layers", [10, 30])
def test_first_weights_of_a_deep_encoder_that_hardly_answers_are_no_fault(layers: int, x: Tensor) -> None:
    sizes = {**SIZES, "layers": layers, "latent_size": 1}
    for seed in range(12):
        torch.manual_seed(seed)
        report = report_of(VAE(**sizes), Objective(Bernoulli()), x[:32], trained=False)
        assert report.of_grade("fault") == [], (seed, str(report))


@pytest.mark.parametrize(
    ("power", "weight", "seen"),
    [(2, 100.0, "standard deviation of 7.1"), (1, 100.0, "scale of 1e+02"), (1, 1e-4, "scale of 0.0001")],
)
def test_an_errors_weight_is_the_scale_of_its_own_distribution(
    power: int, weight: float, seen: str, x: Tensor
) -> None:
    def loss(images: Tensor, x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        kl = (mean**2 + log_var.exp() - 1 - log_var).sum(1) / 2
        return ((images - x).abs() ** power).sum(1).mean() + weight * kl.mean()

    finding = vae_lab.doctor(TorchVAE(), x, loss=loss).finding("kl_weight", "fault")
    assert seen in finding.seen
