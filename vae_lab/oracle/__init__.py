"""The latent-size oracle: three recipes for the latent size, held against a sweep of it.

- `measured`: the spectrum of a study's training data, kept on its parent run.
- `recipes`: what each recipe predicts, and what its prediction costs in nats.
- `shown`: the recipes beside each other, as a table and as a chart.
"""

from vae_lab.oracle.measured import FILE, Spectrum, measure
from vae_lab.oracle.recipes import Outcome, Prediction, outcomes
from vae_lab.oracle.shown import figure, sentence, svg, table

__all__ = [
    "FILE",
    "Outcome",
    "Prediction",
    "Spectrum",
    "figure",
    "measure",
    "outcomes",
    "sentence",
    "svg",
    "table",
]
