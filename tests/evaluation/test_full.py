import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch

from vae_lab import devices, evaluation
from vae_lab.data import Dataset, binarized
from vae_lab.evaluation import bounds, classifier, full, judges, network
from vae_lab.jobs.parts.own_metrics import OwnMetric, measured_by
from vae_lab.metrics import ERROR, ESTIMATED, REAL, Metric
from vae_lab.models import VAE
from vae_lab.objectives import Bernoulli, Objective, likelihood

BCE = Objective(likelihood("bernoulli"))
SETTINGS = {
    "posterior_draws": 2,
    "importance_samples": 3,
    "importance_images": 10,
    "samples": 60,
    "judges": 1,
}
SAMPLE_QUALITY = {
    "eval/recognizable_share",
    "eval/classifier_score",
    "eval/frechet_distance",
    "eval/precision",
    "eval/recall",
    "eval/density",
    "eval/coverage",
    "eval/class_balance",
    "eval/sharpness",
    "eval/sharpness_error",
    "eval/nearest_training_distance",
    "eval/nearest_training_distance_error",
    "eval/classifier_accuracy",
}


@pytest.fixture(autouse=True)
def judge(rows: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained classifier: these tests are about names and draws."""
    torch.manual_seed(0)
    untrained = classifier.TrainedClassifier(
        network.Classifier(rows.shape, rows.classes).to(rows.test.pixels.device), 0.5
    )
    monkeypatch.setattr(judges, "load_or_train", lambda data, number: untrained)


def model(rows: Dataset, C: int = 0) -> VAE:
    torch.manual_seed(0)
    return VAE(rows.size, C, latent_size=3, hidden_size=8).to(rows.test.pixels.device)


def test_a_vae_has_every_measure_that_needs_no_label_and_the_same_at_every_call(rows: Dataset) -> None:
    first, second = (
        evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **SETTINGS).metrics for _ in range(2)
    )
    assert first == second
    assert {key for key in first if key.startswith("eval/")} == SAMPLE_QUALITY
    assert all(map(math.isfinite, first.values()))
    assert first["test/iwae_bound"] == first["test/negative_log_marginal"]
    assert [key for key in first if "kl_dimension" in key] == [f"test/kl_dimension/0{i}" for i in range(3)]


def test_a_cvae_has_an_accuracy_for_each_class_too(rows: Dataset) -> None:
    metrics = evaluation.full_evaluation(
        model(rows, rows.classes), BCE, rows, rows, seed=0, **SETTINGS
    ).metrics
    by_class = [metrics[f"eval/conditional_accuracy/{i}"] for i in range(3)]
    assert metrics["eval/conditional_accuracy"] == pytest.approx(sum(by_class) / 3)
    assert metrics["test/negative_log_marginal"] != metrics["test/iwae_bound"]


def test_nothing_is_measured_that_was_not_asked_for(rows: Dataset) -> None:
    nothing = dict.fromkeys(SETTINGS, 0) | {"judges": 1}
    assert evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **nothing) == ({}, {})
    only = evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **(nothing | {"samples": 60}))
    assert {key for key in only.metrics if not key.startswith("real/")} == SAMPLE_QUALITY


def test_real_images_are_judged_in_the_place_of_samples(rows: Dataset) -> None:
    metrics = evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **SETTINGS).metrics
    assert {key for key in metrics if key.startswith("real/")} == set(REAL.values())
    same = rows._replace(train=rows.test)
    of_itself = evaluation.full_evaluation(model(same), BCE, same, same, seed=0, **SETTINGS).metrics
    assert of_itself["real/frechet_distance"] == pytest.approx(0, abs=1e-5)
    assert of_itself["real/precision"] == of_itself["real/coverage"] == of_itself["real/sharpness"] == 1


def test_known_factors_change_no_measure(rows: Dataset) -> None:
    known = rows._replace(factors={"size": torch.arange(float(len(rows.test)))})
    plain, with_factors = (
        evaluation.full_evaluation(model(data), BCE, data, data, seed=0, **SETTINGS) for data in (rows, known)
    )
    assert with_factors == plain


class Weighted(Bernoulli):
    """A likelihood of one's own that inherits from one of the lab's."""

    def negative_log(self, logits: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().negative_log(logits, x)


def test_the_floor_is_only_that_of_grey_cross_entropy(rows: Dataset) -> None:
    metrics = full.averaged_loss(model(rows), BCE, rows.test, seed=0, draws=2)
    floor = bounds.entropy_floor(rows.test)
    assert metrics["test/above_entropy_floor"] == pytest.approx(
        metrics["test/averaged_negative_elbo"] - floor
    )
    gaussian = Objective(likelihood("gaussian"))
    assert "test/above_entropy_floor" not in full.averaged_loss(
        model(rows), gaussian, rows.test, seed=0, draws=1
    )
    own = Objective(Weighted())
    assert "test/above_entropy_floor" not in full.averaged_loss(model(rows), own, rows.test, seed=0, draws=1)
    binary = binarized(rows.test, "test")
    assert "test/above_entropy_floor" not in full.averaged_loss(model(rows), BCE, binary, seed=0, draws=1)


def test_the_bound_of_a_part_of_the_images_stands_for_all(rows: Dataset) -> None:
    arguments = {"seed": 0, "draws": 50}
    images, labels, likelihood = rows.test, rows.train.labels, BCE.likelihood
    part, whole = (
        bounds.marginal_bounds(model(rows), likelihood, images, labels, count=count, **arguments)[0]
        for count in (8, 32)
    )
    direct = bounds.importance_weighted(model(rows), likelihood, images, **arguments)
    assert whole.value == pytest.approx(-float(direct.mean()))
    assert whole.error is not None
    assert part.error is not None
    assert whole.error < part.error
    assert part.value == pytest.approx(whole.value, abs=3 * math.hypot(part.error, whole.error))


def test_what_is_estimated_by_draws_has_a_standard_error_beside_it(rows: Dataset) -> None:
    settings = SETTINGS | {"judges": 2}
    measured = evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **settings).metrics
    errors = {key: measured.get(f"{key}{ERROR}") for key in ESTIMATED if key in measured}
    assert {"eval/sharpness", "eval/nearest_training_distance", "eval/recall"} <= errors.keys()
    assert len(errors) > 5
    assert [key for key, error in errors.items() if error is None or not error >= 0] == []
    one_draw = SETTINGS | {"posterior_draws": 1, "importance_samples": 1}
    alone = evaluation.full_evaluation(model(rows), BCE, rows, rows, seed=0, **one_draw).metrics
    assert not {"test/iwae_bound_error", "test/averaged_loss_error"} & alone.keys()


def test_the_error_of_an_averaged_loss_is_its_spread_over_seeds(rows: Dataset) -> None:
    runs = [full.averaged_loss(model(rows), BCE, rows.test, seed=seed, draws=4) for seed in range(60)]
    for key in ("test/averaged_loss", "test/averaged_negative_elbo"):
        spread = statistics.stdev(run[key] for run in runs)
        error = statistics.fmean(run[f"{key}{ERROR}"] for run in runs)
        assert error == pytest.approx(spread, rel=0.35)


def test_the_errors_of_means_over_samples_are_their_spread_over_seeds(rows: Dataset) -> None:
    trained, runs = model(rows), []
    for seed in range(60):
        measures = evaluation.Measures({}, {})
        full.add_quality(measures, trained, BCE.likelihood, rows, seed=seed, count=40, judges=1)
        runs.append(measures.metrics)
    for key in ("eval/sharpness", "eval/nearest_training_distance"):
        spread = statistics.stdev(run[key] for run in runs)
        error = statistics.fmean(run[f"{key}{ERROR}"] for run in runs)
        assert error == pytest.approx(spread, rel=0.35)


def test_more_posterior_draws_move_the_loss_little(rows: Dataset) -> None:
    of_one_draw, of_many_draws = (
        full.averaged_loss(model(rows), BCE, rows.test, seed=0, draws=draws)["test/averaged_loss"]
        for draws in (1, 30)
    )
    assert of_one_draw != of_many_draws
    assert of_one_draw == pytest.approx(of_many_draws, rel=0.02)


def test_the_two_parts_of_the_kl_add_up_to_it(rows: Dataset) -> None:
    metrics = evaluation.full_evaluation(model(rows, 3), BCE, rows, rows, seed=0, **SETTINGS).metrics
    kl = evaluation.held_out(model(rows, 3), BCE, rows.test, seed=0).kl
    assert metrics["test/mutual_information"] + metrics["test/aggregate_kl"] == pytest.approx(kl, rel=1e-4)
    assert 0 < metrics["test/mutual_information_error"] < metrics["test/aggregate_kl_error"] < kl


FIRST_LAYER = OwnMetric(
    "first_layer",
    lambda model, images, _: model.module.encoder(images.flatten(1)).mean(),
    Metric("eval/first_layer", ""),
)

MEASURES: dict[str, Callable[[VAE, Dataset], object]] = {
    "held_out": lambda model, data: evaluation.held_out(model, BCE, data.test, seed=0),
    "full": lambda model, data: evaluation.full_evaluation(model, BCE, data, data, seed=0, **SETTINGS),
    "annealed": lambda model, data: evaluation.annealed_measures(
        model, BCE.likelihood, data.test, count=3, temperatures=3, chains=2, seed=0
    ),
    "samples": lambda model, data: evaluation.prior_samples(model, BCE.likelihood, 4, seed=0),
    "reconstructions": lambda model, data: evaluation.reconstructions(model, BCE.likelihood, data.test),
    "interpolation": lambda model, data: evaluation.interpolation(model, BCE.likelihood, data.test, 2),
    "in hand": lambda model, data: in_hand(model, data).reconstruct(in_hand(model, data).examples(2)[0]),
    "own": lambda model, data: measured_by([FIRST_LAYER], in_hand(model, data), seed=0),
}


def in_hand(model: VAE, data: Dataset) -> evaluation.ModelInHand:
    device = data.test.pixels.device
    return evaluation.ModelInHand(model, BCE, device=device, load_data=lambda: data, name=data.name)


@pytest.mark.parametrize("measure", MEASURES)
def test_all_measures_are_taken_in_float32_on_cuda(
    rows: Dataset, measure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flags of CUDA can be read without one, also those of convolutions, for which PyTorch has tf32."""
    products = devices.float32_products
    cudnn: Any = torch.backends.cudnn
    seen: set[str] = set()

    def on_cuda(precision: str, _: torch.device) -> object:
        return products(precision, torch.device("cuda"))

    def note(*_: object) -> None:
        seen.update({torch.backends.cuda.matmul.fp32_precision, cudnn.conv.fp32_precision})

    monkeypatch.setattr(devices, "float32_products", on_cuda)
    hook = torch.nn.modules.module.register_module_forward_pre_hook(note)
    try:
        MEASURES[measure](model(rows), rows)
    finally:
        hook.remove()
    assert seen == {"ieee"}
