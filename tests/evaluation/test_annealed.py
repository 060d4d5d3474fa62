"""Annealed importance sampling, against the linear-Gaussian model whose log p(x) is known."""

import math

import pytest
import torch
from torch import Tensor

from tests.evaluation.test_bounds import NOISE, LinearGaussian, Normal
from vae_lab.evaluation.annealed import Annealed, annealed, inverse_temperatures

N = 200


def simulated(model: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
    """Images of the model itself, their conditions, and the latent vectors that they were decoded from."""
    generator = torch.Generator().manual_seed(2)
    C = model.condition_size
    c = torch.eye(C)[torch.arange(N) % C] if C else torch.zeros(N, 0)
    z = torch.randn(N, model.latent_size, generator=generator)
    logits = model.logits(z, c)
    return logits + NOISE * torch.randn(logits.shape, generator=generator), c, z


def both_ways(model: LinearGaussian, temperatures: int, chains: int = 4, seed: int = 0) -> Annealed:
    x, c, z = simulated(model)
    return annealed(model, Normal(), x, c, temperatures=temperatures, chains=chains, seed=seed, exact=z)


def mean_and_error(values: Tensor) -> tuple[float, float]:
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


@pytest.mark.parametrize("classes", [0, 3])
def test_log_p_lies_between_the_bounds_and_near_both(classes: int) -> None:
    model = LinearGaussian(condition_size=classes)
    x, c, _ = simulated(model)
    truth = model.log_likelihood(x, c).double()
    bounds = both_ways(model, 60)
    assert bounds.upper is not None
    for excess in (truth - bounds.lower, bounds.upper - truth):
        mean, error = mean_and_error(excess)
        assert -3 * error < mean < 0.05


def test_the_gap_shrinks_with_the_temperatures() -> None:
    gaps = []
    for temperatures in (2, 8, 32):
        bounds = both_ways(LinearGaussian(), temperatures, chains=1)
        assert bounds.upper is not None
        gaps.append(float((bounds.upper - bounds.lower).mean()))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 0


def test_a_wrong_encoder_costs_efficiency_and_not_validity() -> None:
    model = LinearGaussian(error=3.0)
    x, c, _ = simulated(model)
    bounds = both_ways(model, 60)
    mean, error = mean_and_error(model.log_likelihood(x, c).double() - bounds.lower)
    assert -3 * error < mean < 0.05


def test_weights_are_unbiased_even_where_there_are_few_temperatures() -> None:
    model = LinearGaussian()
    x, c, z = (values[:2].repeat(2000, 1) for values in simulated(model))
    bounds = annealed(model, Normal(), x, c, temperatures=3, chains=1, seed=0, exact=z)
    ratio = (bounds.lower - model.log_likelihood(x, c).double()).exp()
    mean, error = mean_and_error(ratio)
    assert mean == pytest.approx(1, abs=4 * error)
    assert error < 0.05


def closed_form(model: LinearGaussian, x: Tensor, betas: Tensor) -> tuple[Tensor, Tensor]:
    """Rate and distortion (T + 1, N) of p_b, which is normal with diagonal covariance."""
    square = model.W.square().sum(0) / NOISE**2
    precision = 1 + betas[:, None, None] * square
    mean = betas[:, None, None] * ((x - model.b) @ model.W / NOISE**2) / precision
    rate = ((mean.square() + 1 / precision - 1 + precision.log()) / 2).sum(-1)
    spread = (square / precision).sum(-1) / 2
    at_mean = Normal().negative_log(mean.float() @ model.W.T + model.b, x)
    return rate, at_mean + spread


def test_rate_and_distortion_are_those_of_the_closed_form_at_every_temperature() -> None:
    model = LinearGaussian()
    x, _, _ = simulated(model)
    chains = both_ways(model, 100, chains=16)
    rate, distortion = closed_form(model, x, chains.betas)
    for measured, exact in ((chains.rate, rate), (chains.distortion, distortion)):
        excess = measured - exact
        error = excess.std(1) / math.sqrt(N)
        assert bool((excess.mean(1).abs() < 4 * error + 0.02).all())
        assert float(error.max()) < 0.15
    assert torch.allclose(chains.rate[-1] + chains.distortion[-1], -chains.lower)
    assert float(chains.rate[0].abs().max()) < 1e-9, "the prior has no rate"


def test_equal_seeds_give_equal_chains() -> None:
    first, again, other = (both_ways(LinearGaussian(), 5, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.log_integral, again.log_integral)
    assert not torch.equal(first.log_integral, other.log_integral)


def test_temperatures_rise_from_the_prior_to_the_posterior() -> None:
    betas = inverse_temperatures(50)
    assert betas[0] == 0
    assert betas[-1] == 1
    assert betas == sorted(betas)
