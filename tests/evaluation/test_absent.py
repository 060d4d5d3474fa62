"""Measures that small or plain data do not define are absent with their reason, and cost no trained run."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vae_lab import evaluation, files
from vae_lab.data import Dataset, dataset
from vae_lab.data.idx import write
from vae_lab.data.sources import FILES
from vae_lab.evaluation import Measures, classifier, full, judges, network, samples
from vae_lab.jobs.runs.absence import ABSENT
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood
from vae_lab.tracking import Store

BCE = Objective(likelihood("bernoulli"))
SETTINGS = {
    "posterior_draws": 2,
    "importance_samples": 3,
    "importance_images": 10,
    "samples": 60,
    "judges": 1,
}
TINY = ("model.hidden_size=4", "train.epochs=1", "train.device=cpu", "evaluation=full")
FEW_DRAWS = ("evaluation.samples=100", "evaluation.importance_samples=2", "evaluation.posterior_draws=1")
JUDGED = {f"eval/{name}" for name in ("recognizable_share", "classifier_score", "class_balance")} | {
    "eval/classifier_accuracy"
}
NEAR = {"eval/precision", "eval/recall", "eval/density", "eval/coverage"}
FEATURES = {"eval/frechet_distance", *NEAR}

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def noise(count: int, *shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng([seed, count]).integers(0, 256, (count, *shape)).astype(np.uint8)


def flat(count: int, value: int, *shape: int) -> Pixels:
    return np.full((count, *shape), value, np.uint8)


def in_turn(count: int, first: int = 0, classes: int = 3) -> Pixels:
    return (np.arange(count) % classes + first).astype(np.uint8)


def of(train: Pixels, test: Pixels, *, classes: int = 3, first: int = 0) -> Dataset:
    return dataset(
        "plain", train, in_turn(len(train), first, classes), test, in_turn(len(test), first, classes)
    )


@pytest.fixture(autouse=True)
def judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained classifier: these tests are about what is defined."""

    def untrained(data: Dataset, number: int) -> classifier.TrainedClassifier:
        torch.manual_seed(0)
        return classifier.TrainedClassifier(network.Classifier(data.shape, data.classes), 0.5)

    monkeypatch.setattr(judges, "load_or_train", untrained)


def measured(data: Dataset, *, conditional: bool = True, **settings: int) -> Measures:
    torch.manual_seed(0)
    model = VAE(data.size, data.classes if conditional else 0, latent_size=2, hidden_size=4)
    return evaluation.full_evaluation(model, BCE, data, data, seed=0, **(SETTINGS | settings))


