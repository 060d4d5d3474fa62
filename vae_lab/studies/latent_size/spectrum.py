"""The spectrum of a study's training data, measured once when the study starts and kept with it."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from vae_lab.studies.plan import read_json

SPECTRUM_FILE = "spectrum.json"  # of the parent run of a study with an oracle


class Spectrum(Struct, frozen=True, forbid_unknown_fields=True):
    """Eigenvalues of the covariance of the training images (white is 1), the largest first.

    Examples:
        >>> Spectrum.from_json(Spectrum("digits", "0123", 100, [0.5, 0.25], 0.1).to_json()).eigenvalues
        [0.5, 0.25]
    """

    data: str
    checksum: str
    images: int
    eigenvalues: Annotated[list[float], Meta(min_length=1)]  # (D,)
    noise_variance: float  # that the study's likelihood holds fixed

    def to_json(self) -> str:
        """Returns the spectrum as text for `from_json`."""
        return json.dumps(msgspec.to_builtins(self))

    @classmethod
    def from_json(cls, text: str) -> Spectrum:
        """Returns the spectrum in a text of `to_json`.

        Raises:
            ValueError: the text is damaged, or of another form.
        """
        return read_json(text, cls)
