"""A function of a model as a list of operations that the page knows, traced by torch.export.

What is traced is what the module does, whatever its class is called: the page knows operations, not models.
Values are flat, row after row, without the batch axis, of size 1; what only changes a shape is no operation.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from vae_lab.errors import LabError, quoted
from vae_lab.trained.explorer.steps import computed

if TYPE_CHECKING:
    from torch.export import ExportedProgram

Options = dict[str, Any]

# Operations of the page, by torch's name, with the arguments that are its options (`templates/network.js`).
OF_ONE = {
    "relu": (),
    "leaky_relu": ("negative_slope",),
    "elu": ("alpha", "scale", "input_scale"),
    "gelu": ("approximate",),
    "silu": (),
    "tanh": (),
    "softplus": ("beta", "threshold"),
    "sigmoid": (),
    "abs": (),
    "neg": (),
    "exp": (),
    "expm1": (),
    "log1p": (),
    "reciprocal": (),
    "ones_like": (),
}
OF_TWO = ("add", "sub", "mul", "div", "lt")
CONVOLUTIONS = ("conv2d", "conv_transpose2d")
PARTS = ("chunk", "split", "split_with_sizes")  # each part is a slice
# Of what they are given they change the shape, or nothing at all where the model is not trained.
SAME_NUMBERS = (
    *("view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "contiguous", "clone", "detach"),
    *("dropout", "feature_dropout"),
)


TOLERANCE = 1e-3  # of 1, or of the value where that is larger, by which the steps' answers may differ
OWN = "module."  # before the names of a module's weights, in the module that is traced


class UnknownOperationError(LabError):
    """A model does what the page cannot."""


class Graph(NamedTuple):
    """A traced function: the sizes of its inputs, its operations in order, the names of its outputs.

    Weights have their names in the module, which two functions of it share. Every other name begins with a
    dot, as no weight's does; that of a constant goes on with the function's.
    """

    inputs: dict[str, int]
    steps: list[dict[str, Any]]
    outputs: list[str]
    tensors: dict[str, Tensor]  # the weights that it uses, and constants

    def described(self) -> dict[str, Any]:
        """Returns what the page reads of it; its tensors are packed by themselves."""
        return {"inputs": self.inputs, "steps": self.steps, "outputs": self.outputs}


class _Function(nn.Module):
    """A function of a module's as the forward pass of another, which is what torch.export takes."""

    def __init__(self, module: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.module = module
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def traced(module: nn.Module, name: str, function: Callable[..., Any], *inputs: Tensor) -> Graph:
    """Returns the operations of a function that uses a module.

    Args:
        module: The module, in evaluation mode.
        name: Of the function; two of one module have two, since each has constants of its own.
        function: Takes the inputs in their order, returns a tensor or several.
        inputs: An example of each input, (1, size).

    Raises:
        UnknownOperationError: It does something that the page does not know, or cannot be traced.

    Examples:
        >>> layer = nn.Linear(3, 2)
        >>> graph = traced(layer, "positive", lambda x: layer(x).relu(), torch.zeros(1, 3))
        >>> [(step["op"], step["size"]) for step in graph.steps], sorted(graph.tensors)
        ([('linear', 2), ('relu', 2)], ['bias', 'weight'])
    """
    try:
        program = torch.export.export(_Function(module, function), inputs, strict=False)
    except Exception as error:  # a class of others may do anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnknownOperationError(f"PyTorch cannot trace it: {quoted(reason)}") from error
    names, tensors = _tensors(program, name)
    reader = _Reader(names)
    for node in program.graph.nodes:
        if node.op == "call_function":
            reader.read(node)
    outputs = [reader.name(node) for node in program.graph.output_node().args[0]]
    used = {operand for step in reader.steps for operand in step["of"] if operand in tensors}
    nodes = program.graph_signature.user_inputs
    sizes = {f".{node}": x.numel() for node, x in zip(nodes, inputs, strict=True)}
    tensors_used = {own: tensors[own].detach().cpu() for own in sorted(used)}
    graph = Graph(sizes, reader.steps, outputs, tensors_used)
    check_answers(graph, function, *inputs)
    return graph


def _tensors(program: ExportedProgram, function: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Returns the names of a program's weights and constants, by node, and the tensors by these names."""
    signature = program.graph_signature
    weights = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    constants = signature.inputs_to_lifted_tensor_constants
    names = {node: own.removeprefix(OWN) for node, own in weights.items()}
    names |= {node: f".{function}.{own}" for node, own in constants.items()}
    values = {**program.state_dict, **program.constants}  # among these buffers that no checkpoint keeps
    return names, {names[node]: values[own] for node, own in {**weights, **constants}.items()}


@torch.no_grad()
def check_answers(graph: Graph, function: Callable[..., Any], *inputs: Tensor) -> None:
    """Checks that the steps come to what the function does, for inputs of either sign.

    Raises:
        UnknownOperationError: They do not: it writes through a view, say, which no step says.
    """
    generator = torch.Generator().manual_seed(0)
    for _ in range(2):
        tried = [torch.randn(one.shape, generator=generator) for one in inputs]
        answer = function(*(x.to(one) for x, one in zip(tried, inputs, strict=True)))
        expected = [answer] if isinstance(answer, Tensor) else [*answer]
        values = graph.tensors | dict(zip(graph.inputs, tried, strict=True))
        answers = computed(graph.steps, graph.outputs, values)
        for own, value in zip(answers, expected, strict=True):
            right = value.detach().cpu().float().flatten()
            if not torch.allclose(own, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
                raise UnknownOperationError("the page's operations do not come to what it computes")


class _Reader:
    """Reads a traced graph node by node."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = dict(names)  # of values, by those of torch's nodes
        self.steps: list[dict[str, Any]] = []
        self.parts: dict[Any, tuple[fx.Node, int]] = {}  # what was cut into parts, and along which axis

    def name(self, node: fx.Node) -> str:
        """Returns the name of a value."""
        return self.names.get(node.name, f".{node.name}")

    def read(self, node: fx.Node) -> None:
        """Adds the operation of a node, if it is one.

        Raises:
            UnknownOperationError: The page does not know it.
        """
        if node.target is operator.getitem and (whole := node.args[0]) in self.parts:
            self._add_part(node, *self.parts[whole])
            return
        operation = str(node.target).split(".")[1 if str(node.target).startswith("aten.") else 0].rstrip("_")
        given = _arguments(node)
        if operation in SAME_NUMBERS and not given.get("train"):
            self.names[node.name] = self.name(node.args[0])  # type: ignore[arg-type]
        elif operation in OF_ONE:
            self._add(node, operation, [given["self"]], {key: given[key] for key in OF_ONE[operation]})
        elif operation in OF_TWO and given.get("alpha", 1) == 1 and given.get("rounding_mode") is None:
            self._add(node, operation, _alike(node, [given["self"], given["other"]]), {})
        elif operation == "where" and "condition" in given and "other" in given:
            self._add(node, operation, _alike(node, [given["condition"], given["self"], given["other"]]), {})
        elif operation == "linear" and given["bias"] is not None:
            self._add(node, operation, [given["input"], given["weight"], given["bias"]], {})
        elif operation in CONVOLUTIONS and given["bias"] is not None:
            operands = [given[key] for key in ("input", "weight", "bias")]
            self._add(node, operation, operands, _convolution(given, node))
        elif operation == "cat" and _is_outermost(given["tensors"][0], given["dim"]):
            self._add(node, operation, given["tensors"], {})
        elif operation == "slice" and given["step"] == 1 and _is_outermost(given["self"], given["dim"]):
            self._add_slice(node, given["self"], given["dim"], given["start"] or 0)
        elif operation in PARTS and _is_outermost(given["self"], given["dim"]):
            self.parts[node] = given["self"], given["dim"]
        elif operation == "expand" and (times := _repeats(given["self"], node)):
            self._add(node, "repeat", [given["self"]], {"times": times})
        else:
            raise UnknownOperationError(f"the page does not know its operation {quoted(node.target)}")

    def _add_slice(self, node: fx.Node, whole: fx.Node, axis: int, start: int) -> None:
        """Adds what lies along the outermost axis from `start` on, from the end if it is negative."""
        shape = _shape(whole)
        length, inner = shape[axis % len(shape)], math.prod(shape[axis % len(shape) + 1 :])
        first = min(start, length) if start >= 0 else max(start + length, 0)
        self._add(node, "slice", [whole], {"start": inner * first})

    def _add_part(self, node: fx.Node, whole: fx.Node, axis: int) -> None:
        """Adds one of the parts that a value was cut into."""
        cut, number = node.args
        sides = [part.shape[axis] for part in cut.meta["val"]]  # type: ignore[union-attr]
        self._add_slice(node, whole, axis, sum(sides[: range(len(sides))[number]]))  # type: ignore[index]

    def _add(self, node: fx.Node, operation: str, operands: Sequence[Any], options: Options) -> None:
        names = [self.name(operand) if isinstance(operand, fx.Node) else operand for operand in operands]
        size = math.prod(_shape(node))
        self.steps.append({"op": operation, "of": names, "to": self.name(node), "size": size, **options})


def _arguments(node: fx.Node) -> Options:
    """Returns the arguments of a call by their names, with the defaults of those that were left out."""
    expected = node.target._schema.arguments  # type: ignore[union-attr]
    defaults = {one.name: one.default_value for one in expected if one.has_default_value()}
    given = {one.name: value for one, value in zip(expected, node.args, strict=False)}
    return {**defaults, **given, **node.kwargs}


def _alike(node: fx.Node, operands: list[Any]) -> list[Any]:
    """Returns the operands, if they are numbers, or as many as the result has."""
    sizes = {math.prod(_shape(operand)) for operand in operands if isinstance(operand, fx.Node)}
    if not sizes <= {1, math.prod(_shape(node))}:
        raise UnknownOperationError(f"the page does not broadcast shapes in {quoted(node.target)}")
    return operands


def _shape(node: fx.Node) -> list[int]:
    """Returns the shape of a value as numbers, which they are since the inputs' shapes are fixed."""
    return [int(side) for side in node.meta["val"].shape]


def _is_outermost(node: fx.Node, axis: int) -> bool:
    """Whether only axes of size 1 come before an axis, so that parts along it lie one after the other."""
    shape = _shape(node)
    return math.prod(shape[: axis % len(shape)]) == 1


def _repeats(node: fx.Node, expanded: fx.Node) -> int:
    """Returns how often every number is repeated in a row; 0 where whole rows are repeated."""
    before, after = _shape(node), _shape(expanded)
    before = [1] * (len(after) - len(before)) + before
    kept = max((place for place, side in enumerate(before) if side > 1), default=-1)
    return math.prod(after[kept + 1 :]) if before[: kept + 1] == after[: kept + 1] else 0


def _convolution(given: Mapping[str, Any], node: fx.Node) -> Options:
    if isinstance(given["padding"], str):
        raise UnknownOperationError(f"the page needs numbers for padding={quoted(given['padding'])}")
    both = {key: _pair(given[key]) for key in ("stride", "padding", "dilation")}
    shapes = {"taken": _shape(given["input"])[-3:], "given": _shape(node)[-3:]}
    return {**shapes, "filter": _shape(given["weight"])[-2:], **both, "groups": given["groups"]}


def _pair(numbers: Sequence[int] | int) -> list[int]:
    values = [numbers] if isinstance(numbers, int) else list(numbers)
    return values * 2 if len(values) == 1 else values
