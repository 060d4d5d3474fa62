"""A trained model as ONNX graphs, `decode` and `encode`, whose answers are held against PyTorch's.

Shapes: N images, as many as are asked for; Z latent dimensions; D pixels of an image over all channels;
C classes of a CVAE, 0 of a VAE.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from google.protobuf.message import Message
from torch import Tensor, nn

from vae_lab.errors import LabError, UserError
from vae_lab.models import VAE
from vae_lab.objectives import Likelihood

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from numpy.typing import NDArray

PACKAGES = ("onnx", "onnxruntime", "onnxscript")  # of the extra `onnx`
TOLERANCE = 1e-4  # by which an answer may differ from PyTorch's: of 1, or of the value where that is larger
BATCHES = (1, 7)  # images at once, for the comparison


class Graph(NamedTuple):
    """A function of a trained model as an ONNX graph."""

    function: str  # its name: decode or encode
    model: onnx.ModelProto
    example: dict[str, NDArray[Any]]  # inputs of one image
    difference: float  # the largest between its answers and PyTorch's, as in TOLERANCE

    @property
    def call(self) -> str:
        """How it is called: `decode(z, label) -> images`."""
        inputs, outputs = (", ".join(side) for side in (self.inputs, self.outputs))
        return f"{self.function}({inputs}) -> {outputs}"

    @property
    def inputs(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """By name, the type and the shape of each input; a size of -1 is free."""
        return _tensors(self.model.graph.input)

    @property
    def outputs(self) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
        """The same of each output."""
        return _tensors(self.model.graph.output)


def _tensors(values: Sequence[Any]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    from onnx import helper

    tensors = {}
    for value in values:
        tensor = value.type.tensor_type
        shape = tuple([-1 if size.dim_param else int(size.dim_value) for size in tensor.shape.dim])
        tensors[str(value.name)] = (helper.tensor_dtype_to_np_dtype(tensor.elem_type), shape)
    return tensors


class _Condition(nn.Module):
    """The condition of a CVAE from labels (N,), by a table whose rows are the classes."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.table: Tensor
        self.register_buffer("table", torch.eye(classes))

    def forward(self, like: Tensor, label: Tensor | None) -> Tensor:
        """Returns conditions (N, C); of a VAE (N, 0), for as many images as `like` has."""
        if label is None:
            return like.new_zeros(like.shape[0], 0)
        # A label of no class lies beyond the table and is refused; ONNX counts negative ones from its end.
        return nn.functional.embedding(torch.where(label < 0, self.classes, label), self.table)


