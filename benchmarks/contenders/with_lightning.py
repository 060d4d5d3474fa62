"""Lightning: a LightningModule over a TensorDataset, with everything switched off that is not training."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from benchmarks.contenders.hand_written import PlainVAE, loss_function, mnist
from benchmarks.contenders.turns import Turns, options


class Module(lightning.LightningModule):
    """The plain VAE as Lightning wants it."""

    def __init__(self, model: PlainVAE) -> None:
        super().__init__()
        self.model = model

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """The loss of a batch."""
        x, label = batch
        image, mean, log_var = self.model(x, label)
        return loss_function(image, x, mean, log_var)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain Adam."""
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class InTurns(lightning.Callback):
    """An epoch a turn."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_train_start(self, *_: Any) -> None:
        """Called by Lightning."""
        self.turns.ready()

    def on_train_epoch_start(self, *_: Any) -> None:
        """Called by Lightning."""
        self.turns.wait()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Called by Lightning."""
        self.turns.done()


def main() -> None:
    """Trains, an epoch a turn."""
    chosen = options(__doc__)
    turns = Turns()
    with mnist(chosen.data) as images:
        tensors = torch.utils.data.TensorDataset(images.data.float().div(255).view(-1, 784), images.targets)
    loader = torch.utils.data.DataLoader(tensors, batch_size=chosen.batch, shuffle=True)
    trainer = lightning.Trainer(
        accelerator="cpu" if chosen.device == "cpu" else "gpu",
        devices=1,
        max_epochs=-1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[InTurns(turns)],
    )
    trainer.fit(Module(PlainVAE(chosen.layers, chosen.hidden, chosen.latent, chosen.classes)), loader)


if __name__ == "__main__":
    main()
