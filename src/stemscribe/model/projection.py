"""A product with one fixed weight, over and over: the work of every step of decoding.

The promise: a projection computes `x W^T` as `F.linear` does, up to rounding, or with `int8` up to the rounding of weights to
255 levels a row and of inputs to 127 levels a call. What is done once, here, is the weight's layout:

* on CPUs, fp32: oneDNN's own blocks. A step multiplies a few rows with much weight, and there a weight that lies in blocks is
  two to three times faster than a plain one (the operations are those that `torch.compile` puts in place of `nn.Linear`);
* `int8`, CPUs only: a scale for each output row, symmetric; inputs are scaled anew at every call, all rows together, so a row
  depends a little on its company. After `torch.ao.nn.quantized.dynamic.Linear`, whose kernel this is;
* elsewhere: as it is.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model.linear import has_onednn

Projection = Callable[[Tensor], Tensor]

ROWS = 128  # for about as many rows weights are laid out; fewer take the same layout
LEVELS = 127  # of a weight on each side of zero


def projection(weights: Sequence[Tensor], kind: torch.dtype, int8: bool = False) -> Projection:
    """Lay out weights that read the same input.

    Args:
        weights: `(n_i, k)` each; their outputs stand side by side.
        kind: of inputs and outputs; half precision under autocast, so that weights are cast once and not at every step.
        int8: quantised; inputs and outputs are fp32.

    Returns:
        `x (..., k)` -> `(..., sum of n_i)`.

    Raises:
        ValueError: if `int8` is asked for where it does not exist.
    """
    weight = torch.cat(tuple(weights)).detach()
    if int8:
        check_int8(weight.device)
        return _quantised(weight.float())
    weight = weight.to(kind)
    return _blocked(weight) if _lies_in_blocks(weight.device, kind) else lambda x: F.linear(x, weight)


def gate(opening: Tensor, through: Tensor, kind: torch.dtype, int8: bool = False) -> Projection:
    """`gelu(x A^T) * (x B^T)`, with the tanh form of gelu, of weights `(n, k)` each; the rest as in `projection`."""
    if not int8 and _lies_in_blocks(opening.device, kind):
        a, b = (torch.ops.mkldnn._reorder_linear_weight(weight.detach(), ROWS) for weight in (opening, through))
        multiply = torch.ops.mkldnn._linear_pointwise

        def fused(x: Tensor) -> Tensor:
            gated: Tensor = multiply.binary(x, multiply(x, a, None, "gelu", [], "tanh"), b, None, "mul")
            return gated

        return fused
    both = projection((opening, through), kind, int8)

    def plain(x: Tensor) -> Tensor:
        opened, passed = both(x).chunk(2, dim=-1)
        return F.gelu(opened, approximate="tanh") * passed

    return plain


def check_int8(device: torch.device) -> None:
    """Refuse a device that has no int8 kernel.

    Raises:
        ValueError: if it is no CPU, or torch was built without quantised kernels.
    """
    if device.type != "cpu":
        raise ValueError(f"int8 decoding is for CPUs and the model is on {device.type}; decode in fp32 there")
    if torch.backends.quantized.engine == "none":
        raise ValueError("this build of torch has no int8 kernels; decode in fp32")


def _lies_in_blocks(device: torch.device, kind: torch.dtype) -> bool:
    return has_onednn() and device.type == "cpu" and kind == torch.float32


def _blocked(weight: Tensor) -> Projection:
    blocks = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
    multiply = torch.ops.mkldnn._linear_pointwise

    def project(x: Tensor) -> Tensor:
        product: Tensor = multiply(x, blocks, None, "none", [], "")
        return product

    return project


def _quantised(weight: Tensor) -> Projection:
    scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / LEVELS
    with warnings.catch_warnings():  # torch means to give up tensors of this kind one day, and has no other dynamic kernel yet
        warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
        rows = torch.quantize_per_channel(weight, scales, torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(rows, None)
    multiply = torch.ops.quantized.linear_dynamic

    def project(x: Tensor) -> Tensor:
        product: Tensor = multiply(x.float(), packed, True)  # 7 bits: 8 overflow on CPUs without VNNI
        return product

    return project
