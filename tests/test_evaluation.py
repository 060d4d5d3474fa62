import pytest
import torch

from vae_lab import evaluation, seeding
from vae_lab.data import Dataset, in_order
from vae_lab.evaluation import decoded
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood


@pytest.fixture
def model(rows: Dataset) -> VAE:
    torch.manual_seed(0)
    return VAE(rows.size, 0, latent_size=3, hidden_size=8).to(rows.train.pixels.device)


@pytest.fixture
def cvae(rows: Dataset) -> VAE:
    torch.manual_seed(0)
    return VAE(rows.size, rows.classes, latent_size=3, hidden_size=8).to(rows.train.pixels.device)


BCE = likelihood("bernoulli")


def test_held_out_means_are_those_of_all_images_at_once(rows: Dataset, model: VAE) -> None:
    means = evaluation.held_out(model, Objective(BCE, beta=2.0), rows.test, seed=0, batch_size=32)
    x, c = next(in_order(rows.test, batch_size=32, C=0))
    noise = torch.randn(32, 3, generator=seeding.generator(0, "evaluation", device=x.device), device=x.device)
    with torch.no_grad():
        logits, posterior = model(x, c, noise)
    terms = Objective(BCE, beta=2.0)(logits, x, posterior)
    assert means.loss == pytest.approx(float(terms.loss.mean()), rel=1e-5)
    assert means.negative_elbo == pytest.approx(means.reconstruction + means.kl)
    assert means.loss == pytest.approx(means.reconstruction + 2 * means.kl)


def test_held_out_figures_repeat_exactly(rows: Dataset, model: VAE) -> None:
    first, second = (
        evaluation.held_out(model, Objective(BCE), rows.test, seed=3, batch_size=10) for _ in range(2)
    )
    assert first == second


def test_active_units_count_the_dimensions_that_depend_on_the_image(rows: Dataset, model: VAE) -> None:
    with torch.no_grad():
        model.mean.weight.zero_()
        assert evaluation.held_out(model, Objective(BCE), rows.test, seed=0).active_units == 0
        model.mean.weight[:2] = torch.randn(2, 8, device=model.mean.weight.device) * 5
        assert evaluation.held_out(model, Objective(BCE), rows.test, seed=0).active_units == 2


def test_prior_samples_are_the_same_images_of_the_same_weights(model: VAE) -> None:
    first, second = (evaluation.prior_samples(model, BCE, 12, seed=0) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (12, 16)
    assert 0 <= first.min() <= first.max() <= 1


def test_class_samples_share_the_latent_vector_down_a_column(cvae: VAE) -> None:
    grid = evaluation.class_samples(cvae, BCE, 5, seed=0).view(3, 5, 16)
    with torch.no_grad():
        cvae.decoder[0].get_parameter("weight")[:, 3:] = 0  # no class: only the latent vector is left
    blind = evaluation.class_samples(cvae, BCE, 5, seed=0).view(3, 5, 16)
    assert torch.equal(blind[0], blind[1])
    assert not torch.equal(grid[0], grid[1])


def test_interpolation_has_the_reconstructions_of_its_sources_in_the_corners(
    rows: Dataset, model: VAE
) -> None:
    grid = evaluation.interpolation(model, BCE, rows.test, 5).view(5, 5, 16)
    first = evaluation.reconstructions(model, BCE, rows.test.first(3))
    for corner, expected in zip((grid[0, 0], grid[0, 4], grid[4, 0]), first, strict=True):
        torch.testing.assert_close(corner, expected)


def test_a_cvae_interpolates_within_one_class(rows: Dataset, cvae: VAE) -> None:
    corners = decoded._corners(rows.test, same_class=True)
    assert corners.labels.unique().numel() == 1
    assert evaluation.interpolation(cvae, BCE, rows.test, 4).shape == (16, 16)
