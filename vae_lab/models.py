"""The fully connected VAE; a CVAE is the same class with a condition of size C > 0.

Shapes: D pixels of an image over all channels, Z latent dimensions, C condition, * any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vae_lab.errors import UserError, choices

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(nn.ReLU, inplace=True),  # what a Linear gave is needed nowhere else: 1 to 2 % of an epoch
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
}


class Posterior(NamedTuple):
    """Diagonal Gaussian q(z | x, c); both fields have shape (*, Z)."""

    mean: Tensor
    log_var: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Reparametrized draw for standard normal `noise` (*, Z)."""
        return self.mean + (self.log_var / 2).exp() * noise


class VAE(nn.Module):
    """Fully connected encoder and decoder with a Gaussian latent vector.

    The encoder is a stack of Linear + activation, then one Linear for the posterior mean and one for its
    log-variance; the decoder mirrors the stack and ends in a Linear that gives the logits of the pixels.

    Args:
        data_size: D.
        condition_size: C, 0 for a VAE, the number of classes for a CVAE.
        latent_size: Z.
        layers: Linear + activation layers in the encoder, and again in the decoder.
        encoder_layers: layers of the encoder alone, if it differs.
        decoder_layers: layers of the decoder alone, if it differs.
        hidden_size: width of each layer, or the encoder's widths from the image inwards.
        activation: a key of `ACTIVATIONS`.
        init: how the first weights are drawn, see `initialize`.

    References:
        Kingma & Welling 2014, Auto-Encoding Variational Bayes, appendix C.
        Sohn et al. 2015, Learning Structured Output Representation using Deep Conditional Generative Models.
    """

    def __init__(
        self,
        data_size: int,
        condition_size: int = 0,
        latent_size: int = 15,
        layers: int = 3,
        encoder_layers: int | None = None,
        decoder_layers: int | None = None,
        hidden_size: int | Sequence[int] = 400,
        activation: str = "relu",
        init: str = "default",
    ) -> None:
        super().__init__()
        down = _widths(hidden_size, layers if encoder_layers is None else encoder_layers)
        up = _widths(hidden_size, layers if decoder_layers is None else decoder_layers)[::-1]
        if activation not in ACTIVATIONS:
            raise UserError(f"activation={activation}: unknown{choices(activation, ACTIVATIONS)}")
        self.data_size, self.condition_size, self.latent_size = data_size, condition_size, latent_size
        self.encoder = _stack([data_size + condition_size, *down], activation)
        self.mean = nn.Linear(down[-1], latent_size)
        self.log_var = nn.Linear(down[-1], latent_size)
        self.decoder = _stack([latent_size + condition_size, *up], activation)
        self.pixels = nn.Linear(up[-1], data_size)
        initialize(self, init)

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """q(z | x, c) for images x (*, D) and conditions c (*, C)."""
        hidden = self.encoder(torch.cat([x, c], dim=-1) if self.condition_size else x)
        return Posterior(self.mean(hidden), self.log_var(hidden))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Pixel logits (*, D) of the images decoded from z (*, Z) and c (*, C)."""
        hidden = self.decoder(torch.cat([z, c], dim=-1) if self.condition_size else z)
        logits: Tensor = self.pixels(hidden)
        return logits

    def forward(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Pixel logits (*, D) of a reconstruction and the posterior, for standard normal noise (*, Z)."""
        posterior = self.posterior(x, c)
        return self.logits(posterior.sample(noise), c), posterior


def _widths(hidden_size: int | Sequence[int], layers: int) -> list[int]:
    widths = [hidden_size] * layers if isinstance(hidden_size, int) else list(hidden_size)
    if len(widths) != layers:
        raise UserError(f"hidden_size={widths}: needs one width for each of {layers} layers.")
    return widths


INITS = ("default", "kaiming", "xavier", "orthogonal")


def initialize(model: nn.Module, init: str) -> None:
    """Draws the first weights of every Linear layer, from torch's global generator.

    `default` leaves PyTorch's: uniform with standard deviation 1 / sqrt(3 fan_in), for weights and biases.
    The others set biases to zero and draw weights as `kaiming` (normal, standard deviation sqrt(2 / fan_in)),
    `xavier` (uniform, variance 2 / (fan_in + fan_out)) or `orthogonal` (with gain sqrt(2)).

    References:
        He et al. 2015, Delving Deep into Rectifiers, eq. 10; Glorot & Bengio 2010, eq. 16; Saxe et al. 2014.
    """
    if init not in INITS:
        raise UserError(f"init={init}: unknown{choices(init, INITS)}")
    if init == "default":
        return
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            if init == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            elif init == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
            nn.init.zeros_(layer.bias)


def _stack(sizes: Sequence[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


def draws(model: object) -> bool:
    """Whether a model draws numbers of its own in training: by dropout, or as its `draws = True` says."""
    modules = model.modules() if isinstance(model, nn.Module) else ()
    random = (nn.modules.dropout._DropoutNd, nn.RReLU)
    return any(isinstance(each, random) or getattr(each, "draws", False) for each in modules)


def parameter_count(model: nn.Module) -> int:
    """The number of trained weights."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
