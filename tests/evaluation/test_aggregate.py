"""The two parts of the KL, against closed forms."""

import math

import pytest
import torch

from vae_lab.evaluation.aggregate import aggregate
from vae_lab.models import Posterior
from vae_lab.objectives import kl_per_dimension

N = 4000
WIDTH = torch.tensor([0.9, 1.3])  # of the means, over images
STD = torch.tensor([0.6, 0.8])  # of each posterior


@pytest.fixture
def linear(device: torch.device) -> Posterior:
    """A linear encoder of normal data: q(z) is normal with variance WIDTH^2 + STD^2."""
    mean = torch.randn(N, 2, generator=torch.Generator().manual_seed(0)) * WIDTH
    return Posterior(mean.to(device), (2 * STD.log()).expand(N, 2).to(device))


def test_both_parts_of_a_linear_encoder_are_those_of_the_closed_form(linear: Posterior) -> None:
    parts = aggregate(linear, seed=0)
    variance = WIDTH.square() + STD.square()
    information = float((variance / STD.square()).log().sum() / 2)
    kl = float((variance - 1 - variance.log()).sum() / 2)
    assert parts.mutual_information == pytest.approx(information, abs=4 * parts.mutual_information_error)
    assert parts.kl == pytest.approx(kl, abs=4 * parts.kl_error)
    assert 0 < parts.mutual_information_error < 0.02
    assert 0 < parts.kl_error < 0.04


def test_the_standard_errors_are_those_over_new_images_and_draws() -> None:
    draws = []
    for seed in range(300):
        mean = torch.randn(200, 2, generator=torch.Generator().manual_seed(seed)) * WIDTH
        draws.append(aggregate(Posterior(mean, (2 * STD.log()).expand(200, 2)), seed=seed))
    information, error, kl, kl_error = torch.tensor(draws).double().unbind(-1)
    assert float(information.std()) == pytest.approx(float(error.mean()), rel=0.25)
    assert float(kl.std()) == pytest.approx(float(kl_error.mean()), rel=0.25)


def test_the_parts_add_up_to_the_mean_kl_exactly(linear: Posterior) -> None:
    for seed in range(3):
        parts = aggregate(linear, seed=seed, batch_size=700)
        kl = float(kl_per_dimension(linear).double().sum(-1).mean())
        assert parts.mutual_information + parts.kl == pytest.approx(kl, rel=1e-6)


def test_latent_vectors_that_do_not_depend_on_the_image_have_no_information(device: torch.device) -> None:
    same = Posterior(torch.full((100, 3), 0.7, device=device), torch.full((100, 3), -1.0, device=device))
    parts = aggregate(same, seed=0)
    assert parts.mutual_information == pytest.approx(0, abs=1e-12)
    assert parts.kl == pytest.approx(float(kl_per_dimension(same).double().sum(-1).mean()))


def test_the_information_is_at_most_log_n() -> None:
    apart = Posterior(torch.arange(60.0)[:, None] * 100, torch.zeros(60, 1))
    parts = aggregate(apart, seed=0)
    assert parts.mutual_information == pytest.approx(math.log(60))
    assert parts.mutual_information_error == pytest.approx(0, abs=1e-9)


def test_equal_seeds_give_equal_parts_whatever_the_batches(linear: Posterior) -> None:
    assert aggregate(linear, seed=1) == pytest.approx(aggregate(linear, seed=1, batch_size=97))
    assert aggregate(linear, seed=1) != aggregate(linear, seed=2)


def test_one_image_has_no_information_and_tells_no_error() -> None:
    parts = aggregate(Posterior(torch.ones(1, 2), torch.zeros(1, 2)), seed=0)
    assert parts == pytest.approx((0, math.nan, 1, math.nan), nan_ok=True)
