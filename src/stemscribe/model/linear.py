"""Matrix products by oneDNN where that is faster: `F.linear`, forward and backward, in fp32 on CPUs.

The promise: `linear(x, W, b)` is `F.linear(x, W, b)` up to rounding, and learns the same. PyTorch gives an fp32 product on a
CPU to its BLAS. MKL is slow on processors other than Intel's: 95 GFLOP per second of CPU time on an AMD with AVX-512, where
oneDNN (which does the convolutions) has 200 to 230. The operation is the one that `torch.compile` puts in place of `nn.Linear`;
it knows no gradient, so that is written out here. Each new shape is compiled once, which takes a millisecond or two. The
gradient of a weight is left to the BLAS: it reads factors that are turned around as they lie, and oneDNN would copy one, which
takes as long as its product saves.

Elsewhere (accelerators, half precision, autocast, builds without oneDNN) `F.linear` itself is called.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`nn.Linear` with the product of this module."""

    def forward(self, input: Tensor) -> Tensor:
        """`(..., k)` -> `(..., n)`."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b`.

    Args:
        x: `(..., k)`.
        weight: `(n, k)`.
        bias: `(n,)`.

    Returns:
        `(..., n)`.
    """
    if not _suits(x, weight):
        return F.linear(x, weight, bias)
    product: Tensor = _Product.apply(x.flatten(0, -2), weight, bias)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], len(weight))


def has_onednn() -> bool:
    """Whether this torch has oneDNN and may use it (`torch.backends.mkldnn.flags`)."""
    return bool(torch.backends.mkldnn.is_available()) and bool(torch.backends.mkldnn.enabled)  # type: ignore[no-untyped-call]


def _suits(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and x.ndim >= 2
        and x.numel() > 0
        and has_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return product


class _Product(torch.autograd.Function):
    """`(m, k)` and `(n, k)` -> `(m, n)`; the gradients are products of the same kind."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x if weight.requires_grad else None, weight if x.requires_grad else None)
        return _product(x, weight, bias)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        towards_x, towards_weight, towards_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.t()) if towards_x else None,
            gradient.t() @ x if towards_weight else None,
            gradient.sum(0) if towards_bias else None,
        )
