"""The VAE's layers in series with a backward pass by hand, which moves their weights.

On a CPU a step of training is bound by memory as much as by arithmetic: weights, gradients and Adam's moments
of two runs do not fit into the caches. In a series the gradient of a layer's weights is used as soon as it is
there, while the weights are still in the cache, and its memory serves the next layer.

Shapes: K runs of a stack, n images of a minibatch, D pixels, Z latent dimensions, C condition, P outputs of
the decoder, * the leading axes of a stack: none for one run, (K,) for K.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from vae_lab.models import VAE, Decoding, Float32Linear, Posterior, StackedLinear, keeps_float32


class DifferentiatedTwiceError(Exception):
    """A loss differentiates a gradient that it took through a series, which autograd alone can follow."""


class Optimizer(Protocol):
    """The part of an optimizer that a training loop calls."""

    def zero_grad(self) -> None:
        """Drops the last step's gradients."""

    def step(self) -> object:
        """Moves the weights."""


@contextmanager
def updated_in_backward(
    model: Decoding, optimizer: Optimizer, precision: str = "float32"
) -> Iterator[tuple[Decoding, Optimizer]]:
    """A model and its optimizer as a loop calls them in the block, where the model's own weights are stale.

    For the lab's VAE with ReLUs and a fused Adam or AdamW on a CPU these are a `SeriesVAE` and a count of its
    steps, and after the block weights and state are as if the optimizer had made the steps. Any other pair is
    given back as it is. Weights move in a backward pass between `zero_grad` and `step`; any other only gives
    gradients, as to a loss that is made of some.

    Args:
        model: One VAE, or one of `StackedLinear` layers.
        optimizer: One over its parameters.
        precision: `bfloat16` multiplies matrices in that format, but for layers that keep float32;
            weights and moments stay as they are.

    Raises:
        DifferentiatedTwiceError: In the block, where a gradient is to be differentiated again.
    """
    parts = _linear_layers(model)
    if parts is None or not _is_fused_adam(optimizer, parts):
        yield model, optimizer
        return
    adam = _Adam(cast("torch.optim.Adam", optimizer), torch.bfloat16 if precision == "bfloat16" else None)
    encoder, decoder = ([_Layer(joined, adam) for joined in part] for part in parts)
    try:
        yield SeriesVAE(encoder, decoder), adam
    finally:
        for layer in encoder + decoder:
            layer.give_back(adam)
        adam.finish()


Linear = nn.Linear | StackedLinear
Parts = tuple[list[list[Linear]], list[list[Linear]]]  # of encoder and decoder, each layers to be joined


def _linear_layers(model: object) -> Parts | None:
    """Returns the Linear layers of a VAE that consists of them and ReLUs; None for any other model."""
    if type(model) is not VAE:
        return None
    sequences = [*model.encoder], [*model.decoder]
    if any(type(module) is not nn.ReLU for modules in sequences for module in modules[1::2]):
        return None
    encoder, decoder = ([[cast("Linear", layer)] for layer in modules[::2]] for modules in sequences)
    parts: Parts = [*encoder, [model.mean, model.log_var]], [*decoder, [model.pixels]]
    linear = all(
        type(layer) in (nn.Linear, Float32Linear, StackedLinear) and layer.bias is not None
        for layer in itertools.chain(*parts[0], *parts[1])
    )
    return parts if linear else None


def _is_fused_adam(optimizer: object, parts: Parts) -> bool:
    """Returns whether it is a fused Adam or AdamW over these layers on a CPU, the same for all weights."""
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW):
        return False
    adam = cast("torch.optim.Adam", optimizer)
    group, *further = adam.param_groups
    layers = itertools.chain(*parts[0], *parts[1])
    weights = [id(parameter) for layer in layers for parameter in layer.parameters()]
    states = [adam.state.get(parameter, {}) for parameter in group["params"]]
    return (
        not further
        and sorted(weights) == sorted(id(parameter) for parameter in group["params"])  # each has one place
        and all(weight.device.type == "cpu" and weight.requires_grad for weight in group["params"])
        and all(isinstance(number, float | int) for number in (group["lr"], *group["betas"]))
        and bool(group["fused"])
        and not any(group[name] for name in ("amsgrad", "maximize", "differentiable"))
        and len({float(state.get("step", 0)) for state in states}) == 1
    )


