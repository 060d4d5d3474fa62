"""Measures of a trained model, and the images that it decodes.

- `elbo`: the loss, its parts and the active units; after every epoch.
- `bounds`: importance-weighted bounds on log p(x), and the floor of grey cross entropy.
- `latent`: the use of each latent dimension.
- `aggregate`: the KL's two parts, information on the image and the distance of all z to the prior.
- `annealed`: annealed importance sampling: log p(x) between two bounds, rate and distortion.
- `simulated`: images that a model draws itself, pixels included.
- `annealed_measures`: what annealed importance sampling says of one model, as metrics.
- `network`: a classifier that judges samples, and its training.
- `classifier`: the classifiers of a data set, from the cache or trained once.
- `judges`: what several of them say of samples, their mean and its standard error.
- `samples`: the quality of samples: their classes, sharpness, and distance to the training images.
- `measures`: what was measured, by name, and why the rest was not.
- `full`: all these measures of one model, as metrics.
- `spectrum`: singular values of the data, and what follows from them for probabilistic PCA.
- `arguments`: what is handed to a trained model, checked and put on its device.
- `in_hand`: a trained model with its likelihood as one thing that takes and gives images.
- `decoded`: samples, reconstructions and interpolations as images.
"""

from vae_lab.evaluation import classifier
from vae_lab.evaluation.annealed_measures import annealed_measures
from vae_lab.evaluation.decoded import (
    class_samples,
    decode,
    interpolation,
    prior_noise,
    prior_samples,
    reconstructions,
)
from vae_lab.evaluation.elbo import HeldOut, held_out
from vae_lab.evaluation.full import full_evaluation
from vae_lab.evaluation.in_hand import ModelInHand
from vae_lab.evaluation.measures import Measures

__all__ = [
    "HeldOut",
    "Measures",
    "ModelInHand",
    "annealed_measures",
    "class_samples",
    "classifier",
    "decode",
    "full_evaluation",
    "held_out",
    "interpolation",
    "prior_noise",
    "prior_samples",
    "reconstructions",
]
