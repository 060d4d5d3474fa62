"""A VAE as people write it without the lab, in one file of plain torch, with one of the known faults."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from vae_lab import doctor
from vae_lab.data import Dataset
from vae_lab.trained.doctor.findings import Report

CLASSES, STEPS = 10, 60
LOGITS = ("sigmoid_missing", "sigmoid_twice", "log_variance_unbounded")  # whose loss takes logits


class TorchVAE(nn.Module):
    """x -> hidden -> (mu, logvar) -> z -> hidden -> images in [0, 1]; a CVAE where `classes` are given."""

    def __init__(self, fault: str = "", classes: int = 0, hidden: int = 64, latent: int = 8) -> None:
        super().__init__()
        self.fault, self.classes = fault, classes
        self.norm = (
            nn.BatchNorm1d(64, momentum=0.0, affine=False) if fault == "modes_differ" else nn.Identity()
        )
        self.encoder = nn.Sequential(nn.Linear(64 + classes, hidden), nn.ReLU())
        self.mu, self.logvar = nn.Linear(hidden, latent), nn.Linear(hidden, latent)
        self.decoder_layers = nn.Sequential(
            nn.Linear(latent + classes, hidden), nn.ReLU(), nn.Linear(hidden, 64)
        )

    def encode(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns mu and logvar (N, Z) of images x (N, 64) and one-hot labels y (N, 10)."""
        x = self.norm(x)
        h = self.encoder(x if y is None else torch.cat([x, y], 1))
        mu, logvar = self.mu(h), self.logvar(h)
        if self.fault == "sigma_stuck":
            logvar = functional.softplus(logvar)
        if self.fault == "log_variance_unbounded":
            logvar = 1e4 * logvar
        return mu, logvar

    def reparameterize(self, mu: Tensor, logvar: Tensor) -> Tensor:
        """Returns a draw of z (N, Z)."""
        noise = torch.randn_like(mu)
        if self.fault == "noise_once":
            noise = torch.randn(mu.shape, generator=torch.Generator().manual_seed(0)).to(mu)
        if self.fault == "noise_scaled":
            noise = 0.01 * noise
        std = logvar.exp() if self.fault == "std_variance" else (logvar / 2).exp()
        return mu + std * noise

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Returns the images (N, 64) of z (N, Z), or their logits."""
        if self.fault == "ignores_z":
            z = torch.zeros_like(z)
        if self.fault == "condition_ignored" and y is not None:
            y = torch.zeros_like(y)
        logits: Tensor = self.decoder_layers(z if y is None else torch.cat([z, y], 1))
        if self.fault in ("sigmoid_missing", "log_variance_unbounded"):
            return logits
        return logits.tanh() if self.fault == "pixel_range" else logits.sigmoid()

    def forward(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what is decoded of a draw, mu and logvar."""
        mu, logvar = self.encode(x, y)
        return self.decode(self.reparameterize(mu, logvar), y), mu, logvar


def plain_loss(fault: str, reconstruction: Tensor, x: Tensor, mu: Tensor, logvar: Tensor) -> Tensor:
    """The loss as people write it, with the fault if it is one of the loss."""
    if fault == "pixel_range":
        errors = (reconstruction - x) ** 2
    elif fault in LOGITS:
        errors = functional.binary_cross_entropy_with_logits(reconstruction, x, reduction="none")
    else:
        errors = functional.binary_cross_entropy(reconstruction, x, reduction="none")
    terms = -0.5 * (1 + logvar - mu**2 - logvar.exp())
    if fault == "kl_sign":
        terms = -0.5 * (1 - logvar - mu**2 - logvar.exp())
    if fault == "kl_sigma":
        terms = -0.5 * (1 + logvar - mu**2 - (logvar / 2).exp())
    kl = terms.mean(1).mean() if fault == "kl_mean" else terms.sum(1).mean()
    if fault == "batch_size":
        kl = terms.sum()
    if fault == "kl_weight":
        kl = 1e-3 * kl
    return (errors.mean(1) if fault == "reconstruction_mean" else errors.sum(1)).mean() + kl


def plain_report(fault: str, seed: int, digits: Dataset, steps: int = STEPS, **arguments: Any) -> Report:
    """Trains such a VAE on the digits, and returns what the doctor says of it."""
    torch.manual_seed(seed)
    conditional = fault == "condition_ignored"
    device = digits.train.pixels.device
    model = TorchVAE(fault, CLASSES if conditional else 0).to(device)
    train, held_out = digits.train.scaled(slice(None)), digits.test.scaled(slice(None))
    if fault == "grey_binarized":
        train = torch.bernoulli(train)
    labels = [functional.one_hot(part.labels, CLASSES).float() for part in (digits.train, digits.test)]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3 if fault == "rate_too_high" else 2e-3)
    losses = []
    for _ in range(steps):
        batch = torch.randint(len(train), (128,), device=device)
        x, y = train[batch], labels[0][batch] if conditional else None
        reconstruction, mu, logvar = model(x, y)
        loss = plain_loss(fault, reconstruction, x, mu, logvar)
        losses.append(loss.item())
        if not torch.isfinite(loss):
            break
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return doctor(
        model,
        held_out,
        labels[1] if conditional else None,
        loss=lambda r, x, mu, logvar: plain_loss(fault, r, x, mu, logvar),
        output="images" if fault == "sigmoid_missing" else None,
        train_images=train,
        losses=losses,
        **arguments,
    )
