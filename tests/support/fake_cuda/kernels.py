"""How many kernels an operator of ATen launches on CUDA."""

from __future__ import annotations

from typing import Any

from torch import Tensor

# Operators that launch nothing, besides views.
_NONE = set(
    "empty empty_strided empty_like new_empty new_empty_strided detach alias lift_fresh _reshape_alias set_ resize_ "
    "is_pinned pin_memory _pin_memory record_stream _unsafe_view".split()
)
# Operators that launch several: sorts, scatters after a sort, reductions in two passes.
_SEVERAL = {
    "index_put": 8,
    "index_put_": 8,
    "_index_put_impl_": 8,
    "_unsafe_index_put": 8,
    "sort": 4,
    "grid_sampler_2d_backward": 3,
    "native_batch_norm_backward": 2,
}
# Tensors that one launch of a foreach or fused operator takes, by the number of its lists, and blocks of elements.
_TENSORS_PER_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
_BLOCKS_PER_LAUNCH, _BLOCK = 320, 65536


def kernels_of(name: str, args: tuple[Any, ...]) -> int:
    """Return the number of kernels of a call of operator ``name`` (without "aten::") with these arguments."""
    if name in _NONE or name.startswith("prim::"):
        return 0
    if name == "convolution":  # the bias is added by another kernel
        return 1 + (args[2] is not None)
    if name == "convolution_backward":  # a kernel per gradient; that of a second one needs a transform as well
        images, weight, bias = args[10]
        return max(0, 2 * (images + weight) - 1) + bias
    if name.startswith(("_foreach", "_fused")):
        return _foreach(name, args)
    return _SEVERAL.get(name, 1)


def _foreach(name: str, args: tuple[Any, ...]) -> int:
    lists = [arg for arg in args if isinstance(arg, (list, tuple)) and arg and isinstance(arg[0], Tensor)]
    most = _TENSORS_PER_LAUNCH.get(len(lists), 30)
    blocks = sum(-(-tensor.numel() // _BLOCK) for tensor in lists[0])
    return max(-(-len(lists[0]) // most), -(-blocks // _BLOCKS_PER_LAUNCH)) + (name == "_foreach_norm")
