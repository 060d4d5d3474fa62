"""What the doctor asks of a torch module and of the arguments that describe it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor
from torch.nn import functional

import vae_lab
from benchmarks.plain_faults import TorchVAE
from vae_lab.data import digits

Terms = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def x() -> Tensor:
    return digits(root=None).test.scaled(slice(None))


SUMMED: dict[str, tuple[float, Terms]] = {
    "": (1, lambda kl, _: kl.sum()),
    "kl_mean": (1, lambda kl, _: kl.mean(1).sum()),
    "reconstruction_mean": (1 / 64, lambda kl, _: kl.sum()),
    "kl_weight": (1, lambda kl, _: 0.01 * kl.sum()),
    "batch_size": (1, lambda kl, x: kl.sum() / len(x)),
}


@pytest.mark.parametrize("fault", SUMMED)
@pytest.mark.parametrize("count", [16, 20, 31, 64])
def test_a_loss_summed_over_few_images_has_the_fault_that_it_has_of_many(
    x: Tensor, fault: str, count: int
) -> None:
    scale, kl_term = SUMMED[fault]

    def loss(reconstruction: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
        kl = -0.5 * (1 + logvar - mu**2 - logvar.exp())
        return scale * functional.binary_cross_entropy(reconstruction, x, reduction="sum") + kl_term(kl, x)

    report = vae_lab.doctor(TorchVAE(), x[:count], loss=loss)
    assert report.of_grade("fault") == [fault] * bool(fault), str(report)
    assert "loss_scale" not in report
