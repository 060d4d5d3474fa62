"""The fully connected VAE; a CVAE is the same class with a condition of size C > 0.

Shapes: D pixels of an image over all channels, P outputs of the decoder (D for one a pixel), Z latent
dimensions, C condition, K runs of a stack, n images of a minibatch, * any leading axes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor, nn

from vae_lab.errors import UserError, choices

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": partial(
        nn.ReLU, inplace=True
    ),  # in place: nothing else reads a Linear's output; 1 to 2 % of an epoch
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
        """Returns the reparametrized draw (*, Z) for standard normal `noise` (*, Z)."""
        return torch.addcmul(self.mean, (self.log_var / 2).exp(), noise)


class VAE(nn.Module):
    """Fully connected encoder and decoder with a Gaussian latent vector.

    The encoder is a series of Linear + activation, then one Linear for the posterior mean and one for its
    log-variance; the decoder mirrors the series and ends in a Linear whose outputs are the pixels' logits.

    Args:
        data_size: D.
        condition_size: C, 0 for a VAE, the number of classes for a CVAE.
        latent_size: Z.
        layers: Linear + activation layers in the encoder, and again in the decoder.
        encoder_layers: Layers of the encoder alone, if it differs.
        decoder_layers: Layers of the decoder alone, if it differs.
        hidden_size: Width of each layer, or the encoder's widths from the image inwards.
        activation: A key of `ACTIVATIONS`.
        init: How the first weights are drawn, see `initialize`.
        outputs: Numbers that the decoder gives for a pixel, as many as the likelihood wants: P / D.

    Examples:
        >>> cvae = VAE(784, condition_size=10, latent_size=15)
        >>> x, c, noise = torch.zeros(8, 784), torch.zeros(8, 10), torch.zeros(8, 15)
        >>> logits, posterior = cvae(x, c, noise)
        >>> logits.shape, posterior.mean.shape, posterior.log_var.shape
        (torch.Size([8, 784]), torch.Size([8, 15]), torch.Size([8, 15]))

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
        outputs: int = 1,
    ) -> None:
        super().__init__()
        encoder_widths = _widths(hidden_size, layers if encoder_layers is None else encoder_layers)
        decoder_widths = _widths(hidden_size, layers if decoder_layers is None else decoder_layers)[::-1]
        if activation not in ACTIVATIONS:
            raise UserError(f"activation={activation}: unknown{choices(activation, ACTIVATIONS)}")
        self.data_size, self.condition_size, self.latent_size = data_size, condition_size, latent_size
        self.encoder = _mlp([data_size + condition_size, *encoder_widths], activation)
        self.mean = Float32Linear(encoder_widths[-1], latent_size)
        self.log_var = Float32Linear(encoder_widths[-1], latent_size)
        self.decoder = _mlp([latent_size + condition_size, *decoder_widths], activation, Float32Linear)
        self.pixels = nn.Linear(decoder_widths[-1], data_size * outputs)
        initialize(self, init)

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """Returns q(z | x, c) for images x (*, D) and conditions c (*, C)."""
        hidden = self.encoder(torch.cat([x, c], dim=-1) if self.condition_size else x)
        return Posterior(self.mean(hidden), self.log_var(hidden))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Returns the pixel logits (*, P) decoded from latent vectors z (*, Z) and conditions c (*, C)."""
        hidden = self.decoder(torch.cat([z, c], dim=-1) if self.condition_size else z)
        logits: Tensor = self.pixels(hidden)
        return logits

    def forward(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Returns pixel logits (*, P) and the posterior of x, for standard normal `noise` (*, Z)."""
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

    `default` keeps PyTorch's: uniform with standard deviation 1 / sqrt(3 fan_in), for weights and biases.
    The others set biases to zero and draw weights as `kaiming` (normal, standard deviation sqrt(2 / fan_in)),
    `xavier` (uniform, variance 2 / (fan_in + fan_out)) or `orthogonal` (with gain sqrt(2)).

    Raises:
        UserError: `init` is none of `INITS`.

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


