"""The quality of samples: a classifier's judgement, their sharpness, and their distance to training images.

torchmetrics has the Frechet distance and the Inception score as objects that hold a network and are updated
with images; here eight measures share the features of one pass, so each is a formula on tensors. The tests
compare them with torchmetrics, which has no precision, recall, density and coverage.

Shapes: N samples, M real images, D pixels, F features, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.special import entr

from vae_lab.data import Images

RECOGNIZABLE = 0.9  # probability of the likeliest class
NEIGHBOURS = 3  # whose distance says how near is near, in precision and recall
DENSITY_NEIGHBOURS = 5  # the same in density and coverage, as Naeem et al. choose it


class UndefinedError(ValueError):
    """A measure has no value for these images, and why."""


def recognizable_share(probabilities: Tensor, threshold: float = RECOGNIZABLE) -> float:
    """Returns the share of samples whose likeliest class has a probability (N, C) above `threshold`.

    Examples:
        >>> recognizable_share(torch.tensor([[0.95, 0.05], [0.5, 0.5]]))
        0.5
    """
    return float((probabilities.amax(-1) > threshold).double().mean())


def classifier_score(probabilities: Tensor) -> float:
    """Returns exp of the mean KL between p(y | x) (N, C) and their mean, from 1 to C.

    Examples:
        >>> round(classifier_score(torch.eye(10)), 6)  # ten samples of ten classes, each beyond doubt
        10.0

    References:
        Salimans et al. 2016, Improved Techniques for Training GANs, section 4: the Inception score.
    """
    p = probabilities.double()
    return math.exp(float(entr(p.mean(0)).sum() - entr(p).sum(-1).mean()))


def class_balance(probabilities: Tensor) -> float:
    """Returns the entropy of the predicted classes (N, C) by its maximum, log C: 1 if all are as frequent.

    Examples:
        >>> class_balance(torch.eye(2)[[0, 1, 0, 1]]), class_balance(torch.eye(2)[[0, 0, 0, 0]])
        (1.0, 0.0)
    """
    N, C = probabilities.shape
    shares = probabilities.argmax(-1).bincount(minlength=C).double() / N
    return float(entr(shares).sum()) / math.log(C) if C > 1 else 1.0


def conditional_accuracy(probabilities: Tensor, labels: Tensor) -> list[float]:
    """Returns the share of a class's samples that the classifier assigns to it, from (N, C) and labels (N,).

    A class without samples has NaN.

    Examples:
        >>> conditional_accuracy(torch.eye(3)[[0, 0, 1]], labels=torch.tensor([0, 1, 1]))
        [1.0, 0.5, nan]
    """
    right = (probabilities.argmax(-1) == labels).double()
    C = probabilities.shape[-1]
    drawn = labels.bincount(minlength=C)
    shares: list[float] = (labels.bincount(right, minlength=C) / drawn).tolist()
    return shares


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Returns the squared Frechet distance of normal distributions fitted to features (N, F) and (M, F).

    Raises:
        UndefinedError: One of them has no covariance.

    Examples:
        >>> features = torch.tensor([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0]])
        >>> round(frechet_distance(features, features), 6)
        0.0
        >>> round(frechet_distance(features, features + 3), 6)  # means 3 apart in two dimensions
        18.0

    References:
        Dowson & Landau 1982, eq. 4; Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule, eq. 6.
    """
    _check_counts("a covariance", 2, second, first)
    (mean1, cov1), (mean2, cov2) = _moments(first), _moments(second)
    values, vectors = torch.linalg.eigh(cov1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # The eigenvalues of cov1 cov2 are those of this symmetric product, and stay real after rounding.
    cross = torch.linalg.eigvalsh(root @ cov2 @ root).clamp(min=0).sqrt().sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(float(distance), 0.0)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    features = features.double().cpu()  # no float64 on MPS; F is small
    return features.mean(0), features.T.cov()


def _check_counts(what: str, least: int, real: Tensor, generated: Tensor) -> None:
    if min(len(real), len(generated)) < least:
        drawn, held_out = (f"{len(part)} {{}}{'s' * (len(part) != 1)}" for part in (generated, real))
        raise UndefinedError(
            f"{what} takes {least} images at least; there are {drawn.format('sample')} and "
            f"{held_out.format('held-out image')}"
        )


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = NEIGHBOURS) -> tuple[float, float]:
    """Returns the share of generated features (N, F) among the real ones (M, F), and of real among generated.

    A point lies among others if it is nearer to one of these than its `neighbours`-th neighbour is.

    Raises:
        UndefinedError: A point has not that many neighbours.

    Examples:
        >>> points = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
        >>> precision_recall(points, points), precision_recall(points, points + 100)
        ((1.0, 1.0), (0.0, 0.0))

    References:
        Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative
        Models, eqs. 1 and 2.
    """
    _check_counts(f"the distance to neighbour {neighbours}", neighbours + 1, real, generated)
    return _covered(generated, real, neighbours), _covered(real, generated, neighbours)


