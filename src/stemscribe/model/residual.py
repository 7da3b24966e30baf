"""A residual block of the pre-encoder as one operation: the full model's way on a CPU.

    hidden = relu(x * K1 + s1)        y = mean over pairs of bins of relu(hidden * K2 + s2 + shortcut(x))

The promise: up to rounding this is what the operations of PyTorch give one after the other, forward and backward. What it saves
is maps: they are the largest tensors of the model (57 MB), and what a new one costs, above all, is the page faults of memory
that was returned to the system. Here each strip of a convolution (`winograd.py`) is rectified, added and halved while it is in
the cache, so the second convolution's outputs are never there as a whole; of them the backward pass keeps the signs, a byte
each, and it writes its own maps over those that it has used. For that reason a second backward pass through the same step is
refused by PyTorch (`retain_graph`).
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model.linear import has_onednn
from stemscribe.model.winograd import FEWEST_CHANNELS, OUT, Cut, filtered, kernel_gradient, row_gradient, rows_of


class Kernels(NamedTuple):
    """Weights of a block, norms folded in."""

    kernel1: Tensor  # (C_out, C_in, 3, 3)
    shift1: Tensor  # (C_out,)
    kernel2: Tensor  # (C_out, C_out, 3, 3)
    shift2: Tensor  # (C_out,)
    multiple: Tensor | None  # (C_out, 1, 1, 1), of a single plane for each channel, the shortcut where C_in is 1
    offset: Tensor | None  # (C_out,), added to the multiple


def suits(features: Tensor, kernels: Kernels) -> bool:
    """Whether `residual` knows this block, and is faster at it: many channels, fp32, on a CPU with oneDNN."""
    channels_out, channels_in = kernels.kernel1.shape[:2]
    plane = channels_in == 1 and kernels.offset is not None and not features.requires_grad
    return (
        features.device.type == "cpu"
        and features.dtype == kernels.kernel1.dtype == torch.float32
        and (plane or (channels_in == channels_out and kernels.multiple is None))
        and channels_out >= FEWEST_CHANNELS
        and has_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def residual(features: Tensor, kernels: Kernels) -> Tensor:
    """The block's answer.

    Args:
        features: `(B, C_in, T, F)`, channels last.
        kernels: what `suits` says yes to.

    Returns:
        `(B, C_out, T, F / 2)`, channels last.
    """
    learns = torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in (features, *kernels))
    rows = features.permute(0, 2, 3, 1).contiguous()
    pooled: Tensor = _Residual.apply(learns, rows, *kernels)  # type: ignore[no-untyped-call]
    return pooled.permute(0, 3, 1, 2)


class _Residual(torch.autograd.Function):
    """Maps are `(B, T, F, C)`."""

    @staticmethod
    def forward(
        ctx: Any,
        learns: bool,
        features: Tensor,
        kernel1: Tensor,
        shift1: Tensor,
        kernel2: Tensor,
        shift2: Tensor,
        multiple: Tensor | None,
        offset: Tensor | None,
    ) -> Tensor:
        hidden = _rectified(features, kernel1, shift1)
        samples, frames, bins, channels = hidden.shape
        pooled = hidden.new_empty(samples, frames, bins // 2, channels)
        positive = torch.empty(hidden.shape, dtype=torch.bool) if learns else None
        for here, sums in filtered(rows_of(hidden), hidden.shape, kernel2, shift2):
            # Multiple and offset are summed first, as in the reference: the tiny fixture's experts feel the last bit of a sum.
            sums += (
                features[here]
                if multiple is None or offset is None
                else torch.addcmul(offset, features[here], multiple.flatten())
            )
            if positive is not None:
                torch.gt(sums, 0, out=positive[here])
            sums.relu_()
            torch.add(sums[:, 0::2], sums[:, 1::2], out=pooled[here]).mul_(0.5)
        if learns:
            ctx.save_for_backward(features, hidden, positive, kernel1, kernel2)
        return pooled

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, hidden, positive, kernel1, kernel2 = ctx.saved_tensors
        towards_sums = _unpooled(gradient, positive)
        kernel2_gradient = kernel_gradient(hidden, towards_sums, len(kernel2))
        inner = hidden  # written over strip by strip, each where it has just been read
        for here, towards in filtered(towards_sums, hidden.shape, _turned(kernel2), None):
            torch.ops.aten.threshold_backward.grad_input(towards, hidden[here], 0, grad_input=inner[here])
        learned = [inner.sum((0, 1, 2)), kernel2_gradient, *_sums(towards_sums, features, len(kernel2))]
        if features.shape[-1] == 1:
            kernel1_gradient = row_gradient(_channels_first(features), _channels_first(inner), (3, 3))
            return None, None, kernel1_gradient, *learned, learned[2]
        kernel1_gradient = kernel_gradient(features, rows_of(inner), len(kernel1))
        if not ctx.needs_input_grad[1]:
            return None, None, kernel1_gradient, *learned, None
        towards_features = torch.empty_like(features)
        for (sample, frames), towards in filtered(rows_of(inner), inner.shape, _turned(kernel1), None):
            sums = towards_sums(sample, frames.start, frames.stop)
            torch.add(towards, sums, out=towards_features[sample, frames])
        return None, towards_features, kernel1_gradient, *learned, None


def _unpooled(gradient: Tensor, positive: Tensor) -> Cut:
    """A look at the gradient of the block's sums, `(B, T, F, C)`, given that of its answer and where the sums were positive."""

    def cut(sample: int, start: int, stop: int) -> Tensor:
        rows = positive[sample, start:stop].to(gradient.dtype)
        torch.unflatten(rows, 1, (-1, 2)).mul_((gradient[sample, start:stop] * 0.5).unsqueeze(2))
        return rows

    return cut


def _sums(towards_sums: Cut, features: Tensor, channels: int) -> tuple[Tensor, Tensor | None]:
    """Gradients of what is added to the sums `(B, T, F, C)`: of an offset `(C,)`, and of the multiple of a single plane."""
    samples, frames = features.shape[:2]
    offset = features.new_zeros(channels)
    multiple = features.new_zeros(channels) if features.shape[-1] == 1 else None
    for sample in range(samples):
        for start in range(0, frames, OUT):
            rows = towards_sums(sample, start, min(start + OUT, frames)).flatten(0, 1)
            offset += rows.sum(0)
            if multiple is not None:
                multiple += features[sample, start : start + OUT].flatten() @ rows
    return offset, None if multiple is None else multiple.view(-1, 1, 1, 1)


def _rectified(features: Tensor, kernel: Tensor, shift: Tensor) -> Tensor:
    """ReLU of the convolution, `(B, T, F, C_out)`."""
    if features.shape[-1] == 1:
        return F.conv2d(_channels_first(features), kernel, shift, padding=1).relu_().permute(0, 2, 3, 1).contiguous()
    hidden = features.new_empty(*features.shape[:-1], len(kernel))
    for here, sums in filtered(rows_of(features), features.shape, kernel, shift):
        torch.clamp(sums, min=0, out=hidden[here])
    return hidden


def _turned(kernel: Tensor) -> Tensor:
    """The kernel that carries a gradient from a convolution's outputs to its inputs."""
    return kernel.transpose(0, 1).flip(2, 3)


def _channels_first(features: Tensor) -> Tensor:
    """`(B, T, F, C)` -> `(B, C, T, F)`, channels last in memory."""
    return features.permute(0, 3, 1, 2)
