"""A loop as it is written by hand: torchvision's MNIST, a DataLoader, BCE of probabilities, plain Adam.

After the VAE example of PyTorch (https://github.com/pytorch/examples/tree/main/vae), with more layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision import datasets, transforms

from benchmarks.contenders.turns import Turns, options


class PlainVAE(nn.Module):
    """784-HxL-Z and back, with one-hot labels beside images and latent vectors if there are classes."""

    def __init__(self, layers: int, hidden: int, latent: int, classes: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.encoder = stack([784 + classes] + [hidden] * layers)
        self.mean = nn.Linear(hidden, latent)
        self.log_var = nn.Linear(hidden, latent)
        self.decoder = stack([latent + classes] + [hidden] * layers)
        self.pixels = nn.Linear(hidden, 784)

    def forward(self, x: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the probabilities of the pixels, the posterior mean and the log-variance."""
        x = x.view(-1, 784)
        c = functional.one_hot(label, self.classes).float() if self.classes else None
        hidden = self.encoder(x if c is None else torch.cat([x, c], dim=1))
        mean, log_var = self.mean(hidden), self.log_var(hidden)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        z = z if c is None else torch.cat([z, c], dim=1)
        return torch.sigmoid(self.pixels(self.decoder(z))), mean, log_var


def stack(sizes: list[int]) -> nn.Sequential:
    """Returns Linear + ReLU from each size to the next."""
    layers: list[nn.Module] = []
    for i in range(len(sizes) - 1):
        layers += [nn.Linear(sizes[i], sizes[i + 1]), nn.ReLU()]
    return nn.Sequential(*layers)


def loss_function(image: Tensor, x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Returns the summed binary cross entropy plus the KL divergence."""
    bce = functional.binary_cross_entropy(image, x.view(-1, 784), reduction="sum")
    return bce - 0.5 * torch.sum(1 + log_var - mean.pow(2) - log_var.exp())


@contextmanager
def mnist(folder: str) -> Iterator[datasets.MNIST]:
    """Torchvision's MNIST, over links to the files in `folder`."""
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for file in Path(folder).glob("*ubyte"):
            (raw / file.name).symlink_to(file)
        yield datasets.MNIST(scratch, train=True, transform=transforms.ToTensor())


def main() -> None:
    """Trains, an epoch a turn."""
    chosen = options(__doc__)
    turns = Turns()
    with mnist(chosen.data) as images:
        loader = torch.utils.data.DataLoader(images, batch_size=chosen.batch, shuffle=True)
        model = PlainVAE(chosen.layers, chosen.hidden, chosen.latent, chosen.classes).to(chosen.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        turns.ready()
        while True:
            with turns.turn():
                total = 0.0
                for batch, label in loader:
                    x = batch.to(chosen.device)
                    optimizer.zero_grad()
                    image, mean, log_var = model(x, label.to(chosen.device))
                    loss = loss_function(image, x, mean, log_var)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    total += loss.item()


if __name__ == "__main__":
    main()
