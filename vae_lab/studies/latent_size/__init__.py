"""Three recipes for the latent size, held against a sweep of it.

- `spectrum`: the spectrum of a study's training data, kept on its parent run.
- `recipes`: what each recipe predicts, and what its prediction costs in nats.
"""

from vae_lab.studies.latent_size.recipes import Prediction, RecipeComparison, outcomes
from vae_lab.studies.latent_size.spectrum import FILE, Spectrum, measure_spectrum

__all__ = ["FILE", "Prediction", "RecipeComparison", "Spectrum", "measure_spectrum", "outcomes"]