class Decode(nn.Module):
    """`decode(z, label)`, without `label` for a VAE: latent vectors (N, Z) and labels (N,) as images."""

    outputs = ("images",)

    def __init__(self, model: VAE, likelihood: Likelihood, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.model, self.likelihood, self.shape = model, likelihood, shape
        self.condition = _Condition(model.condition_size)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Returns the expected images (N, channels, height, width), in [0, 1]."""
        logits = self.model.logits(z, self.condition(z, label))
        # ONNX has no expm1; in float32 its exp(l) - 1 costs the continuous Bernoulli's mean 3e-4 around zero.
        images: Tensor = torch.unflatten(self.likelihood.mean(logits.double()).float(), -1, self.shape)
        return images


class Encode(nn.Module):
    """`encode(x, label)`, without `label` for a VAE: images (N, channels, height, width) as posteriors."""

    outputs = ("mean", "log_var")

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.model = model
        self.condition = _Condition(model.condition_size)

    def forward(self, x: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Returns mean and log-variance (N, Z) of q(z | x, label)."""
        posterior = self.model.posterior(x.flatten(1), self.condition(x, label))
        return posterior.mean, posterior.log_var


def check_packages() -> None:
    """Checks that what the extra `onnx` installs is there.

    Raises:
        UserError: It is not.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise UserError(
            f"a model is given away as ONNX, which needs {', '.join(missing)}. Install the extra `onnx`: "
            f"pip install {' '.join(PACKAGES)}"
        )


def graphs_of(model: VAE, likelihood: Likelihood, shape: tuple[int, int, int]) -> list[Graph]:
    """Returns `decode` and `encode` of a trained model.

    Args:
        model: The trained model.
        likelihood: What makes expected images of its logits.
        shape: Channels, height and width of an image.

    Raises:
        UserError: The packages of the extra `onnx` are not installed.
        LabError: The model does what ONNX cannot say, or its graph answers otherwise than PyTorch.

    Examples:
        >>> from vae_lab.objectives import likelihood
        >>> cvae = VAE(64, condition_size=10, latent_size=3, layers=1, hidden_size=8)
        >>> decode, encode = graphs_of(cvae, likelihood("bernoulli"), (1, 8, 8))
        >>> decode.call, encode.call
        ('decode(z, label) -> images', 'encode(x, label) -> mean, log_var')
        >>> decode.inputs["z"][1], decode.outputs["images"][1]
        ((-1, 3), (-1, 1, 8, 8))
    """
    check_packages()
    model, likelihood = copy.deepcopy((model, likelihood))  # at once: one with weights is a part of the model
    model.cpu().eval()
    if isinstance(likelihood, nn.Module):
        likelihood.cpu().eval().double()
    most = max(BATCHES)
    z = torch.randn(most, model.latent_size, generator=torch.Generator().manual_seed(0))
    label = {"label": torch.arange(most) % model.condition_size} if model.condition_size else {}
    decode, encode = Decode(model, likelihood, shape).eval(), Encode(model).eval()
    with _one_message("decode"), torch.inference_mode():
        images = decode(z, **label).clone()  # what the encoder has learned to read, unlike noise
    return [_graph(decode, {"z": z, **label}), _graph(encode, {"x": images, **label})]


def _graph(function: Decode | Encode, inputs: Mapping[str, Tensor]) -> Graph:
    """Returns the graph of a function of these inputs, which are those of several images."""
    name = type(function).__name__.lower()
    with _one_message(name):
        model = _exported(function, inputs)
        difference = _difference(function, model, inputs)
    if not difference <= TOLERANCE:
        raise LabError(
            f"{name}: the ONNX graph's answers differ from PyTorch's by {difference:.1e}; at most "
            f"{TOLERANCE:.0e} is allowed. Nothing has been given away."
        )
    return Graph(name, model, {key: value[:1].numpy() for key, value in inputs.items()}, difference)


def _exported(function: Decode | Encode, inputs: Mapping[str, Tensor]) -> onnx.ModelProto:
    import onnx

    rows = {0: torch.export.Dim("N")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names of axes; what counts is compared afterwards
        program = torch.onnx.export(
            function,
            tuple(value.clone() for value in inputs.values()),  # no inference tensors
            dynamo=True,
            verbose=False,
            input_names=[*inputs],
            output_names=function.outputs,
            dynamic_shapes=(rows,) * len(inputs),
        )
    assert program is not None
    model = program.model_proto  # made anew whenever it is asked for
    forget_source(model)
    onnx.checker.check_model(model)
    return model


@contextmanager
def _one_message(name: str) -> Iterator[None]:
    """Says in one line what a model of the user's own, or its likelihood, does that no graph can say."""
    try:
        yield
    except Exception as error:  # it may do anything
        reason = next(iter(str(error.__cause__ or error).splitlines()), "") or type(error).__name__
        raise LabError(f"{name}: the model cannot be written as an ONNX graph: {reason}") from error


def forget_source(message: Message) -> None:
    """Takes the exporter's notes out of a graph: the files and lines that it came from, on this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in [value] if isinstance(value, Message) else value:
                forget_source(part)


def _difference(function: Decode | Encode, model: onnx.ModelProto, inputs: Mapping[str, Tensor]) -> float:
    """Returns the largest difference between the answers of PyTorch and of ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    differences = []
    for count in BATCHES:
        some = {name: value[:count] for name, value in inputs.items()}
        with torch.inference_mode():
            expected = function(**some)
        answers = session.run(None, {name: value.numpy() for name, value in some.items()})
        wanted = [expected] if isinstance(expected, Tensor) else expected
        for answer, value in zip(answers, wanted, strict=True):
            errors = (torch.from_numpy(answer) - value).abs() / value.abs().clamp(min=1)
            differences.append(errors.max())
    return float(torch.stack(differences).max())