CASES: dict[str, tuple[Callable[[], Dataset], dict[str, Any], set[str], str]] = {
    "one held-out image": (lambda: of(noise(9, 4, 4), noise(1, 4, 4)), {}, FEATURES, "1 held-out"),
    "two held-out images": (
        lambda: of(noise(9, 4, 4), noise(2, 4, 4)),
        {},
        NEAR,
        "distance to neighbour 3 takes 4 images at least; there are 60 samples and 2 held-out images",
    ),
    "one sample": (lambda: of(noise(9, 4, 4), noise(9, 4, 4, seed=1)), {"samples": 1}, FEATURES, "1 sample"),
    "black images": (
        lambda: of(flat(9, 0, 4, 4), flat(9, 0, 4, 4)),
        {},
        {"eval/sharpness", "eval/nearest_training_distance"},
        "the held-out images have no edges",
    ),
    "images of one pixel": (
        lambda: of(noise(9, 1, 1), noise(9, 1, 1, seed=1)),
        {},
        {"eval/sharpness"},
        "the held-out images have no edges",
    ),
    "constant images": (
        lambda: of(flat(9, 100, 4, 4), flat(9, 100, 4, 4)),
        {},
        {"eval/sharpness", "eval/nearest_training_distance"},
        "every held-out image is a copy of a training image",
    ),
    "one class": (
        lambda: of(noise(9, 4, 4), noise(9, 4, 4, seed=1), classes=1),
        {},
        JUDGED | FEATURES | {"eval/conditional_accuracy"},
        "all training images are of one class, which leaves a classifier nothing to learn",
    ),
    "one class of several": (
        lambda: of(noise(9, 4, 4), noise(9, 4, 4, seed=1), classes=1, first=2),
        {},
        JUDGED | FEATURES | {"eval/conditional_accuracy"},
        "all training images are of one class",
    ),
    "a last batch of one pixel": (
        lambda: of(noise(129, 2, 2), noise(9, 2, 2)),
        {},
        JUDGED | FEATURES | {"eval/conditional_accuracy"},
        "a last batch of one image of 2 x 2 pixels",
    ),
    "as many features as samples": (
        lambda: of(noise(9, 4, 4), noise(9, 4, 4, seed=1)),
        {"samples": 4},
        {"eval/density", "eval/coverage"},
        "neighbour 5 takes 6 images at least",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_the_data_do_not_define_is_absent_with_its_reason(case: str) -> None:
    make, settings, absent, reason = CASES[case]
    measures = measured(make(), **settings)
    assert set(measures.absent) == absent
    assert all(map(math.isfinite, measures.metrics.values()))
    assert not measures.metrics.keys() & measures.absent.keys()
    assert reason in " ".join(measures.absent.values())


def test_one_held_out_image_tells_no_standard_error_of_a_mean_over_images() -> None:
    errors = {"test/mutual_information_error", "test/aggregate_kl_error"}
    assert not errors & measured(of(noise(9, 4, 4), noise(1, 4, 4))).metrics.keys()
    assert errors <= measured(of(noise(9, 4, 4), noise(2, 4, 4))).metrics.keys()


def test_no_measure_of_these_is_missed_where_all_are_defined() -> None:
    data = of(noise(30, 4, 4), noise(12, 4, 4))
    assert measured(data).absent == {}
    assert measured(data, conditional=False).metrics.keys() >= JUDGED | FEATURES


def test_what_is_absent_is_said_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    full._warn_of_absent_measures.cache_clear()
    for _ in range(2):
        measured(of(noise(9, 4, 4), noise(1, 4, 4)))
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    message = record.getMessage()
    assert len(message.splitlines()) == 1
    assert message.startswith("data plain: not measured: eval/frechet_distance (")


def test_what_overflows_is_absent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "frechet_distance", lambda *_: math.inf)
    monkeypatch.setattr(samples, "classifier_score", lambda *_: math.exp(1e9))
    measures = measured(of(noise(9, 4, 4), noise(9, 4, 4, seed=1)))
    assert measures.absent == {
        "eval/frechet_distance": "it is inf",
        "eval/classifier_score": "it cannot be computed: math range error",
    }


RUNS = {
    "one held-out image": (noise(9, 4, 4), noise(1, 4, 4), in_turn(9), "frechet_distance"),
    "black images": (flat(9, 0, 4, 4), flat(9, 0, 4, 4), in_turn(9), "sharpness"),
    "images of one pixel": (noise(9, 1, 1), noise(9, 1, 1, seed=1), in_turn(9), "sharpness"),
    "one image of one class": (noise(1, 4, 4), noise(1, 4, 4), in_turn(1), "classifier_score"),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_trained_run_is_finished_and_keeps_the_reasons_in_a_tag(
    lab: Any, tmp_path_factory: pytest.TempPathFactory, case: str
) -> None:
    train, test, labels, absent = RUNS[case]
    root = fill(tmp_path_factory.mktemp("plain"), train, labels, test)
    code, out, err = lab("data=idx", f"data.root={root}", "model=cvae", *TINY, *FEW_DRAWS)
    assert code == 0, err
    (run,) = Store.open().records()
    assert run.status == "FINISHED"
    assert f"eval/{absent}" in run.tags[ABSENT]
    assert f"eval/{absent}" not in run.metrics
    assert max(run.metrics.values()) < 1e300
    assert ("test/active_units" in run.metrics) == (len(test) > 1)
    assert ("15 of 15 latent dimensions collapsed" in out) == (run.metrics["test/collapsed_units"] == 15)


def fill(root: Path, train: Pixels, labels: Pixels, test: Pixels) -> Path:
    for name, array in zip(FILES, (train, labels, test, labels[: len(test)]), strict=True):
        write(root / name, array)
    return root


# Classes without a training image


def test_classes_without_training_images_are_neither_drawn_nor_counted() -> None:
    data = of(noise(30, 4, 4), noise(12, 4, 4), first=2)
    assert (data.classes, data.trained_classes) == (5, [2, 3, 4])
    metrics = measured(data, samples=61).metrics
    by_class = {key: value for key, value in metrics.items() if key.startswith("eval/conditional_accuracy/")}
    assert list(by_class) == [f"eval/conditional_accuracy/{label}" for label in (2, 3, 4)]
    counts = np.array([21, 20, 20])
    assert metrics["eval/conditional_accuracy"] == pytest.approx(
        float(np.average([*by_class.values()], weights=counts))
    )


def test_a_judge_is_asked_only_for_classes_that_have_training_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = of(noise(30, 4, 4), noise(12, 4, 4), first=1, classes=2)
    sure = torch.tensor([0.9, 0.06, 0.04])  # of the class that has no image

    def judgement(self: network.Classifier, x: torch.Tensor, *, batch_size: int = 0) -> network.Judgement:
        return network.Judgement(sure.expand(len(x), 3), x)

    monkeypatch.setattr(network.Classifier, "judge", judgement)
    metrics = measured(data).metrics
    assert metrics["eval/recognizable_share"] == 0  # 0.6 of what is left
    assert metrics["eval/conditional_accuracy/1"] == 1
    assert metrics["eval/conditional_accuracy/2"] == 0
    assert metrics["eval/class_balance"] == 0


def test_samples_and_class_grids_go_through_the_given_classes() -> None:
    torch.manual_seed(0)
    model = VAE(16, 4, latent_size=2, hidden_size=4)
    noise_of_samples = evaluation.prior_noise(model, 5, seed=0)
    asked = torch.nn.functional.one_hot(torch.tensor([1, 3, 1, 3, 1]), 4).float()
    expected = evaluation.decode(model, BCE.likelihood, noise_of_samples, asked)
    drawn = evaluation.prior_samples(model, BCE.likelihood, 5, seed=0, classes=[1, 3])
    torch.testing.assert_close(drawn, expected)
    grid = evaluation.class_samples(model, BCE.likelihood, 5, seed=0, classes=[1, 3])
    assert len(grid) == 10
    torch.testing.assert_close(grid[0], expected[0])
    everything = evaluation.prior_samples(model, BCE.likelihood, 5, seed=0)
    torch.testing.assert_close(
        everything, evaluation.prior_samples(model, BCE.likelihood, 5, seed=0, classes=[0, 1, 2, 3])
    )


def test_a_run_on_labels_from_one_says_so_and_leaves_the_empty_class_out(
    lab: Any, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    from vae_lab.report import pictures

    grids: dict[str, tuple[int, list[str]]] = {}
    real = pictures.image_grid

    def seen(name: str, images: torch.Tensor, shape: Any, columns: int, title: str, rows: list[str]) -> Any:
        grids[name] = len(images) // columns, rows
        return real(name, images, shape, columns, title, rows)

    monkeypatch.setattr(pictures, "image_grid", seen)
    root = fill(tmp_path_factory.mktemp("letters"), noise(30, 4, 4), in_turn(30, first=1), noise(12, 4, 4))
    code, _, err = lab("data=idx", f"data.root={root}", "model=cvae", *TINY, *FEW_DRAWS)
    assert code == 0, err
    assert caplog.text.count(f"data {root.name}: no training image has label 0") == 1
    assert grids["class_grid"] == (3, ["1", "2", "3"])
    (run,) = Store.open().records()
    numbered = [key.rpartition("/")[2] for key in run.metrics if key.startswith("eval/conditional_accuracy/")]
    assert sorted(numbered) == ["1", "2", "3"]


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setattr(files, "cache_folder", lambda name: folder / name)
