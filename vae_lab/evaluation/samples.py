"""The quality of samples: what a classifier says of them, their sharpness, and how near training images lie.

torchmetrics has the Frechet distance and the Inception score, as objects that hold a network and are fed
images; here the features are there already and serve six measures, so each is a formula on tensors. The tests
hold them against torchmetrics, which has no precision and recall.

Shapes: N samples, M real images, D pixels, F features, C classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.special import entr

from vae_lab.data import Images

RECOGNIZABLE = 0.9  # probability of the likeliest class


def recognizable_share(probabilities: Tensor, threshold: float = RECOGNIZABLE) -> float:
    """The share of samples whose likeliest class has a probability (N, C) above `threshold`."""
    return float((probabilities.amax(-1) > threshold).double().mean())


def classifier_score(probabilities: Tensor) -> float:
    """Exp of the mean KL between p(y | x) (N, C) and their mean, from 1 to C.

    References:
        Salimans et al. 2016, Improved Techniques for Training GANs, section 4: the Inception score.
    """
    p = probabilities.double()
    return math.exp(float(entr(p.mean(0)).sum() - entr(p).sum(-1).mean()))


def class_balance(probabilities: Tensor) -> float:
    """Entropy of the predicted classes (N, C) as a share of the highest, log C: 1 if all come as often."""
    N, C = probabilities.shape
    shares = probabilities.argmax(-1).bincount(minlength=C).double() / N
    return float(entr(shares).sum()) / math.log(C) if C > 1 else 1.0


def conditional_accuracy(probabilities: Tensor, labels: Tensor) -> list[float]:
    """The share of samples of each class that the classifier takes for it, for (N, C) and labels (N,).

    A class that was not drawn has NaN.
    """
    right = (probabilities.argmax(-1) == labels).double()
    C = probabilities.shape[-1]
    drawn = labels.bincount(minlength=C)
    shares: list[float] = (labels.bincount(right, minlength=C) / drawn).tolist()
    return shares


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """Squared Frechet distance between normal distributions fitted to features (N, F) and (M, F).

    References:
        Dowson & Landau 1982, eq. 4; Heusel et al. 2017, GANs Trained by a Two Time-Scale Update Rule, eq. 6.
    """
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


def precision_recall(real: Tensor, generated: Tensor, neighbours: int = 3) -> tuple[float, float]:
    """Shares of generated features (N, F) among the real ones (M, F), and of real among generated ones.

    A point lies among others if it is nearer to one of them than that one's `neighbours`-th neighbour is.

    References:
        Kynkaanniemi et al. 2019, Improved Precision and Recall Metric for Assessing Generative
        Models, eqs. 1 and 2.
    """
    return _covered(generated, real, neighbours), _covered(real, generated, neighbours)


def _covered(points: Tensor, others: Tensor, neighbours: int) -> float:
    # The nearest "neighbour" of a point among its own set is itself.
    kth = min(neighbours + 1, len(others))
    radii = torch.cat([torch.cdist(part, others).kthvalue(kth).values for part in torch.split(others, 1000)])
    inside = [(torch.cdist(part, others) <= radii).any(-1) for part in torch.split(points, 1000)]
    return float(torch.cat(inside).double().mean())


def sharpness(images: Tensor, shape: tuple[int, int, int]) -> float:
    """Mean over images (N, D) of the variance of their Laplacian: higher for more and harder edges.

    References:
        Pech-Pacheco et al. 2000, Diatom autofocusing in brightfield microscopy.
    """
    channels, height, width = shape
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=images.device)
    edges = conv2d(images.reshape(-1, 1, height, width), kernel[None, None], padding=1)
    return float(edges.reshape(len(images), channels, -1).var(-1, correction=0).double().mean())


def nearest_distance(images: Tensor, among: Images, *, chunk: int = 10_000) -> Tensor:
    """Euclidean distance (N,) from each image (N, D) in [0, 1] to the nearest image of `among`.

    Candidates are found by a matrix product, in which the distance of two equal images is lost in rounding,
    and then measured: a copy has a distance of exactly zero.
    """
    best = torch.full((len(images),), math.inf, device=images.device)
    nearest = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    for start in range(0, len(among), chunk):
        x = among.scaled(slice(start, start + chunk))
        # Less |image|^2, which is the same for every candidate.
        found = torch.addmm(x.square().sum(-1), images, x.T, alpha=-2).min(-1)
        nearer = found.values < best
        best = torch.where(nearer, found.values, best)
        nearest = torch.where(nearer, found.indices + start, nearest)
    distance: Tensor = torch.linalg.vector_norm(images - among.scaled(nearest), dim=-1)
    return distance