class _Adam:
    """The steps of an optimizer that is taken over: its numbers, its count and memory for one gradient.

    Args:
        optimizer: A fused Adam or AdamW of one group.
        shorter: The format of matrix products; None for that of the weights.
    """

    def __init__(self, optimizer: torch.optim.Adam, shorter: torch.dtype | None) -> None:
        (group,) = optimizer.param_groups
        first = group["params"][0]
        self.optimizer, self.product_format = optimizer, shorter or first.dtype
        # Of the step that comes next: each layer is updated in the middle of it.
        self.count = optimizer.state.get(first, {}).get("step", torch.zeros(())).clone() + 1
        self.numbers = {
            "lr": group["lr"],
            "beta1": group["betas"][0],
            "beta2": group["betas"][1],
            "weight_decay": group["weight_decay"],
            "eps": group["eps"],
            "amsgrad": False,
            "maximize": False,
        }
        self.kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        # Room for a gradient of the largest layer, also as it comes from a product of another format.
        largest = 2 * max(weights.numel() for weights in group["params"])
        self.rooms = {
            dtype: torch.empty(largest, dtype=dtype) for dtype in {first.dtype, self.product_format}
        }
        self.moves_weights = False  # in the next backward pass

    def zero_grad(self) -> None:
        """Has the next backward pass move the weights; no gradient is left over from the last step."""
        self.moves_weights = True

    def step(self) -> None:
        """Counts a step; the weights have moved in the backward pass."""
        self.moves_weights = False
        self.count += 1

    def state(self, parameter: Tensor) -> dict[str, Tensor]:
        """Returns the optimizer's state of some weights, which is made if there is none."""
        state: dict[str, Tensor] = self.optimizer.state[parameter]
        if not state:
            state |= {
                "step": torch.zeros(()),
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }
        return state

    def finish(self) -> None:
        """Lets the optimizer make a step without gradients, as schedules warn of one that made none."""
        self.optimizer.zero_grad()
        self.optimizer.step()


