"""How to choose a latent size: three recipes (sweep, spectrum, active units), held against a sweep.

- `spectrum`: the spectrum of a study's training data, kept on its parent run.
- `recipes`: what each recipe predicts, and what its prediction costs in nats.
"""

from vae_lab.studies.latent_size.recipes import Prediction, RecipeComparison, compare_recipes
from vae_lab.studies.latent_size.spectrum import SPECTRUM_FILE, Spectrum

__all__ = ["SPECTRUM_FILE", "Prediction", "RecipeComparison", "Spectrum", "compare_recipes"]
