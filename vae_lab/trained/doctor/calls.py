"""How the parts of a torch module are called: with labels or without, by the names of public code.

Shapes: N images, D pixels of an image over all channels, Z latent dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from vae_lab.errors import UserError, quoted
from vae_lab.models import Posterior
from vae_lab.trained.doctor.findings import reason_of
from vae_lab.trained.doctor.overheard import overhearing
from vae_lab.trained.doctor.subject import in_mode

Call = Callable[..., Any]
End = Callable[[Tensor], Tensor]
TRIED = 16  # images
RECONSTRUCTION = ("reconstruction", "recon", "recon_x", "recons", "x_recon", "x_hat", "logits", "output")
MEAN = ("mean", "mu", "loc", "z_mean", "embedding")
DECODERS = ("decode", "decoder")
NEARER = 4.0  # times, as a squared distance, by which a sigmoid must explain images better
SPREAD = ("log_var", "logvar", "log_variance", "log_covariance", "z_log_var")


class Calls:
    """The calls of one module, once `settle` has found which of them work.

    Args:
        module: The module.
        to_log_var: What makes log-variances of the encoder's second output.
        encode: How its encoder is called, if not by its name.
        decode: The same of its decoder.
        forward: The same of its forward pass.
    """

    def __init__(
        self,
        module: nn.Module,
        to_log_var: Callable[[Tensor], Tensor],
        encode: Call | None = None,
        decode: Call | None = None,
        forward: Call | None = None,
    ) -> None:
        self.module, self.to_log_var = module, to_log_var
        self.encode, self.decode, self.forward = encode, decode, forward or module
        self.size = 0  # D
        self.undecoded = ""  # why no decoder works, where there is one
        self.end: End = _unchanged_output  # what the forward pass does to what the decoder gives
        # The places of mean and spread, by a function's name and how many tensors of their shape it gives.
        self.places: dict[tuple[str, int], tuple[int, int] | None] = {}

    def settle(self, images: Tensor, labels: Tensor | None) -> Tensor:
        """Tries the calls; returns the images in the form that the module takes.

        Raises:
            UserError: The module takes the images in no form, or gives no posterior, or `decode` fails.
        """
        self.size = images.flatten(1).shape[1]
        encoders = [self.encode] if self.encode else [getattr(self.module, "encode", None), None]
        some = None if labels is None else labels[:TRIED]
        reasons = []
        for form in [images] if images.ndim == 2 else [images, images.flatten(1)]:
            for encoder in encoders:
                self.encode = encoder
                try:
                    self._try(form[:TRIED], some)
                    return form
                except UserError:
                    raise
                except Exception as error:  # a module of anybody's raises what it likes
                    reasons.append(f"{tuple(form.shape)}: {reason_of(error)}")
        takes = "lambda x" if labels is None else "lambda x, labels"
        raise UserError(
            f"{type(self.module).__name__}: gives no posterior for images of shape "
            f"{quoted('; of shape '.join(dict.fromkeys(reasons)), 400)}. Say how it is called: "
            f"encode={takes}: (mean, log_var), or forward={takes}: (reconstruction, mean, log_var)."
        )

    @torch.no_grad()
    def _try(self, x: Tensor, labels: Tensor | None) -> None:
        mean = self.encoded(x, labels).mean
        with suppress(Exception):  # it is asked again by the checks that need it, and may say why it fails
            self.passed(x, labels)
        if self.decode:
            if reason := self._failing(mean, labels):
                raise UserError(f"decode: {quoted(reason, 400)}")
            return
        self.undecoded = ""
        for name in DECODERS:
            self.decode, self.end = getattr(self.module, name, None), _unchanged_output
            if self.decode is None:
                continue
            reason = self._failing(mean, labels)
            if not reason and (end := self._end(name, mean, x, labels)) is not None:
                self.end, self.undecoded = end, ""
                return
            self.undecoded = self.undecoded or reason or _other_than_forward(name, labels)
        self.decode = None

    def _failing(self, z: Tensor, labels: Tensor | None) -> str:
        """Returns why the decoder fails; empty if it works."""
        try:
            self.decoded(z, labels)
        except Exception as error:  # a module of anybody's raises what it likes
            return f"fails for {len(z)} z: {reason_of(error)}"
        return ""

    def _end(self, name: str, mean: Tensor, x: Tensor, labels: Tensor | None) -> End | None:
        """Returns what the forward pass does to what a part gives, nothing or a sigmoid; None for another."""
        outputs: list[Tensor] = []

        def hear(result: Any) -> None:
            if (output := self._image(result, len(x))) is not None:
                outputs.append(output.flatten(1).clone())  # as it may be changed in place

        try:
            with overhearing(self.module, name, hear):
                images = self.passed(x, labels)[0].flatten(1)
        except Exception:  # there is no forward pass to compare with
            return _unchanged_output
        if outputs:
            ends = [end for end in ENDS if any(_alike(end(output), images) for output in outputs)]
            return next(iter(ends), None)
        # The forward pass goes another way, as layer by layer: what is decoded of the mean lies nearest.
        decoded = self.decoded(mean, labels).flatten(1)
        same, squashed = (float((end(decoded) - images).square().mean()) for end in ENDS)
        return torch.sigmoid if squashed < same / NEARER else _unchanged_output

    def encoded(self, x: Tensor, labels: Tensor | None) -> Posterior:
        """Returns the posterior, by the encoder if there is one, else by the forward pass."""
        if self.encode is None:
            return self.passed(x, labels)[1]
        posterior = self._posterior("encode", _called(self.encode, x, labels), x, labels)
        if posterior is None:
            raise TypeError("encode gives no (mean, log_var) of one shape (N, Z)")
        return posterior

    def decoded(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Returns what the decoder gives."""
        assert self.decode is not None
        image = self._image(_called(self.decode, z, labels), len(z))
        if image is None:
            raise TypeError(f"decode gives no images of {self.size} pixels")
        return self.end(image)

    def passed(self, x: Tensor, labels: Tensor | None) -> tuple[Tensor, Posterior]:
        """Returns what the decoder gives for a draw of the module's own, and the posterior."""
        result = _called(self.forward, x, labels)
        image = self._image(result, len(x), other_than=x)
        posterior = self._posterior("forward", result, x, labels)
        if posterior is None and self.encode is not None:
            posterior = self.encoded(x, labels)
        if image is None or posterior is None:
            shapes = ", ".join(str(tuple(part.shape)) for _, part in _tensors(result))
            raise TypeError(
                f"forward gives {shapes or type(result).__name__}, no (reconstruction, mean, log_var)"
            )
        return image, posterior

    def _image(self, result: Any, count: int, other_than: Tensor | None = None) -> Tensor | None:
        fit = [
            (name, part)
            for name, part in _tensors(result)
            if part is not other_than and len(part) == count and part.numel() == count * self.size
        ]
        named = [part for name, part in fit if name in RECONSTRUCTION]
        return next(iter(named or [part for _, part in fit]), None)

    def _posterior(self, function: str, result: Any, x: Tensor, labels: Tensor | None) -> Posterior | None:
        by_name = {name: part for name, part in _tensors(result) if part.ndim == 2 and len(part) == len(x)}
        mean = next((by_name[name] for name in MEAN if name in by_name), None)
        spread = next((by_name[name] for name in SPREAD if name in by_name), None)
        if mean is None or spread is None:
            latents = self._latents(result, x)
            if len(latents) < 2:
                return None
            key = function, len(latents)
            if key not in self.places:
                self.places[key] = self._told_apart(function, latents, x, labels)
            places = self.places[key]
            if places is None and (function == "encode" or self.encode is None):
                raise TypeError(
                    f"{function} gives {len(latents)} tensors of shape {tuple(latents[0].shape)}; which are "
                    "mean and log_var, and which is a draw of z, cannot be told"
                )
            if places is None:
                return None
            mean, spread = (latents[place] for place in places)
        return Posterior(mean, self.to_log_var(spread))

    def _latents(self, result: Any, x: Tensor) -> list[Tensor]:
        """Returns what a module gives of the shape (N, Z): as many numbers an image, and no pixels."""
        parts = [
            part
            for name, part in _tensors(result)
            if part.ndim == 2 and len(part) == len(x) and name not in RECONSTRUCTION
        ]
        latents = [part for part in parts if part.shape[1] != self.size]
        return [part for part in latents if part.shape == latents[0].shape]

    def _told_apart(
        self, function: str, latents: list[Tensor], x: Tensor, labels: Tensor | None
    ) -> tuple[int, int] | None:
        """Returns which of some tensors are mean and spread; None where that cannot be told.

        A draw of z is neither: it changes from call to call, if not in evaluation mode then in training mode.
        """
        call = self.forward if function == "forward" or self.encode is None else self.encode

        def again() -> list[Tensor]:
            return self._latents(_called(call, x, labels), x)

        steady = _unchanged(latents, again())
        if len(steady) == len(latents) > 2:
            with in_mode(self.module, training=True):
                steady = _unchanged(again(), again())
        if not steady and len(latents) == 2:  # all of it is noisy, as with dropout
            steady = [0, 1]
        return (steady[0], steady[1]) if len(steady) == 2 else None