def _mlp(sizes: Sequence[int], activation: str, first: type[nn.Linear] = nn.Linear) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        kind = nn.Linear if layers else first
        layers += [kind(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers)


class Float32Linear(nn.Linear):
    """A Linear layer that stays in float32 where autocast shortens the others.

    Posterior heads and the decoder's first layer are such: what the latent vector carries, and the noise that
    its KL pays for, is less than bfloat16's eight bits can hold. They are the smallest products of a VAE.
    """

    keeps_float32 = True

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output (*, out) for x (*, in)."""
        if not is_autocast(x):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


class StackedLinear(nn.Module):
    """K Linear layers side by side: (K, n, in) -> (K, n, out) as one batched matrix product.

    Args:
        layers: K layers of equal shape and class; their weights are copied.
    """

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.keeps_float32 = keeps_float32(layers[0])
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))  # (K, out, in)
        self.bias = (
            nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))
            if layers[0].bias is not None
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Returns the output (K, n, out) of each layer for its slice of x (K, n, in)."""
        factors, device = [x, self.weight, self.bias], x.device.type
        if not is_autocast(x):
            return cast("Tensor", _Linears.apply(*factors))
        # By hand, since autocast is not in force in the backward pass.
        dtype = self.weight.dtype if self.keeps_float32 else torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            factors = [None if factor is None else factor.to(dtype) for factor in factors]
            return cast("Tensor", _Linears.apply(*factors))


def is_autocast(x: Tensor) -> bool:
    """Returns whether autocast is in force where a tensor is, which for some devices it never is."""
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def keeps_float32(layer: nn.Module) -> bool:
    """Returns whether a layer stays in float32 where autocast shortens the others."""
    return bool(getattr(layer, "keeps_float32", False))


class _Linears(torch.autograd.Function):
    """Images x (K, n, in) times the transposed weights (K, out, in), plus biases (K, out).

    The gradient of the weights is computed in the layout of the weights; autograd's would be transposed, and
    copied at every step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        wants_x, _, wants_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if wants_x else None,
            torch.bmm(gradient.mT, x),
            gradient.sum(1) if wants_bias else None,
        )


class Decoding(Protocol):
    """A model as the losses see it: one VAE, or a stack of them."""

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """Returns q(z | x, c) for images x (*, n, D) and conditions c (*, n, C)."""

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Returns pixel logits (*, n, P) for latent vectors z (*, n, Z) and conditions c (*, n, C)."""

    def __call__(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Returns pixel logits (*, n, P) and posterior for x (*, n, D), c (*, n, C) and noise (*, n, Z)."""


def autoencoded(model: Decoding, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
    """Returns pixel logits and posteriors of images x (*, n, D) with conditions c (*, n, C).

    For noise (*, n, Z) the logits are (*, n, P), as the model gives them. For noise (L, *, n, Z), of L draws
    an image, they are (L, *, n, P), and the encoder runs once.

    Examples:
        >>> x, c, noise = torch.zeros(8, 784), torch.zeros(8, 0), torch.zeros(5, 8, 15)
        >>> logits, posterior = autoencoded(VAE(784), x, c, noise)
        >>> logits.shape, posterior.mean.shape
        (torch.Size([5, 8, 784]), torch.Size([8, 15]))
    """
    if noise.ndim == x.ndim:
        return model(x, c, noise)
    posterior = model.posterior(x, c)
    z, conditions = posterior.sample(noise), c.expand(len(noise), *c.shape)
    # As further images, since convolutions and stacked products take no further axis.
    folded = [values.movedim(0, -3).flatten(-3, -2) for values in (z, conditions)]
    logits: Tensor = torch.unflatten(model.logits(*folded), -2, (len(noise), x.shape[-2]))
    return logits.movedim(-3, 0), posterior


def is_stochastic(model: object) -> bool:
    """Returns whether a model draws random numbers of its own in training.

    Dropout and RReLU do; a module that draws in another way says so with the attribute `draws = True`.

    Examples:
        >>> is_stochastic(VAE(784)), is_stochastic(nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
        (False, True)
    """
    modules = model.modules() if isinstance(model, nn.Module) else ()
    random_layers = (nn.modules.dropout._DropoutNd, nn.RReLU)
    return any(isinstance(module, random_layers) or getattr(module, "draws", False) for module in modules)


def parameter_count(model: nn.Module) -> int:
    """Returns the number of trained weights.

    Examples:
        >>> parameter_count(VAE(784))
        1288414
    """
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
