"""The same work, done in different ways: an epoch of the report's base model on MNIST."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vae_lab.data import Batches, Dataset, mnist
from vae_lab.models import VAE
from vae_lab.objectives import Objective, likelihood
from vae_lab.training import train

BATCH, LATENT, HIDDEN, LAYERS = 128, 15, 400, 3
Epochs = Iterator[float]  # seconds of one epoch after the other


def matrix_work(images: int) -> float:
    """Floating-point operations of the matrix products of one epoch.

    Each weight is used in the forward pass, for its own gradient and, but for the encoder's first layer, for
    the gradient of what came in: two operations a weight and image each time.
    """
    model = VAE(784, latent_size=LATENT, layers=LAYERS, hidden_size=HIDDEN)
    weights = [layer.weight.numel() for layer in model.modules() if isinstance(layer, nn.Linear)]
    return 2.0 * images * (3 * sum(weights) - weights[0])


def sgemm_peak(seconds: float = 1.0) -> float:
    """The machine's own best rate of float32 matrix products, operations a second."""
    size = 1536
    a, b = torch.randn(size, size), torch.randn(size, size)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        start = time.perf_counter()
        a @ b
        best = max(best, 2.0 * size**3 / (time.perf_counter() - start))
    return best


def lab(data: Dataset) -> Epochs:
    """This lab's loop, as `vae-lab train` runs it."""
    model = VAE(data.size, latent_size=LATENT, layers=LAYERS, hidden_size=HIDDEN)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    batches = Batches(data.train, batch_size=BATCH, C=0, seed=0)
    objective = Objective(likelihood("bernoulli"))
    for epoch in train(model, objective, optimizer, batches, epochs=1_000_000, seed=0):
        yield epoch.seconds


def dataloader(data: Dataset) -> Epochs:
    """A hand-written loop: torchvision's data set, a DataLoader, BCE of probabilities, plain Adam."""
    from torchvision import datasets, transforms

    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for file in Path(data.origin).glob("*ubyte"):
            (raw / file.name).symlink_to(file)
        images = datasets.MNIST(scratch, train=True, transform=transforms.ToTensor())
    loader = torch.utils.data.DataLoader(images, batch_size=BATCH, shuffle=True)
    model = VAE(data.size, latent_size=LATENT, layers=LAYERS, hidden_size=HIDDEN)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    while True:
        start = time.perf_counter()
        for x, _ in loader:
            loss = _loss_of_probabilities(model, x.flatten(1))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()
        yield time.perf_counter() - start


def _loss_of_probabilities(model: VAE, x: Tensor) -> Tensor:
    posterior = model.posterior(x, x.new_empty(len(x), 0))
    z = posterior.sample(torch.randn_like(posterior.mean))
    image = model.logits(z, z).sigmoid()
    kl = -0.5 * (1 + posterior.log_var - posterior.mean**2 - posterior.log_var.exp()).sum()
    return (nn.functional.binary_cross_entropy(image, x, reduction="sum") + kl) / len(x)


CONTENDERS: dict[str, Callable[[Dataset], Epochs]] = {"this lab": lab, "DataLoader loop": dataloader}


def load() -> Dataset:
    """MNIST, from the cache or fetched."""
    return mnist()
