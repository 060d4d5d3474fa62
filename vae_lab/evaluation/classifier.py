"""The classifiers of a data set's classes that judge samples: trained once, then read from the user's cache.

The field judges samples with a network trained on photographs. Digits are no photographs, and its weights
would have to be fetched, so the lab trains judges of its own on the training images of each data set.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import re
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock

from vae_lab import files, seeding
from vae_lab.config import code_version
from vae_lab.data import Dataset, batches
from vae_lab.errors import LabError
from vae_lab.evaluation import network
from vae_lab.evaluation.network import Classifier

log = logging.getLogger(__name__)

RELIABLE = 0.9  # accuracy on held-out images below which a classifier's measures of samples mean little


class TrainedClassifier(NamedTuple):
    """A classifier and its accuracy on held-out images, from 0 to 1."""

    model: Classifier
    accuracy: float


def obstacle(data: Dataset) -> str:
    """Returns why no classifier can be trained on a data set; empty if one can.

    Examples:
        >>> from vae_lab.data import dataset
        >>> obstacle(dataset("blank", [[[0]]], [0], [[[0]]], [0]))
        'all training images are of one class, which leaves a classifier nothing to learn'
    """
    if len(data.trained_classes) < 2:
        return "all training images are of one class, which leaves a classifier nothing to learn"
    _, height, width = data.shape
    # The first convolution leaves one number of a channel; batch normalization needs two to have a variance.
    if max(height, width) <= 2 and len(data.train) % network.BATCH == 1:
        return f"the classifier cannot be trained on a last batch of one image of {height} x {width} pixels"
    return ""


def load_or_train(data: Dataset, number: int = 0) -> TrainedClassifier:
    """Returns a classifier of a data set, on the data's device, from the cache or trained now.

    A file that is damaged, or was written by other code or for other data, is not used.

    Args:
        data: The images.
        number: Which of the classifiers of these images, from 0: each has weights of its own.

    Raises:
        LabError: The cache cannot be written.
    """
    path = file_of(data, number)
    folder = path.parent
    trained = _load(path, data)
    if trained is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):
                trained = _load(path, data)  # again, now that no other process is training it
                if trained is None:
                    trained = _train(data, number)
                    _save(path, trained)
        except OSError as error:
            reason = f"{error}.{files.cache_hint(folder)}"
            raise LabError(f"evaluation.samples: no classifier can be kept in {folder}: {reason}") from None
    if trained.accuracy < RELIABLE:
        _warn_of_low_accuracy(data.name, trained.accuracy)
    return TrainedClassifier(trained.model.to(data.train.pixels.device).eval(), trained.accuracy)


def file_of(data: Dataset, number: int = 0) -> Path:
    """Returns where a classifier of a data set is kept, once it has been trained."""
    name = re.sub(r"[^-.()#, 0-9A-Za-z_]", "_", data.name)[:60]
    return files.cache_folder("classifiers") / f"{name}-{key(data.checksum)}-{number}.pt"


@functools.cache  # once, and not for every run that is judged
def _warn_of_low_accuracy(name: str, accuracy: float) -> None:
    share = f"{100 * accuracy:.1f} %"
    log.warning("The classifier that judges samples finds only %s of the held-out images of %s.", share, name)


@functools.cache
def key(checksum: str) -> str:
    """Returns twelve hex digits that identify classifiers: a hash of their code and their data's checksum."""
    code = code_version.checksum(str(module.__file__) for module in (network, batches, seeding))
    return hashlib.sha256(f"{code} {checksum}".encode()).hexdigest()[:12]


def _train(data: Dataset, number: int) -> TrainedClassifier:
    log.info(
        "Training classifier %d that judges samples of %s: once, a minute or two.", number + 1, data.name
    )
    model = network.train(data, number)
    return TrainedClassifier(model, network.accuracy(model, data.test))


def _save(path: Path, trained: TrainedClassifier) -> None:
    weights = {name: value.cpu() for name, value in trained.model.state_dict().items()}
    content = io.BytesIO()
    torch.save({"weights": weights, "accuracy": trained.accuracy}, content)
    files.write_sealed(path, content.getvalue())


def _load(path: Path, data: Dataset) -> TrainedClassifier | None:
    """Returns the classifier in a file of `_save`; None if the file does not exist or is damaged."""
    try:
        raw = files.read_sealed(path)
    except FileNotFoundError:
        return None
    except files.DamagedError as error:
        log.warning("%s The classifier is trained again.", error)
        return None
    stored = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    model = Classifier(data.shape, data.classes)
    model.load_state_dict(stored["weights"])
    return TrainedClassifier(model, stored["accuracy"])
