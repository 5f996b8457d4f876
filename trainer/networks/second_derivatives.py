"""Convolutions and LeakyReLUs with cheap second derivatives, for gradient penalties.

A convolution y = C(x, w) is linear in x and in w, and so are its gradients gₓ = X(g, w) and g_w = W(g, x): each of C, X
and W has the other two as derivatives (Karras et al. 2020, arXiv 2006.06676, whose code does the same). torch computes
the derivative of X with respect to w as a forward convolution instead, whose kernel is a whole feature map, one group
after the other, and does so for constant kernels too. On a GPU that is thousands of launches for a grouped layer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

_Sizes = int | tuple[int, ...] | list[int]
_aten = torch.ops.aten


def cheap_second_derivatives(when: bool = True) -> AbstractContextManager[object]:
    """Give 2d convolutions and LeakyReLUs that are called in this context cheap second derivatives, if ``when``.

    Values and first derivatives are those of torch's own functions, which are quicker to call where no gradient is
    differentiated again. The backward passes may run after the context has ended.
    """
    return _Mode() if when else contextlib.nullcontext()


class _Geometry(NamedTuple):
    """The arguments of a convolution besides its tensors, in the order of ``aten.convolution``."""

    stride: list[int]
    padding: list[int]
    dilation: list[int]
    transposed: bool
    output_padding: list[int]
    groups: int


class _Convolution(Function):
    """C(x, w) + b."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, b: Tensor | None, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(x, w)
        ctx.geometry = geometry
        with torch.autocast(x.device.type, enabled=False):
            return _aten.convolution(x, w, b, *geometry)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        (g,) = grad_outputs
        x, w = ctx.saved_tensors
        wanted = [_is_wanted(ctx, argument) for argument in range(3)]
        if not torch.is_grad_enabled():
            return *_gradients(g, x, w, ctx.geometry, wanted), None
        return (
            _InputGradient.apply(g, w, x, ctx.geometry) if wanted[0] else None,
            _WeightGradient.apply(g, x, w, ctx.geometry) if wanted[1] else None,
            g.sum((0, 2, 3)) if wanted[2] else None,
            None,
        )


class _InputGradient(Function):
    """X(g, w), of the shape of x."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, w: Tensor, x: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(g, w, x)
        ctx.geometry = geometry
        return _gradients(g, x, w, geometry, [True, False, False])[0]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Map x, of the shape of the forward's result, to the gradients of <X(g, w), x> = <C(x, w), g>."""
        (x,) = grad_outputs
        g, w, _ = ctx.saved_tensors
        return (
            _Convolution.apply(x, w, None, ctx.geometry) if _is_wanted(ctx, 0) else None,
            _WeightGradient.apply(g, x, w, ctx.geometry) if _is_wanted(ctx, 1) else None,
            None,
            None,
        )


class _WeightGradient(Function):
    """W(g, x), of the shape of w."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, w: Tensor, geometry: _Geometry) -> Tensor:
        ctx.save_for_backward(g, x)
        ctx.geometry = geometry
        return _gradients(g, x, w, geometry, [False, True, False])[1]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Map w, of the shape of the forward's result, to the gradients of <W(g, x), w> = <C(x, w), g>."""
        (w,) = grad_outputs
        g, x = ctx.saved_tensors
        return (
            _Convolution.apply(x, w, None, ctx.geometry) if _is_wanted(ctx, 0) else None,
            _InputGradient.apply(g, w, x, ctx.geometry) if _is_wanted(ctx, 1) else None,
            None,
            None,
        )


def _gradients(g: Tensor, x: Tensor, w: Tensor, geometry: _Geometry, wanted: list[bool]) -> tuple[Tensor, ...]:
    """Return the gradients of C with respect to x, w and b; those that are not wanted are None."""
    with torch.autocast(x.device.type, enabled=False):
        return _aten.convolution_backward(g, x, w, [g.shape[1]], *geometry, wanted)


def _is_wanted(ctx: Any, argument: int) -> bool:
    """Return whether the backward pass that runs now needs the gradient with respect to an argument.

    ``ctx.needs_input_grad`` alone does not know that a penalty asks for gradients of images and of no weights.
    """
    if not ctx.needs_input_grad[argument]:
        return False
    try:
        return torch._C._will_engine_execute_node(ctx.next_functions[argument][0])  # type: ignore[attr-defined]
    except RuntimeError:  # a leaf whose gradient `torch.autograd.grad` was asked for
        return True


class _LeakyReLU(Function):
    """y = x or slope·x, whose second derivative is zero: torch would fill a tensor with zeros and add it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: float, inplace: bool) -> Tensor:
        if inplace:
            ctx.mark_dirty(x)
        y = (_aten.leaky_relu_ if inplace else _aten.leaky_relu)(x, slope)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return _LeakyReLUGradient.apply(*grad_outputs, *ctx.saved_tensors, ctx.slope), None, None


class _LeakyReLUGradient(Function):
    """g or slope·g, by the sign of y."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, y: Tensor, slope: float) -> Tensor:
        ctx.save_for_backward(y)
        ctx.slope = slope
        return _aten.leaky_relu_backward(g, y, slope, True)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        return _LeakyReLUGradient.apply(*grad_outputs, *ctx.saved_tensors, ctx.slope), None, None


def _conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes | str = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
) -> Tensor:
    """Convolve as `F.conv2d` does."""
    if isinstance(padding, str) or input.dim() != 4:
        return F.conv2d(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[arg-type]
    geometry = _Geometry(_pair(stride), _pair(padding), _pair(dilation), False, [0, 0], groups)
    return _Convolution.apply(*_in_precision_of_autocast(input, weight, bias), geometry)  # type: ignore[return-value]


def _conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    output_padding: _Sizes = 0,
    groups: int = 1,
    dilation: _Sizes = 1,
) -> Tensor:
    """Convolve as `F.conv_transpose2d` does."""
    if input.dim() != 4:
        return F.conv_transpose2d(input, weight, bias, stride, padding, output_padding, groups, dilation)  # type: ignore[arg-type]
    geometry = _Geometry(_pair(stride), _pair(padding), _pair(dilation), True, _pair(output_padding), groups)
    return _Convolution.apply(*_in_precision_of_autocast(input, weight, bias), geometry)  # type: ignore[return-value]


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Compute what `F.leaky_relu` does; if the slope is not negative, the result has the sign of the input."""
    if negative_slope < 0:
        return F.leaky_relu(input, negative_slope, inplace)
    return _LeakyReLU.apply(input, negative_slope, inplace)  # type: ignore[return-value]


def _pair(sizes: _Sizes) -> list[int]:
    """Return the sizes along both sides of an image."""
    pair = [sizes] if isinstance(sizes, int) else list(sizes)
    return pair * 2 if len(pair) == 1 else pair


def _in_precision_of_autocast(*tensors: Tensor | None) -> list[Tensor | None]:
    """Cast tensors as autocast casts a convolution's; it leaves float64 alone."""
    (device,) = {tensor.device.type for tensor in tensors if tensor is not None}
    if not torch.is_autocast_enabled(device):
        return list(tensors)
    dtype = torch.get_autocast_dtype(device)
    return [t if t is None or t.dtype == torch.float64 else t.to(dtype) for t in tensors]


_REPLACEMENTS: dict[Callable[..., Any], Callable[..., Any]] = {
    F.conv2d: _conv2d,
    F.conv_transpose2d: _conv_transpose2d,
    F.leaky_relu: _leaky_relu,
}


class _Mode(TorchFunctionMode):
    """Calls the functions above in place of torch's."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        return _REPLACEMENTS.get(func, func)(*args, **(kwargs or {}))
