"""Images that a model draws itself have the distribution of its likelihood."""

import math

import pytest
import torch

from vae_lab.evaluation.simulated import drawn_pixels, simulated
from vae_lab.models import VAE
from vae_lab.objectives import likelihood


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "gaussian"])
@pytest.mark.parametrize("logit", [-30.0, -2.0, 0.0, 1e-3, 0.7, 30.0, 200.0])
def test_pixels_have_the_mean_that_the_likelihood_says(name: str, logit: float) -> None:
    chosen = likelihood(name)
    logits = torch.full((40_000,), logit)
    pixels = drawn_pixels(chosen, logits, torch.Generator().manual_seed(0)).double()
    error = float(pixels.std()) / math.sqrt(len(pixels))
    assert float(pixels.mean()) == pytest.approx(float(chosen.mean(logits)[0]), abs=4 * error + 1e-6)


@pytest.mark.parametrize("name", ["bernoulli", "continuous_bernoulli", "gaussian"])
def test_the_mean_of_one_density_by_another_is_one(name: str) -> None:
    """E over x from p of p'(x) / p(x) is 1: the draws have the density, not only the mean."""
    chosen = likelihood(name, std=0.5)
    logits, other = torch.full((40_000, 1), 1.2), torch.full((40_000, 1), 0.3)
    x = drawn_pixels(chosen, logits, torch.Generator().manual_seed(0))
    ratio = (chosen.negative_log(logits, x) - chosen.negative_log(other, x)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / 200)


def test_images_follow_from_the_seed() -> None:
    torch.manual_seed(0)
    model = VAE(16, 3, latent_size=2, hidden_size=8)
    c = torch.eye(3)
    first, again, other = (simulated(model, likelihood("bernoulli"), c, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[1], other[1])
    assert first[0].unique().tolist() == [0, 1]
