"""The spectrum of a study's training data, measured once when the study starts and kept with it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae_lab.data import Dataset

FILE = "spectrum.json"  # of the parent run of a study with an oracle


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the covariance of the training images (white is 1), the largest first."""

    data: str
    checksum: str
    images: int
    eigenvalues: list[float]  # D
    noise_variance: float  # that the study's likelihood holds fixed

    def to_json(self) -> str:
        """The spectrum as text for `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Spectrum:
        """The spectrum in a text of `to_json`.

        Raises:
            ValueError: the text is damaged, or of another form.
        """
        try:
            found = cls(**json.loads(text))
            numbers = [*found.eigenvalues, found.noise_variance, found.images]
            if not numbers[:-2] or not all(isinstance(each, int | float) for each in numbers):
                raise ValueError("its eigenvalues are no list of numbers")
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        return found


def measure_spectrum(data: Dataset, likelihood: str, std: float) -> Spectrum:
    """The spectrum of a data set's training images, and the noise that a likelihood assumes."""
    from vae_lab.evaluation import spectrum  # torch: not for reading a study's page back

    found = spectrum.eigenvalues(data.train)
    noise = spectrum.assumed_variance(data.train, likelihood, std)
    return Spectrum(data.name, data.checksum, len(data.train), found.tolist(), noise)