def density_coverage(
    real: Tensor, generated: Tensor, neighbours: int = DENSITY_NEIGHBOURS
) -> tuple[float, float]:
    """Returns how densely real features (M, F) lie about the generated ones (N, F), and the share come near.

    Every real point has a ball that reaches to its `neighbours`-th neighbour. Density is the mean number of
    balls that hold a generated point, by `neighbours`: one outlier among the real points counts for little.
    Coverage is the share of balls that hold one. Of two equal distributions the first is 1 on average, the
    second about 1 - 2^-neighbours for as many points of both.

    Raises:
        UndefinedError: A real point has not that many neighbours.

    Examples:
        >>> points = torch.arange(6.0)[:, None]
        >>> density_coverage(points, points + 100), density_coverage(points, points)[1]
        ((0.0, 0.0), 1.0)

    References:
        Naeem et al. 2020, Reliable Fidelity and Diversity Metrics for Generative Models, eqs. 3 and 5.
    """
    _check_counts(f"the distance to neighbour {neighbours}", neighbours + 1, real, real)
    balls = torch.zeros(len(real), device=real.device, dtype=torch.int64)
    radii = _radii(real, neighbours)
    for part in torch.split(generated, 1000):
        balls += (torch.cdist(part, real) <= radii).sum(0)
    density = int(balls.sum()) / (neighbours * len(generated))
    return density, float((balls > 0).double().mean())


def _covered(points: Tensor, others: Tensor, neighbours: int) -> float:
    radii = _radii(others, neighbours)
    inside = [(torch.cdist(part, others) <= radii).any(-1) for part in torch.split(points, 1000)]
    return float(torch.cat(inside).double().mean())


def _radii(points: Tensor, neighbours: int) -> Tensor:
    kth = neighbours + 1  # the nearest "neighbour" of a point among its own set is itself
    return torch.cat([torch.cdist(part, points).kthvalue(kth).values for part in torch.split(points, 1000)])


def sharpness(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Returns the variance (N,) of the Laplacian of each image (N, D): edges raise it.

    Beyond its border an image goes on as its last pixel, so that a border is no edge of its own. The mean of
    the channels' variances is taken.

    Examples:
        >>> sharpness(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]), (1, 1, 3)).tolist()
        [0.0, 2.0]

    References:
        Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy.
    """
    channels, height, width = shape
    padded = pad(images.reshape(-1, 1, height, width), (1, 1, 1, 1), mode="replicate")
    middle = padded[..., 1:-1, 1:-1]
    rows = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    columns = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    edges = rows + columns - 4 * middle  # in this order exactly zero where all five are equal
    return edges.reshape(len(images), channels, -1).var(-1, correction=0).double().mean(-1)


def nearest_distance(images: Tensor, among: Images, *, chunk: int = 10_000) -> Tensor:
    """Returns the Euclidean distance (N,) from each image (N, D) in [0, 1] to the nearest image of `among`.

    A matrix product finds the nearest, but its rounding hides small distances, so that the distance is then
    computed from the pixels: that of a copy is exactly zero.
    """
    best = torch.full((len(images),), math.inf, device=images.device)
    nearest = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for start in range(0, len(among), chunk):
        x = among.scaled(slice(start, start + chunk))
        # Squared distances less |image|^2, which is the same for every candidate.
        minimum = torch.addmm(x.square().sum(-1), images, x.T, alpha=-2).min(-1)
        nearer = minimum.values < best
        best = torch.where(nearer, minimum.values, best)
        nearest = torch.where(nearer, minimum.indices + start, nearest)
    distance: Tensor = torch.linalg.vector_norm(images - among.scaled(nearest), dim=-1)
    return distance