class _Joined:
    """Weights of some layers of equal input as one tensor, with Adam's moments of them.

    Args:
        parameters: Joined along `axis`; a single one is used in its own memory.
        adam: Whose states of them are taken over.
        axis: That of the layers' outputs.
    """

    def __init__(self, parameters: list[Tensor], adam: _Adam, axis: int) -> None:
        self.parameters, self.axis = parameters, axis
        states = [adam.state(parameter) for parameter in parameters]
        self.own = [
            [parameter.detach() for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
        ]
        self.value, self.mean, self.square = (
            tensors[0] if len(tensors) == 1 else torch.cat(tensors, axis) for tensors in self.own
        )

    def give_back(self, adam: _Adam) -> None:
        """Writes values and moments to the parameters and the optimizer's states."""
        for tensors, joined in zip(self.own, (self.value, self.mean, self.square), strict=True):
            if len(tensors) > 1:
                sizes = [tensor.shape[self.axis] for tensor in tensors]
                for tensor, values in zip(tensors, torch.split(joined, sizes, self.axis), strict=True):
                    tensor.copy_(values)
        for parameter in self.parameters:
            adam.state(parameter)["step"].copy_(adam.count - 1)


class _Layer:
    """A Linear layer, or several of one input joined, that moves its weights when it has their gradient.

    Args:
        layers: Layers of one input.
        adam: How they move.
    """

    def __init__(self, layers: Sequence[Linear], adam: _Adam) -> None:
        self.joined = [
            _Joined([layer.weight for layer in layers], adam, axis=-2),
            _Joined([cast("Tensor", layer.bias) for layer in layers], adam, axis=-1),
        ]
        values = [joined.value for joined in self.joined]
        self.adam, self.values = adam, values
        own = values[0].dtype
        self.product_format = own if all(map(keeps_float32, layers)) else adam.product_format
        self.is_shorter = self.product_format != own
        # What products are made of: the weights themselves, or copies that follow them.
        self.factors = [value.to(self.product_format) for value in values]
        self.transposed = self.factors[0].mT
        self.means = [joined.mean for joined in self.joined]
        self.squares = [joined.square for joined in self.joined]
        self.counts = [adam.count, adam.count]
        count, shape = values[0].numel(), values[0].shape
        self.gradient = adam.rooms[own][:count].view(shape)
        self.product = adam.rooms[self.product_format][:count].view(shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Returns the output (*, n, out) for x (*, n, in), in the layer's format of products."""
        return _affine(x, self.transposed, self.factors[1])

    def move(self, x: Tensor, gradient: Tensor) -> None:
        """Moves the weights, given an input (*, n, in) and the gradient of its output (*, n, out)."""
        _product(gradient.mT, x, out=self.product)
        if self.is_shorter:
            self.gradient.copy_(self.product)
        gradients = [self.gradient, gradient.sum(-2, dtype=self.gradient.dtype)]
        self.adam.kernel(
            self.values, gradients, self.means, self.squares, [], self.counts, **self.adam.numbers
        )
        if self.is_shorter:
            for factor, value in zip(self.factors, self.values, strict=True):
                factor.copy_(value)

    def give_back(self, adam: _Adam) -> None:
        """Writes weights and state to where they were taken from."""
        for joined in self.joined:
            joined.give_back(adam)


class _Series(torch.autograd.Function):
    """Layers one after another, all but the last followed by a ReLU; the backward pass of a step moves them.

    Args of apply: x (*, n, in), a scalar that wants a gradient, by which autograd knows that there is a
    backward pass, and the layers. The output is in the format of x.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, layers: Sequence[_Layer]) -> Tensor:
        ctx.layers, ctx.format = layers, x.dtype
        ctx.inputs, hidden = [], x
        with torch.autocast(x.device.type, enabled=False):  # it would shorten what is to stay as it is
            for layer in layers:
                if ctx.inputs:
                    hidden = hidden.relu_()
                ctx.inputs.append(hidden.to(layer.product_format))
                hidden = layer(ctx.inputs[-1])
        return hidden.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise DifferentiatedTwiceError
        moves_weights = ctx.layers[0].adam.moves_weights
        for layer, x in zip(ctx.layers[:0:-1], ctx.inputs[:0:-1], strict=True):
            gradient = gradient.to(layer.product_format)
            of_input = _product(gradient, layer.factors[0])  # before the weights move
            if moves_weights:
                layer.move(x, gradient)
            gradient = _through_relu(of_input, x, 0, grad_input=of_input)
        first = ctx.layers[0]
        gradient = gradient.to(first.product_format)
        of_x = _product(gradient, first.factors[0]).to(ctx.format) if ctx.needs_input_grad[0] else None
        if moves_weights:
            first.move(ctx.inputs[0], gradient)
        return of_x, None, None


_through_relu = torch.ops.aten.threshold_backward.grad_input


class SeriesVAE:
    """A VAE as two series of layers whose weights move in the backward pass of a step, one a forward pass.

    Args:
        encoder: Layers to the heads, mean and log-variance joined.
        decoder: Layers to the pixels.
    """

    def __init__(self, encoder: Sequence[_Layer], decoder: Sequence[_Layer]) -> None:
        self.encoder, self.decoder = encoder, decoder
        self._anchor = torch.zeros((), requires_grad=True)

    def posterior(self, x: Tensor, c: Tensor) -> Posterior:
        """Returns q(z | x, c) for images x (*, n, D) and conditions c (*, n, C)."""
        heads = self._through(self.encoder, x, c)
        return Posterior(*heads.chunk(2, dim=-1))

    def logits(self, z: Tensor, c: Tensor) -> Tensor:
        """Returns the pixel logits (*, n, P) of latent vectors z (*, n, Z) and conditions c (*, n, C)."""
        return self._through(self.decoder, z, c)

    def __call__(self, x: Tensor, c: Tensor, noise: Tensor) -> tuple[Tensor, Posterior]:
        """Returns pixel logits (*, n, P) and the posterior of x, for standard normal `noise` (*, n, Z)."""
        posterior = self.posterior(x, c)
        return self.logits(posterior.sample(noise), c), posterior

    def _through(self, layers: Sequence[_Layer], x: Tensor, c: Tensor) -> Tensor:
        conditioned = torch.cat([x, c], dim=-1) if c.shape[-1] else x
        return cast("Tensor", _Series.apply(conditioned, self._anchor, layers))


def _affine(x: Tensor, transposed: Tensor, bias: Tensor) -> Tensor:
    """Returns x (*, n, in) times the transposed weights (*, in, out), plus the bias (*, out)."""
    if x.ndim == 2:
        return torch.addmm(bias, x, transposed)
    return torch.baddbmm(bias.unsqueeze(-2), x, transposed)


def _product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    return torch.mm(a, b, out=out) if a.ndim == 2 else torch.bmm(a, b, out=out)
