import math

import pytest
import torch
from torch import Tensor

from vae_lab.data import Images
from vae_lab.evaluation import bounds
from vae_lab.models import VAE, Posterior
from vae_lab.objectives import Bernoulli

D, Z = 6, 2
NOISE = 0.5  # standard deviation of a pixel


class Normal:
    """Pixels around the logits themselves, so that the marginal of a linear decoder is normal."""

    def negative_log(self, logits: Tensor, x: Tensor) -> Tensor:
        return ((x - logits) / NOISE).square().sum(-1) / 2 + D * math.log(NOISE * math.sqrt(2 * math.pi))

    def mean(self, logits: Tensor) -> Tensor:
        return logits


class LinearGaussian(VAE):
    """x = W z + b + noise with orthogonal columns of W, whose true posterior is a diagonal Gaussian.

    Args:
        error: added to the mean of the true posterior.
        condition_size: C; the class moves the image by `shift` of it.
    """

    def __init__(self, error: float = 0.0, condition_size: int = 0) -> None:
        super().__init__(D, condition_size, Z, layers=1, hidden_size=1)
        generator = torch.Generator().manual_seed(0)
        self.W = torch.linalg.qr(torch.randn(D, Z, generator=generator)).Q * torch.tensor([0.8, 0.3])
        self.b = torch.rand(D, generator=generator)
        self.shift = torch.randn(condition_size, D, generator=generator)
        self.error = error

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        precision = 1 + self.W.square().sum(0) / NOISE**2
        mean = (x - self.b - c @ self.shift) @ self.W / NOISE**2 / precision
        return Posterior(mean + self.error, -precision.log().expand_as(mean))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        pixels: Tensor = z @ self.W.T + self.b + c @ self.shift
        return pixels

    def log_likelihood(self, x: Tensor, c: Tensor) -> Tensor:
        covariance = self.W @ self.W.T + NOISE**2 * torch.eye(D)
        normal = torch.distributions.MultivariateNormal(self.b, covariance)
        log_density: Tensor = normal.log_prob(x - c @ self.shift)
        return log_density


def random_images(count: int) -> Images:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (count, D), generator=generator).to(torch.uint8)
    return Images(pixels, torch.arange(count) % 3, 255)


@pytest.fixture
def images() -> Images:
    return random_images(50)


def test_one_draw_from_the_true_posterior_gives_the_log_likelihood_exactly(images: Images) -> None:
    model = LinearGaussian()
    bound = bounds.importance_weighted(model, Normal(), images, draws=1, seed=0)
    exact = model.log_likelihood(images.scaled(slice(None)), torch.zeros(50, 0))
    torch.testing.assert_close(bound.float(), exact, rtol=1e-5, atol=1e-5)


def test_the_bound_rises_with_the_draws_towards_the_log_likelihood() -> None:
    images = random_images(2000)  # it rises in expectation
    model = LinearGaussian(error=0.7)
    exact = float(model.log_likelihood(images.scaled(slice(None)), torch.zeros(2000, 0)).mean())
    means = [
        float(bounds.importance_weighted(model, Normal(), images, draws=K, seed=0).mean())
        for K in (1, 4, 16, 64, 1024)
    ]
    assert means == sorted(means)
    assert means[0] < exact - 0.3
    assert means[-1] == pytest.approx(exact, abs=0.05)


def test_the_bound_does_not_depend_on_the_batch_size(images: Images) -> None:
    few, many = (
        bounds.importance_weighted(LinearGaussian(0.7), Normal(), images, draws=3, seed=0, batch_size=size)
        for size in (7, 50)
    )
    torch.testing.assert_close(few, many)


def test_weights_of_hundreds_of_nats_neither_overflow_nor_vanish(images: Images) -> None:
    far = LinearGaussian(error=60.0)
    bound = bounds.importance_weighted(far, Normal(), images, draws=5, seed=0)
    assert bound.isfinite().all()
    assert bound.max() < -1000


def test_a_cvaes_marginal_sums_over_its_classes_with_the_training_frequencies(images: Images) -> None:
    model = LinearGaussian(condition_size=3)
    conditional = bounds.importance_weighted(model, Normal(), images, draws=1, seed=0)
    train_labels = torch.tensor([0, 0, 0, 1, 1, 2])
    marginal = bounds.log_marginal(
        model, Normal(), images, conditional, train_labels=train_labels, draws=1, seed=0
    )
    x = images.scaled(slice(None))
    prior = torch.tensor([3 / 6, 2 / 6, 1 / 6])
    joint = [model.log_likelihood(x, torch.eye(3)[[y]]) + prior[y].log() for y in range(3)]
    torch.testing.assert_close(marginal.float(), torch.stack(joint).logsumexp(0), rtol=1e-4, atol=1e-4)


def test_a_class_without_training_images_adds_nothing(images: Images) -> None:
    model = LinearGaussian(condition_size=3)
    only_zero = Images(images.pixels, torch.zeros(50, dtype=torch.int64), 255)
    conditional = bounds.importance_weighted(model, Normal(), only_zero, draws=1, seed=0)
    marginal = bounds.log_marginal(
        model,
        Normal(),
        only_zero,
        conditional,
        train_labels=torch.zeros(5, dtype=torch.int64),
        draws=1,
        seed=0,
    )
    torch.testing.assert_close(marginal, conditional)


def test_a_vaes_marginal_is_its_bound(images: Images) -> None:
    bound = torch.randn(50)
    marginal = bounds.log_marginal(
        LinearGaussian(), Normal(), images, bound, train_labels=images.labels, draws=1, seed=0
    )
    assert marginal is bound


def test_the_entropy_floor_is_the_cross_entropy_of_a_perfect_reconstruction(images: Images) -> None:
    x = images.scaled(slice(None)).double()
    perfect = Bernoulli().negative_log(x.logit(eps=1e-12), x).mean()
    assert bounds.entropy_floor(images) == pytest.approx(float(perfect), rel=1e-5)
    binary = Images((images.pixels > 100).to(torch.uint8), images.labels, 1)
    assert bounds.entropy_floor(binary) == 0
