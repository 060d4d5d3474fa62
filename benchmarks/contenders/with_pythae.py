"""pythae: its VAE and its trainer, with encoder and decoder of the same sizes, over images in memory."""

from __future__ import annotations

import tempfile
from typing import Any

from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from benchmarks.contenders.hand_written import mnist, stack
from benchmarks.contenders.turns import Turns, options

MANY = 10_000  # epochs; nobody waits for the last


class Encoder(BaseEncoder):
    """784-HxL-Z."""

    def __init__(self, layers: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.layers = stack([784] + [hidden] * layers)
        self.mean = nn.Linear(hidden, latent)
        self.log_var = nn.Linear(hidden, latent)

    def forward(self, x: Tensor) -> ModelOutput:
        """The posterior."""
        hidden = self.layers(x)
        return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_var(hidden))


class Decoder(BaseDecoder):
    """Z-HxL-784, probabilities."""

    def __init__(self, layers: int, hidden: int, latent: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(stack([latent] + [hidden] * layers), nn.Linear(hidden, 784), nn.Sigmoid())

    def forward(self, z: Tensor) -> ModelOutput:
        """The image."""
        return ModelOutput(reconstruction=self.layers(z))


class InTurns(TrainingCallback):
    """An epoch a turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Called by pythae."""
        self.turns.ready()

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Called by pythae."""
        self.turns.wait()

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Called by pythae."""
        self.turns.done()


def main() -> None:
    """Trains, an epoch a turn."""
    chosen = options(__doc__)
    turns = Turns()
    sizes = chosen.layers, chosen.hidden, chosen.latent
    with mnist(chosen.data) as images, tempfile.TemporaryDirectory() as scratch:
        data = BaseDataset(images.data.float().div(255).view(-1, 784), images.targets)
        config = VAEConfig(input_dim=(784,), latent_dim=chosen.latent, reconstruction_loss="bce")
        settings = BaseTrainerConfig(
            output_dir=scratch,
            per_device_train_batch_size=chosen.batch,
            num_epochs=MANY,
            learning_rate=1e-3,
            no_cuda=chosen.device == "cpu",
        )
        model = VAE(config, encoder=Encoder(*sizes), decoder=Decoder(*sizes))
        BaseTrainer(model, data, training_config=settings, callbacks=[InTurns(turns)]).train()


if __name__ == "__main__":
    main()
