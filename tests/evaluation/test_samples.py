import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from scipy.spatial.distance import cdist
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.inception import InceptionScore

from vae_lab.data import Dataset, Images
from vae_lab.evaluation import samples
from vae_lab.evaluation.full import nearest_training_distance, relative_sharpness
from vae_lab.evaluation.measures import Measures
from vae_lab.metrics import ERROR

SURE = one_hot(torch.arange(10), 10).double()  # every class once, without doubt
UNSURE = torch.full((10, 10), 0.1)


def normal(count: int, mean: list[float], deviations: list[float], seed: int) -> torch.Tensor:
    noise = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(seed))
    return noise * torch.tensor(deviations) + torch.tensor(mean)


def test_sure_and_various_samples_have_the_highest_scores() -> None:
    assert samples.recognizable_share(SURE) == 1
    assert samples.classifier_score(SURE) == pytest.approx(10)
    assert samples.class_balance(SURE) == pytest.approx(1)


def test_unrecognizable_samples_have_the_lowest() -> None:
    assert samples.recognizable_share(UNSURE) == 0
    assert samples.classifier_score(UNSURE) == pytest.approx(1)


def test_samples_of_one_class_are_recognizable_but_neither_scored_nor_balanced() -> None:
    same = SURE[[3] * 8]
    assert samples.recognizable_share(same) == 1
    assert samples.classifier_score(same) == pytest.approx(1)
    assert samples.class_balance(same) == 0


def test_two_classes_of_ten_balance_at_log_two_by_log_ten() -> None:
    assert samples.class_balance(SURE[[0, 0, 1, 1]]) == pytest.approx(math.log(2) / math.log(10))


def test_conditional_accuracy_counts_each_class_alone() -> None:
    labels = torch.tensor([0, 0, 1, 1, 2])
    shares = samples.conditional_accuracy(SURE[[0, 1, 1, 1, 0]][:, :4], labels)
    assert shares[:3] == [0.5, 1.0, 0.0]
    assert math.isnan(shares[3])


def test_the_frechet_distance_of_a_set_to_itself_is_zero() -> None:
    features = normal(500, [1.0, 2.0, 3.0], [1.0, 2.0, 0.5], 0)
    assert samples.frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    flat = torch.cat([features, torch.zeros(500, 2)], dim=-1)  # features that never fire
    assert samples.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


def test_the_frechet_distance_of_two_normal_samples_is_that_of_their_moments() -> None:
    first = normal(200_000, [0.0, 0.0], [1.0, 2.0], 0)
    second = normal(200_000, [3.0, 4.0], [2.0, 2.0], 1)
    assert samples.frechet_distance(first, second) == pytest.approx(25 + (2 - 1) ** 2, rel=0.01)


def test_the_frechet_distance_of_correlated_features_matches_the_matrix_root() -> None:
    linalg = pytest.importorskip("scipy.linalg")
    mixing = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    first, second = normal(300, [0.0] * 4, [1.0] * 4, 0) @ mixing, normal(300, [0.5] * 4, [1.0] * 4, 1)
    covariances = [features.double().T.cov() for features in (first, second)]
    root = linalg.sqrtm((covariances[0] @ covariances[1]).numpy()).real.trace()
    mean_distance = (first.double().mean(0) - second.double().mean(0)).square().sum()
    expected = float(mean_distance + covariances[0].trace() + covariances[1].trace()) - 2 * root
    assert samples.frechet_distance(first, second) == pytest.approx(expected, rel=1e-6)


def test_precision_and_recall_of_the_same_distribution_are_near_one_and_of_distant_ones_zero() -> None:
    real, same = (normal(1500, [0.0, 0.0], [1.0, 1.0], seed) for seed in (0, 1))
    assert min(samples.precision_recall(real, same)) > 0.9
    assert samples.precision_recall(real, real) == (1, 1)
    assert samples.precision_recall(real, same + 100) == (0, 0)


def test_samples_of_one_mode_of_two_are_precise_but_recall_half() -> None:
    left = normal(500, [-50.0, 0.0], [1.0, 1.0], 0)
    right = normal(500, [50.0, 0.0], [1.0, 1.0], 1)
    precision, recall = samples.precision_recall(
        torch.cat([left, right]), normal(500, [50.0, 0.0], [1.0, 1.0], 2)
    )
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)


def test_blur_lowers_sharpness() -> None:
    noise = torch.rand(20, 64, generator=torch.Generator().manual_seed(0))
    blurred = torch.nn.functional.avg_pool2d(noise.view(20, 1, 8, 8), 3, 1, 1).flatten(1)
    assert (samples.sharpness(blurred, (1, 8, 8)) < samples.sharpness(noise, (1, 8, 8)) / 4).all()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 5), (1, 1, 6), (1, 6, 1), (1, 1, 1), (3, 1, 1)])
def test_images_of_one_grey_or_colour_have_no_sharpness(shape: tuple[int, int, int]) -> None:
    greys = torch.tensor([0.0, 0.1, 0.2, 0.5, 100 / 255, 1.0])
    colours = torch.rand(200, shape[0], generator=torch.Generator().manual_seed(0))
    flat = torch.cat([greys[:, None].expand(-1, shape[0]), colours])[:, :, None, None].expand(-1, *shape)
    assert not samples.sharpness(flat.flatten(1), shape).any()


def test_the_ground_of_an_image_has_no_part_in_its_sharpness() -> None:
    noise = torch.rand(20, 48, generator=torch.Generator().manual_seed(0)) / 2
    dark, bright = (samples.sharpness(noise + ground, (3, 4, 4)) for ground in (0.0, 0.5))
    torch.testing.assert_close(bright, dark, rtol=1e-5, atol=0)


