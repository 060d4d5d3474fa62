"""Experiments with fully connected VAEs and CVAEs: Hydra describes, MLflow keeps, the lab compares."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # not from `typing`, whose import takes longer than a user's Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Collection

    from vae_lab.models import VAE

__version__ = "0.1.0"
__all__ = ["__version__", "load"]

# OpenMP reads this when torch is imported. By default its threads spin while they wait, and one busy
# neighbour process then makes training tens of times slower; a short spin costs nothing on a quiet machine.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def load(run_id: str, *, uri: str | None = None, device: str = "cpu", trust: Collection[str] = ()) -> VAE:
    """Returns the trained model of an MLflow run, in evaluation mode.

    Args:
        run_id: Id of a run that `vae-lab train` has finished.
        uri: The tracking store; by default the one that `vae-lab train` uses in this folder.
        device: Where the weights are put: cpu, cuda, cuda:N or mps.
        trust: Dotted names of model classes of your own that may be imported, such as my_models.Tempered.

    Raises:
        UserError: The run's model is of a class that is neither the lab's nor trusted.
        LabError: No such run, a run without a model, or a damaged file.

    Examples:
        The image that a model decodes from the mean of the prior::

            model = vae_lab.load("8c1f0a2b5d7e4f6a9b3c2d1e0f9a8b7c")
            z, c = torch.zeros(1, model.latent_size), torch.zeros(1, model.condition_size)
            image = model.logits(z, c).sigmoid()
    """
    from vae_lab.checkpoints import load_model
    from vae_lab.tracking import reader

    return load_model(reader(uri).download(run_id, "model/model.pt"), device=device, trusted=trust)
