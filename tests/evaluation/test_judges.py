import math
import statistics

import pytest
import torch

from vae_lab.data import Dataset
from vae_lab.evaluation import classifier, full, judges, network
from vae_lab.metrics import ERROR


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the classifiers that were asked for; each has first weights of its own."""
    numbers: list[int] = []

    def untrained(data: Dataset, number: int) -> classifier.TrainedClassifier:
        numbers.append(number)
        torch.manual_seed(number)
        model = network.Classifier(data.shape, data.classes).to(data.test.pixels.device)
        return classifier.TrainedClassifier(model, 0.5 + number / 10)

    monkeypatch.setattr(judges, "load_or_train", untrained)
    return numbers


def said(data: Dataset, count: int) -> dict[str, float]:
    return judges.judgement(data, data.train.scaled(slice(0, 24)), None, judges=count).metrics


def test_a_measure_is_the_mean_of_the_judges_and_their_spread_is_its_standard_error(
    rows: Dataset, trained: list[int]
) -> None:
    alone = [
        judges._said_by(judges._judge(rows, i), rows, rows.train.scaled(slice(0, 24)), None, 1000)
        for i in range(3)
    ]
    together = said(rows, 3)
    for key in ("eval/frechet_distance", "eval/recall", "eval/classifier_accuracy"):
        values = [part.metrics[key] for part in alone]
        assert together[key] == pytest.approx(statistics.fmean(values))
        assert len(set(values)) > 1, "the judges differ"
    values = [part.metrics["eval/frechet_distance"] for part in alone]
    error = together[f"eval/frechet_distance{ERROR}"]
    assert error == pytest.approx(statistics.stdev(values) / math.sqrt(3))
    assert f"eval/classifier_accuracy{ERROR}" not in together


def test_one_judge_has_no_standard_error(rows: Dataset, trained: list[int]) -> None:
    assert not [key for key in said(rows, 1) if key.endswith(ERROR)]


@pytest.mark.parametrize("factors", [None, {"x": torch.arange(32.0), "y": torch.ones(32)}])
def test_a_data_sets_own_images_are_judged_once(
    rows: Dataset, trained: list[int], factors: dict[str, torch.Tensor] | None
) -> None:
    data = rows._replace(factors=factors)
    first = full.quality_of_training_images(data, 24, 2)
    assert sorted(trained) == [0, 1]
    assert full.quality_of_training_images(data, 24, 2) is first
    assert said(data, 2)
    assert sorted(trained) == [0, 1], "their features of held-out images are kept as well"


def test_classifiers_of_two_numbers_have_weights_of_their_own_and_one_number_the_same(rows: Dataset) -> None:
    first, again, other = (network.train(rows, number).classes.weight for number in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other)
