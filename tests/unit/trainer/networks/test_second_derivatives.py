"""Convolutions and LeakyReLUs with cheap second derivatives against torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.losses import image_slopes
from trainer.networks import Architecture, build
from trainer.networks.discriminator import Discriminator
from trainer.networks.second_derivatives import cheap_second_derivatives

aten = torch.ops.aten
Convolve = Callable[..., Tensor]
# (function, channels of the input, shape of the weight, its other arguments)
CASES: dict[str, tuple[Convolve, int, tuple[int, ...], dict[str, Any]]] = {
    "plain": (F.conv2d, 3, (4, 3, 3, 3), {"padding": 1}),
    "1x1": (F.conv2d, 3, (2, 3, 1, 1), {}),
    "grouped": (F.conv2d, 4, (6, 2, 3, 3), {"padding": (1, 1), "groups": 2}),
    "strided": (F.conv2d, 2, (3, 2, 3, 3), {"stride": 2, "padding": 1}),
    "uneven": (F.conv2d, 2, (3, 2, 2, 3), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    "filter": (F.conv2d, 3, (3, 1, 3, 3), {"stride": 2, "padding": 1, "groups": 3}),
    "transposed": (F.conv_transpose2d, 4, (4, 3, 3, 3), {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}),
}
WIDTHS = (3, 2)


class Convolutions(TorchDispatchMode):
    """Records the convolutions that run: (operation, shape of the kernel), and the gradients asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels: list[tuple[int, ...]] = []
        self.wanted: list[list[bool]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is aten.convolution.default:
            self.kernels.append(tuple(args[1].shape))
        if func is aten.convolution_backward.default:
            self.kernels.append(tuple(args[2].shape))
            self.wanted.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


class Calls(TorchDispatchMode):
    """Records the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func._schema.name)
        return func(*args, **(kwargs or {}))


def arguments(name: str, dtype: torch.dtype = torch.float64, bias: bool = True) -> tuple[Convolve, tuple[Tensor, ...]]:
    """Return a case's convolution, and an input, a weight and perhaps a bias that require gradients."""
    torch.manual_seed(0)
    function, channels, shape, options = CASES[name]
    outputs = shape[1] * options["groups"] if function is F.conv_transpose2d else shape[0]
    shapes = [(2, channels, 5, 4), shape, *([(outputs,)] if bias else [])]
    tensors = tuple(torch.randn(s, dtype=dtype).requires_grad_() for s in shapes)
    return lambda *given: function(*given, **options), tensors


def derivatives(y: Tensor, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    """Return y, its gradients, and those of a function of its gradients."""
    first = torch.autograd.grad(y.square().sum(), tensors, create_graph=True)
    second = torch.autograd.grad(sum(g.pow(3).sum() for g in first), tensors)  # type: ignore[arg-type]
    return [y, *first, *second]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_derivatives_are_those_of_torch(name: str, bias: bool) -> None:
    convolve, tensors = arguments(name, bias=bias)
    expected = derivatives(convolve(*tensors), tensors)
    with cheap_second_derivatives():
        y = convolve(*tensors)
    assert "_Convolution" in type(y.grad_fn).__name__
    for one, other in zip(derivatives(y, tensors), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["grouped", "strided", "transposed"])
def test_derivatives_are_those_of_finite_differences(name: str) -> None:
    convolve, tensors = arguments(name)

    def cheap(*given: Tensor) -> Tensor:
        with cheap_second_derivatives():
            return convolve(*given)

    assert torch.autograd.gradcheck(cheap, tensors, fast_mode=True)
    assert torch.autograd.gradgradcheck(cheap, tensors, fast_mode=True)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_have_the_bits_of_torch(name: str, memory_format: torch.memory_format) -> None:
    convolve, (x, w, b) = arguments(name, torch.float32)
    tensors = (*(t.detach().contiguous(memory_format=memory_format).requires_grad_() for t in (x, w)), b)
    expected = convolve(*tensors)
    with cheap_second_derivatives():
        found = convolve(*tensors)
    assert torch.equal(found, expected)
    assert found.stride() == expected.stride()
    direction = torch.randn_like(expected)
    gradients = zip(
        torch.autograd.grad(found, tensors, direction), torch.autograd.grad(expected, tensors, direction), strict=True
    )
    for one, other in gradients:
        assert torch.equal(one, other)
        assert one.stride() == other.stride()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_autocast_casts_as_for_torch(dtype: torch.dtype) -> None:
    """Half precision within, gradients in the precision of what they belong to; float64 stays."""
    convolve, tensors = arguments("grouped", dtype)
    with torch.autocast("cpu", torch.bfloat16):
        expected = convolve(*tensors)
        with cheap_second_derivatives():
            found = convolve(*tensors)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    for one, other in zip(derivatives(found, tensors), derivatives(expected, tensors), strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05 * other.abs().max().item())


def test_autocast_during_a_backward_pass_changes_no_precision() -> None:
    convolve, tensors = arguments("plain", torch.float32)
    with cheap_second_derivatives():
        one, other = convolve(*tensors), convolve(*tensors)
    expected = derivatives(one, tensors)
    with torch.autocast("cpu", torch.bfloat16):
        found = derivatives(other, tensors)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)


def test_other_convolutions_are_left_to_torch() -> None:
    x, w = torch.randn(3, 8, 8).requires_grad_(), torch.randn(2, 3, 3, 3)
    with cheap_second_derivatives():
        assert torch.equal(F.conv2d(x, w), F.conv2d(x[None], w)[0])
        assert F.conv2d(x[None], w, padding="same").shape == (1, 2, 8, 8)
        assert F.conv_transpose2d(x, w.transpose(0, 1)).shape == (2, 10, 10)
    with cheap_second_derivatives(False):
        assert "_Convolution" not in type(F.conv2d(x[None], w).grad_fn).__name__


def test_a_penalty_asks_for_no_gradient_of_the_weights() -> None:
    """Not in its first backward pass; in its second, for each of them and for no constant kernel."""
    x, constant = torch.randn(2, 4, 8, 8, requires_grad=True), torch.randn(4, 1, 3, 3)
    weight, bias = nn.Parameter(torch.randn(4, 2, 3, 3)), nn.Parameter(torch.randn(4))
    with cheap_second_derivatives():
        y = F.conv2d(F.conv2d(x, weight, bias, groups=2).square(), constant, groups=4)
    with Convolutions() as first:
        penalty = image_slopes(y.square().sum((1, 2, 3)), x).square().sum()
    assert first.wanted == [[True, False, False]] * 2
    with Convolutions() as second:
        penalty.backward(inputs=[weight, bias])
    assert sum(wanted[1] for wanted in second.wanted) == 2, "by way of the penalty's gradient, and of the value"
    assert set(second.kernels) == {(4, 2, 3, 3), (4, 1, 3, 3)}


@pytest.mark.parametrize(("inplace", "slope"), [(True, 0.2), (True, 0.0), (False, 0.2), (False, -0.5)])
def test_leaky_relu_is_that_of_torch(inplace: bool, slope: float) -> None:
    """Except that its second derivative, zero, is no tensor of zeros that is filled and added."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 4, requires_grad=True)

    def results(cheap: bool) -> list[Tensor]:
        shifted = x + 1  # what is changed in place is no leaf
        with cheap_second_derivatives(cheap):
            y = F.leaky_relu(shifted, slope, inplace)
        assert (y is shifted) == inplace
        (first,) = torch.autograd.grad((y * x).square().sum(), x, create_graph=True)
        return [y, first, *torch.autograd.grad(first.pow(3).sum(), x)]

    with Calls() as theirs:
        expected = results(cheap=False)
    with Calls() as ours:
        found = results(cheap=True)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert slope < 0 or ours.names.count("aten::zeros_like") < theirs.names.count("aten::zeros_like")


def discriminator(family: str, **options: Any) -> tuple[Discriminator, tuple[Tensor, ...]]:
    """Return a small D in float64 without zero weights, and images, labels and masks for it."""
    torch.manual_seed(0)
    size = 96 if family == "article" else 4 << len(options["channels"]) - 1
    _, d = build(Architecture(family=family, size=size, widths=WIDTHS, noise=4, embedding=4, **options))
    for parameter in d.double().parameters():
        if not parameter.any():
            nn.init.normal_(parameter, 0, 0.1)
    x = torch.randn(1, 3, size, size, dtype=torch.float64)
    label, known = torch.rand(1, sum(WIDTHS), dtype=torch.float64), torch.ones(1, len(WIDTHS), dtype=torch.float64)
    return d.train(), (x, label, known)


def penalised_gradients(d: Discriminator, inputs: tuple[Tensor, ...], *, cheap: bool) -> dict[str, Tensor]:
    """Return the gradients of D's logits and penalty with respect to its weights."""
    x, label, known = inputs
    images = x.clone().requires_grad_()
    with cheap_second_derivatives(cheap):
        logits = d(images, label, known)
    loss = logits.square().sum() + image_slopes(logits, images).square().sum()
    names = [name for name, _ in d.named_parameters()]
    return dict(zip(names, torch.autograd.grad(loss, list(d.parameters())), strict=True))


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("r3gan", {"channels": (8, 8, 4), "group_width": 4, "blocks": 1}),
        ("residual", {"channels": (8, 8, 4)}),
        ("residual", {"channels": (8, 8, 4), "resize": "filter"}),
        ("residual", {"channels": (8, 8, 4), "spectral_norm": True}),
        ("article", {}),
    ],
)
def test_every_family_has_the_penalty_of_torch(family: str, options: dict[str, Any]) -> None:
    d, inputs = discriminator(family, **options)
    d.eval()  # no power iteration between the two
    expected = penalised_gradients(d, inputs, cheap=False)
    for name, gradient in penalised_gradients(d, inputs, cheap=True).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-9, atol=1e-10, msg=name)


def test_no_kernel_of_a_penalty_is_as_large_as_a_feature_map() -> None:
    """Those of torch are, one for each group: the reason for all this."""
    d, inputs = discriminator("r3gan", channels=(8, 4), group_width=4, blocks=1)
    counts, sides = [], []
    for cheap in (False, True):
        with Convolutions() as seen:
            penalised_gradients(d, inputs, cheap=cheap)
        counts.append(len(seen.kernels))
        sides.append(max(math.prod(kernel[2:]) for kernel in seen.kernels))
    assert sides[0] > 9 >= sides[1]
    layers = 1 + 2 * 3 + 2  # the first, those of two bottlenecks, a filter and a change of channels
    assert counts[1] <= 5 * layers < counts[0]
