import math

import pytest
import torch

from vae_lab.data import Dataset
from vae_lab.evaluation import latent
from vae_lab.models import VAE, Posterior


def test_a_collapsed_encoder_has_no_active_unit_and_only_collapsed_ones() -> None:
    posterior = Posterior(torch.zeros(100, 4), torch.zeros(100, 4))
    kl = latent.kl_dimensions(posterior)
    assert latent.active_units(posterior.mean) == 0
    assert latent.collapsed_units(kl) == 4
    assert kl.tolist() == [0, 0, 0, 0]


def test_a_perfect_encoder_uses_every_dimension() -> None:
    means = torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    posterior = Posterior(means, torch.full_like(means, math.log(1e-4)))
    kl = latent.kl_dimensions(posterior)
    assert latent.active_units(means) == 4
    assert latent.collapsed_units(kl) == 0
    # E of (mean^2 + var - 1 - log var) / 2 with means of variance 1
    assert kl.mean() == pytest.approx((1 + 1e-4 - 1 - math.log(1e-4)) / 2, rel=0.02)


def test_the_kl_of_dimensions_comes_largest_first() -> None:
    posterior = Posterior(torch.tensor([[0.0, 2.0, 1.0]]), torch.zeros(1, 3))
    assert latent.kl_dimensions(posterior).tolist() == [2.0, 0.5, 0.0]


def test_posteriors_are_those_of_all_images_in_order(rows: Dataset) -> None:
    model = VAE(rows.size, rows.classes, latent_size=3, hidden_size=8).to(rows.test.pixels.device)
    whole, parts = (latent.posteriors(model, rows.test, batch_size=size) for size in (1000, 5))
    torch.testing.assert_close(whole.mean, parts.mean)
    torch.testing.assert_close(whole.log_var, parts.log_var)
    assert whole.mean.shape == (32, 3)
