import math

import pytest
import torch

from vae_lab.data import Images
from vae_lab.evaluation import spectrum

PLANTED = torch.tensor([5.0, 3.0, 1.0, 0.5, 0.5], dtype=torch.float64)


def test_planted_directions_and_variances_are_found() -> None:
    generator = torch.Generator().manual_seed(0)
    directions = torch.linalg.qr(torch.randn(8, 2, generator=generator)).Q
    scores = torch.randn(4000, 2, generator=generator) * torch.tensor([60.0, 20.0])
    pixels = (scores @ directions.T + 128).clamp(0, 255).round().to(torch.uint8)
    eigenvalues = spectrum.eigenvalues(Images(pixels, torch.zeros(4000, dtype=torch.int64), 255))
    deviations = (eigenvalues.sqrt() * 255)[:2].tolist()
    assert deviations == pytest.approx([60, 20], rel=0.05)
    assert eigenvalues[2:].max() < 1e-4 * eigenvalues[0]  # rounding and clipping
    assert spectrum.rank_at(eigenvalues, 0.85) == 1
    assert spectrum.rank_at(eigenvalues, 0.99) == 2


def test_eigenvalues_are_the_squared_singular_values_of_the_centred_data() -> None:
    pixels = torch.randint(0, 256, (300, 12), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    images = Images(pixels, torch.zeros(300, dtype=torch.int64), 255)
    x = images.scaled(slice(None)).double()
    expected = torch.linalg.svdvals(x - x.mean(0))
    eigenvalues = spectrum.eigenvalues(images, batch_size=70)
    torch.testing.assert_close(spectrum.singular_values(eigenvalues, 300), expected)


def test_ranks_count_the_dimensions_that_hold_a_share_of_the_variance() -> None:
    assert spectrum.cumulative_variance(PLANTED).tolist() == pytest.approx([0.5, 0.8, 0.9, 0.95, 1])
    assert [spectrum.rank_at(PLANTED, share) for share in (0.5, 0.6, 0.9, 0.95, 1.0)] == [1, 2, 3, 4, 5]


def test_the_noise_is_the_mean_of_what_is_left_out() -> None:
    assert spectrum.noise_variance(PLANTED, 3) == 0.5
    assert spectrum.noise_variance(PLANTED, 1) == 1.25


def test_dimensions_above_the_noise_are_active() -> None:
    assert [spectrum.active_dimensions(PLANTED, noise) for noise in (6, 2, 0.75, 0.1)] == [0, 2, 3, 5]


@pytest.mark.parametrize("latent_size", [1, 2, 3])
def test_the_log_likelihood_is_that_of_the_fitted_normal_distribution(latent_size: int) -> None:
    noise = spectrum.noise_variance(PLANTED, latent_size)
    variances = PLANTED.clone()
    variances[latent_size:] = noise
    x = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(x.T.cov(correction=0))).T
    data = white * PLANTED.sqrt()  # with exactly the planted covariance
    expected = torch.distributions.Normal(0, variances.sqrt()).log_prob(data).sum(-1).mean()
    assert spectrum.log_likelihood(PLANTED, latent_size) == pytest.approx(float(expected), rel=1e-9)


def test_variance_that_only_rounding_makes_is_none() -> None:
    flat = Images(torch.full((50, 6), 77, dtype=torch.uint8), torch.zeros(50, dtype=torch.int64), 255)
    assert spectrum.eigenvalues(flat).tolist() == [0.0] * 6
    few = torch.randint(0, 256, (4, 12), generator=torch.Generator().manual_seed(1)).to(torch.uint8)
    eigenvalues = spectrum.eigenvalues(Images(few, torch.zeros(4, dtype=torch.int64), 255))
    assert int((eigenvalues > 0).sum()) == 3  # four centred images span three dimensions


def test_without_noise_the_density_has_no_bound() -> None:
    planar = torch.tensor([5.0, 3.0, 0.0, 0.0], dtype=torch.float64)
    assert spectrum.noise_variance(planar, 2) == 0
    assert spectrum.log_likelihood(planar, 2) == math.inf
    assert math.isfinite(spectrum.log_likelihood(planar, 1))