def _unchanged_output(output: Tensor) -> Tensor:
    return output


ENDS: tuple[End, ...] = (_unchanged_output, torch.sigmoid)


def _alike(one: Tensor, other: Tensor) -> bool:
    """Returns whether two tensors are the same but for rounding."""
    tolerance = 1e-5 if one.dtype.itemsize >= 4 else 1e-2  # bfloat16 has eight bits
    return torch.allclose(one.float(), other.float(), rtol=tolerance, atol=tolerance, equal_nan=True)


def _other_than_forward(name: str, labels: Tensor | None) -> str:
    takes = "lambda z" if labels is None else "lambda z, labels"
    return (
        f"{name} gives other numbers than the forward pass makes of them, which are not their sigmoid; say "
        f"how z is decoded: decode={takes}: images"
    )


def _called(function: Call, first: Tensor, labels: Tensor | None) -> Any:
    """Returns what a function makes of one tensor and of labels, if it takes them."""
    if labels is None:
        return function(first)
    try:
        return function(first, labels)
    except TypeError:  # takes no labels
        return function(first)


def _unchanged(once: list[Tensor], again: list[Tensor]) -> list[int]:
    """Returns the places of the tensors that two calls give alike, but for rounding."""
    pairs = zip(once, again, strict=True)
    return [place for place, pair in enumerate(pairs) if torch.allclose(*pair, rtol=1e-5, equal_nan=True)]


def _tensors(result: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors in what a module returns, with the names that they have there."""
    if isinstance(result, Tensor):
        if result.ndim:
            yield name, result
    elif isinstance(result, Mapping):
        for key, part in result.items():
            yield from _tensors(part, str(key))
    elif hasattr(result, "_asdict"):
        yield from _tensors(result._asdict())
    elif isinstance(result, tuple | list):
        for part in result:
            yield from _tensors(part)
