from pathlib import Path

import pytest
import torch

from vae_lab import files
from vae_lab.data import Dataset, digits, mnist
from vae_lab.errors import LabError
from vae_lab.evaluation import classifier, network


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(files, "cache_folder", lambda name: tmp_path / name)
    return tmp_path / "classifiers"


def test_it_learns_the_digits_and_is_kept_and_a_damaged_file_is_trained_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    data = digits().to(device)
    first = classifier.load_or_train(data)
    assert first.accuracy >= 0.97
    (file,) = cache.glob("*.pt")
    assert classifier.key(data.checksum) in file.name
    content = file.read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(classifier, "_train", lambda *_: pytest.fail("the cached one was not used"))
        again = classifier.load_or_train(data)
    x = data.test.scaled(slice(0, 20))
    torch.testing.assert_close(
        again.model.judge(x).probabilities, first.model.judge(x).probabilities, rtol=1e-4, atol=1e-5
    )
    assert again.accuracy == first.accuracy

    monkeypatch.setattr(classifier, "_train", lambda *_: first)
    for damaged in (b"", content[:-1], content[:5000] + b"x" + content[5001:]):
        file.write_bytes(damaged)
        assert classifier.load_or_train(data).accuracy == first.accuracy
        assert len(file.read_bytes()) == len(content)


@pytest.mark.timeout(900)
def test_it_finds_99_percent_of_mnists_held_out_digits(device: torch.device) -> None:
    assert (
        classifier.load_or_train(mnist().to(device)).accuracy >= 0.99
    )  # kept in the user's cache, as for a run


def test_a_poor_judge_is_warned_of(
    cache: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    poor = classifier.TrainedClassifier(network.Classifier(rows.shape, rows.classes), 0.5)
    monkeypatch.setattr(classifier, "_train", lambda *_: poor)
    classifier._warn_of_low_accuracy.cache_clear()
    for _ in range(3):
        classifier.load_or_train(rows)
    assert caplog.text.count("finds only 50.0 % of the held-out images of rows") == 1, "once a process"


def test_another_data_set_has_another_file(
    cache: Path, rows: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained = classifier.TrainedClassifier(network.Classifier(rows.shape, rows.classes), 0.5)
    monkeypatch.setattr(classifier, "_train", lambda *_: untrained)
    classifier.load_or_train(rows)
    classifier.load_or_train(rows._replace(checksum="1" * 12))
    assert len(list(cache.glob("*.pt"))) == 2


def test_a_cache_that_cannot_be_written_is_named(cache: Path, rows: Dataset) -> None:
    cache.write_text("a file in the place of the folder")
    with pytest.raises(LabError, match=r"no classifier can be kept in .*classifiers"):
        classifier.load_or_train(rows)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (1, 28, 20), (3, 9, 11), (1, 100, 64)])
def test_images_of_any_size_and_channels_are_judged(shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    judge = network.Classifier(shape, 4).judge(torch.rand(5, channels * height * width), batch_size=2)
    assert judge.probabilities.shape == (5, 4)
    assert judge.features.shape == (5, network.FEATURES)
    torch.testing.assert_close(judge.probabilities.sum(-1), torch.ones(5))