def test_the_sharpness_on_a_black_border_is_that_of_images_with_zeros_around() -> None:
    noise = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.pad(noise[:, :, 1:-1, 1:-1], (1, 1, 1, 1))
    edges = [ndimage.laplace(image[0].double().numpy(), mode="constant") for image in images]
    expected = torch.tensor([edge.var() for edge in edges])
    torch.testing.assert_close(samples.sharpness(images.flatten(1), (1, 8, 8)), expected, rtol=1e-6, atol=0)


def test_the_laplacian_of_one_white_pixel_has_the_variance_of_its_kernel() -> None:
    dot = torch.zeros(1, 25)
    dot[0, 12] = 1
    assert samples.sharpness(dot, (1, 5, 5)).tolist() == [pytest.approx((16 + 4) / 25)]


def test_planted_copies_of_training_images_lie_at_distance_zero(rows: Dataset) -> None:
    images = rows.test.scaled(slice(None)).clone()
    images[::2] = rows.train.scaled(slice(16, 32))
    distances = samples.nearest_distance(images, rows.train, chunk=10)
    expected = torch.cdist(
        images, rows.train.scaled(slice(None)), compute_mode="donot_use_mm_for_euclid_dist"
    )
    assert (distances[::2] == 0).all()
    assert (distances[1::2] > 0.05).all()
    torch.testing.assert_close(distances, expected.amin(-1))


def test_a_memorizing_model_has_no_distance_and_held_out_images_have_one(rows: Dataset) -> None:
    assert not nearest_training_distance(rows.train.scaled(slice(None)), rows).any()
    assert nearest_training_distance(rows.test.scaled(slice(None)), rows).mean() == pytest.approx(1)


def test_means_over_samples_and_their_standard_errors_are_scipys(rows: Dataset) -> None:
    drawn = torch.rand(50, rows.size, generator=torch.Generator().manual_seed(0)).to(rows.test.pixels.device)
    measures = Measures({}, {})
    measures.take_mean("sharpness", lambda: relative_sharpness(drawn, rows))
    measures.take_mean("distance", lambda: nearest_training_distance(drawn, rows))
    pixels, held_out, train = (
        x.double().cpu().numpy() for x in (drawn, *map(all_of, (rows.test, rows.train)))
    )
    expected = {
        "sharpness": laplacian_variances(pixels) / laplacian_variances(held_out).mean(),
        "distance": cdist(pixels, train).min(1) / cdist(held_out, train).min(1).mean(),
    }
    for name, values in expected.items():
        assert measures.metrics[name] == pytest.approx(values.mean(), rel=1e-5)
        assert measures.metrics[f"{name}{ERROR}"] == pytest.approx(stats.sem(values), rel=1e-5)
    one = Measures({}, {})
    one.take_mean("sharpness", lambda: relative_sharpness(drawn[:1], rows))
    assert [*one.metrics] == ["sharpness"], "one sample alone tells no error"
    assert not one.absent


def all_of(images: Images) -> Tensor:
    return images.scaled(slice(None))


def laplacian_variances(pixels: Any) -> Any:
    """Of each image of 4 x 4 pixels."""
    edges = [ndimage.laplace(image, mode="nearest") for image in pixels.reshape(-1, 4, 4)]
    return np.array([image.var() for image in edges])


class Passing(torch.nn.Module):
    """A network that takes features for images, as torchmetrics wants to have one."""

    num_features = 8

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_frechet_distance_is_torchmetrics() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(500, 8, generator=generator) * scale + scale for scale in (1.0, 2.0))
    theirs = FrechetInceptionDistance(feature=Passing())
    theirs.update(first, real=True)
    theirs.update(second, real=False)
    assert samples.frechet_distance(first, second) == pytest.approx(float(theirs.compute()), rel=1e-4)


@pytest.mark.filterwarnings("ignore")  # that it keeps all features, and has no deviation over one part
def test_the_classifier_score_is_torchmetrics() -> None:
    logits = 3 * torch.randn(400, 10, generator=torch.Generator().manual_seed(0))
    theirs = InceptionScore(feature=Passing(), splits=1)
    theirs.update(logits)
    assert samples.classifier_score(logits.softmax(-1)) == pytest.approx(float(theirs.compute()[0]), rel=1e-5)


def test_density_and_coverage_are_the_counts_of_their_formula() -> None:
    real, generated, k = normal(60, [0.0] * 3, [1.0] * 3, 0), normal(40, [0.5] * 3, [0.6] * 3, 1), 5
    inside = [
        [float((y - x).norm()) <= sorted(float((other - x).norm()) for other in real)[k] for x in real]
        for y in generated
    ]
    density = sum(map(sum, inside)) / (k * len(generated))
    coverage = sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    assert samples.density_coverage(real, generated) == pytest.approx((density, coverage))


def test_density_and_coverage_are_near_one_of_one_distribution_and_the_typical_covers_less() -> None:
    real, same = (normal(2000, [0.0] * 4, [1.0] * 4, seed) for seed in range(2))
    density, coverage = samples.density_coverage(real, same)
    assert density == pytest.approx(1, abs=0.05)
    assert coverage == pytest.approx(1 - 2**-5, abs=0.015)
    density, coverage = samples.density_coverage(real, 0.3 * same)
    assert density == pytest.approx(1, abs=0.1), "where the real points are dense their balls are small"
    assert coverage < 0.5
    assert samples.density_coverage(real, same + 100) == (0, 0)
