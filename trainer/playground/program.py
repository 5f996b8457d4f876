"""A generator as a short list of tensor operators, which a few hundred lines of JavaScript can run.

`torch.export` traces G, whatever its family and options, to core ATen operators. What does not depend on the inputs
(transposed weights, scaled filters) is computed here, once. The rest is a `Program`: constants and steps.
"""

from __future__ import annotations

import copy
import operator
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.fx import Node

INPUTS = ("z", "label", "known")
GETITEM = "getitem"  # one result of an operator with several
# These check or copy, and change no number.
_NEUTRAL = ("aten._assert_tensor_metadata.default", "aten._assert_async.msg", "aten.sym_constrain_range.default")


@dataclass(frozen=True)
class Value:
    """A tensor by its number: the inputs, then the constants, then the results of the steps."""

    number: int


class Step(NamedTuple):
    """One operator; its arguments are Values, what Python has for numbers, lists and None, and torch's dtypes."""

    target: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """The operator's name, such as "aten.add.Tensor"."""
        return GETITEM if self.target is operator.getitem else str(self.target)


@dataclass(frozen=True)
class Program:
    """G for one image, (z (1, noise), label (1, L), known (1, A)) -> (1, C, H, W), as operators.

    Attributes:
        constants: float32 or int64 tensors.
        steps: in order; step i computes value number len(INPUTS) + len(constants) + i.
        result: the image.
    """

    constants: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    result: Value

    @property
    def operators(self) -> set[str]:
        """The names of the operators."""
        return {step.name for step in self.steps}

    def run(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Run the program in torch, one image at a time as the page does: rows in, (n, C, H, W) out."""
        return torch.cat([self._run_one(*rows) for rows in zip(*(t.split(1) for t in (z, label, known)), strict=True)])

    def _run_one(self, *inputs: Tensor) -> Tensor:
        values: list[Any] = [*inputs, *self.constants]
        for step in self.steps:
            arguments, options = replaced(step.arguments, Value, lambda value: values[value.number]), step.options
            values.append(step.target(*arguments, **options))
        return values[self.result.number]

    def rounded(self, dtype: torch.dtype) -> Program:
        """Return the program with constants that have been stored as ``dtype``."""
        constants = [c.to(dtype).to(c.dtype) if c.is_floating_point() else c for c in self.constants]
        return replace(self, constants=tuple(constants))


@torch.no_grad()
def trace(generator: nn.Module, noise_size: int, widths: tuple[int, ...]) -> Program:
    """Trace a generator to a program.

    Args:
        generator: in eval mode and float32, on any device; it is left as it is.
        noise_size: length of z.
        widths: entries of each label attribute.
    """
    generator = copy.deepcopy(generator).cpu().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    example = (torch.zeros(1, noise_size), torch.zeros(1, sum(widths)), torch.ones(1, len(widths)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = torch.export.export(generator, example, strict=False).run_decompositions()
    given = {**exported.state_dict, **exported.constants}
    known: dict[str, Any] = {}
    signature = exported.graph_signature
    for kind in (
        signature.inputs_to_parameters,
        signature.inputs_to_buffers,
        signature.inputs_to_lifted_tensor_constants,
    ):
        known |= {node: given[name] for node, name in kind.items()}
    return _Tracer(known, list(signature.user_inputs)).program(list(exported.graph.nodes))


class _Tracer:
    """Splits a graph into what is a constant, computed at once, and what depends on the inputs."""

    def __init__(self, constants: dict[str, Any], inputs: list[Any]) -> None:
        self.constants = constants
        self.inputs = inputs
        self.dynamic: list[Node] = []

    def program(self, nodes: list[Node]) -> Program:
        output = next(node for node in nodes if node.op == "output")
        for node in nodes:
            if node.op == "call_function" and str(node.target) not in _NEUTRAL:
                self._visit(node)
        result = cast(Node, cast(Any, output.args[0])[0])
        live = self._live(result)
        steps = [node for node in self.dynamic if node in live]
        used = [node.name for node in nodes if node in live and node.name in self.constants]
        names = [*self.inputs, *used, *(node.name for node in steps)]
        place = {name: Value(number) for number, name in enumerate(names)}
        return Program(
            tuple(_plain(self.constants[name]) for name in used),
            tuple(_step(node, lambda source: place[source.name]) for node in steps),
            place[result.name],
        )

    def _visit(self, node: Node) -> None:
        if all(source.name in self.constants for source in node.all_input_nodes):
            arguments, options = (
                replaced(part, Node, lambda source: self.constants[source.name]) for part in (node.args, node.kwargs)
            )
            self.constants[node.name] = cast(Any, node.target)(*arguments, **options)
        else:
            self.dynamic.append(node)

    def _live(self, result: Node) -> set[Node]:
        """Return the nodes that the image depends on; what is before a constant is not needed."""
        live, waiting = set(), [result]
        while waiting:
            node = waiting.pop()
            if node not in live:
                live.add(node)
                waiting += [] if node.name in self.constants else node.all_input_nodes
        return live


def _step(node: Node, number: Callable[[Node], Value]) -> Step:
    arguments, options = (replaced(part, Node, number) for part in (node.args, node.kwargs))
    return Step(cast(Callable[..., Any], node.target), tuple(arguments), options)


def replaced(part: Any, kind: type, by: Callable[[Any], Any]) -> Any:
    """Return nested lists, tuples and dictionaries with every instance of ``kind`` replaced."""
    if isinstance(part, kind):
        return by(part)
    if isinstance(part, dict):
        return {key: replaced(value, kind, by) for key, value in part.items()}
    return [replaced(p, kind, by) for p in part] if isinstance(part, list | tuple) else part


def _plain(constant: Any) -> Tensor:
    """Return a contiguous tensor of a dtype that a page can hold."""
    constant = constant.detach().contiguous()
    return constant.float() if constant.is_floating_point() else constant.long()
