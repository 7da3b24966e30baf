"""3x3 convolutions with half of the multiplications: Winograd's minimal filtering, along time.

The promise: `convolve(x, W, b)` is `F.conv2d(x, W, b, padding=1)` up to rounding, forward and backward; at full size the
largest error of an output is 3e-6 of the largest output, where the direct sum has 2e-6. After Winograd 1980 and Lavin & Gray
2016.

Four rows of outputs (a tile) depend on six rows of inputs. Direct: 4 rows x 3 taps = 12 products of a row with a 1x3 kernel.
Here: the inputs are mixed to six rows (`_analyse`), each is convolved with a 1x3 kernel of its own (`_kernels`), and the
answers are mixed to the four (`_synthesise`): 6 products. The mixtures are sums of whole rows with small factors: polynomials
are multiplied by their values at 0, 1, -1, 2, -2 and infinity. Along one axis only, since along both the factors grow, and with
them the rounding, and the products become too small to be fast.

The convolutions are most of the full model's encoding and training on a CPU. Elsewhere (accelerators, half precision, few
channels) `F.conv2d` itself is called.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model.linear import has_onednn

OUT, IN = 4, 6  # rows of a tile
STRIP = 7  # tiles that are worked on together, at most; more need more memory, fewer make the products small
FEWEST_CHANNELS = 64  # below, the mixtures cost more than the products
KERNEL_MIXTURES = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def convolve(features: Tensor, kernel: Tensor, shift: Tensor) -> Tensor:
    """Convolution with a 3x3 kernel, zeros around the map.

    Args:
        features: `(B, C_in, T, F)`.
        kernel: `(C_out, C_in, 3, 3)`.
        shift: `(C_out,)`, added to each channel.

    Returns:
        `(B, C_out, T, F)`.
    """
    if not _suits(features, kernel):
        return F.conv2d(features, kernel, shift, padding=1)
    convolved: Tensor = _Winograd.apply(features, kernel, shift)  # type: ignore[no-untyped-call]
    return convolved


def _suits(features: Tensor, kernel: Tensor) -> bool:
    return (
        features.device.type == "cpu"
        and features.dtype == kernel.dtype == torch.float32
        and min(kernel.shape[:2]) >= FEWEST_CHANNELS
        and has_onednn()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


class _Winograd(torch.autograd.Function):
    """See `convolve`; for the backward pass the inputs are kept and their mixtures computed again."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, kernel: Tensor, shift: Tensor) -> Tensor:
        needs_features, needs_kernel = ctx.needs_input_grad[:2]
        ctx.save_for_backward(features if needs_kernel else None, kernel if needs_features else None)
        return _filtered(features, kernel, shift)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, kernel = ctx.saved_tensors
        towards_features, towards_kernel, towards_shift = ctx.needs_input_grad
        return (
            _filtered(gradient, kernel.transpose(0, 1).flip(2, 3), None) if towards_features else None,
            _kernel_gradient(features, gradient) if towards_kernel else None,
            gradient.sum((0, 2, 3)) if towards_shift else None,
        )


def _filtered(features: Tensor, kernel: Tensor, shift: Tensor | None) -> Tensor:
    """The convolution, strip by strip."""
    kernels = _kernels(kernel)
    samples, _, frames, bins = features.shape
    out = torch.empty(
        samples, len(kernel), frames, bins, dtype=features.dtype, device=features.device, memory_format=torch.channels_last
    )
    filled = out.permute(0, 2, 3, 1)
    for sample, rows in enumerate(_rows(features)):
        for start, stop in _strips(frames):
            mixed = _analyse(_cut(rows, start - 1, stop + 1))
            # The second row (the value at 1) goes into all four outputs, once into each: it brings the shift along.
            answers = [
                _rows(F.conv2d(_map(row), one, shift if number == 1 else None, padding=(0, 1)))[0]
                for number, (row, one) in enumerate(zip(mixed, kernels, strict=True))
            ]
            _synthesise(answers, filled[sample, start : min(stop, frames)])
    return out


def _kernel_gradient(features: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of the kernel `(C_out, C_in, 3, 3)`: six of 1x3 kernels, unmixed."""
    total = features.new_zeros(IN, gradient.shape[1], features.shape[1], 1, 3)
    for rows, towards in zip(_rows(features), _rows(gradient), strict=True):
        for start, stop in _strips(features.shape[2]):
            mixed = _analyse(_cut(rows, start - 1, stop + 1))
            for number, wanted in enumerate(_spread(_cut(towards, start, stop))):
                total[number] += _row_gradient(_map(mixed[number]), _map(wanted))
    mixtures = total.new_tensor(KERNEL_MIXTURES)
    return torch.einsum("kr,kois->oirs", mixtures, total.squeeze(3))


def _row_gradient(features: Tensor, gradient: Tensor) -> Tensor:
    """Gradient of a 1x3 kernel, `(C_out, C_in, 1, 3)`; `torch.nn.grad` leaves channels-last and takes twice as long."""
    kernel = features.new_empty(gradient.shape[1], features.shape[1], 1, 3).contiguous(memory_format=torch.channels_last)
    stride, padding, dilation, groups, wanted = [1, 1], [0, 1], [1, 1], 1, [False, True, False]
    towards: Tensor = torch.ops.aten.convolution_backward(
        gradient, features, kernel, None, stride, padding, dilation, False, [0, 0], groups, wanted
    )[1]
    return towards


def _kernels(kernel: Tensor) -> list[Tensor]:
    """Six 1x3 kernels `(C_out, C_in, 1, 3)` of one 3x3."""
    mixed = torch.einsum("kr,oirs->kois", kernel.new_tensor(KERNEL_MIXTURES), kernel)
    return [one.unsqueeze(2).contiguous(memory_format=torch.channels_last) for one in mixed]


def _analyse(rows: Tensor) -> Tensor:
    """Rows of S tiles and the one before and after, `(4 S + 2, F, C)`, -> their mixtures `(6, S, F, C)`."""
    tiles = (len(rows) - 2) // OUT
    d0, d1, d2, d3, d4, d5 = (rows[first : first + OUT * tiles - 3 : OUT] for first in range(IN))
    mixed = rows.new_empty(IN, tiles, *rows.shape[1:])
    even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
    torch.add(even, odd, out=mixed[1])
    torch.sub(even, odd, out=mixed[2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd)
    torch.add(even, odd, alpha=2, out=mixed[3])
    torch.sub(even, odd, alpha=2, out=mixed[4])
    torch.add(even, torch.sub(d0, d2, out=mixed[0]), alpha=4, out=mixed[0])
    torch.sub(torch.sub(d5, d3, out=even), odd, alpha=4, out=mixed[5])
    return mixed


def _synthesise(answers: list[Tensor], out: Tensor) -> None:
    """Six answers `(S, F, C)`, which are overwritten, -> rows `(R, F, C)` of `out`, R at most 4 S."""
    m0, m1, m2, m3, m4, m5 = answers
    near, far = m1 + m2, m3 + m4
    m1 -= m2
    m3 -= m4
    y0, y1, y2, y3 = (out[first::OUT] for first in range(OUT))
    torch.add(m0, near, out=m0)
    torch.add(m0[: len(y0)], far[: len(y0)], out=y0)
    torch.add(m1[: len(y1)], m3[: len(y1)], alpha=2, out=y1)
    torch.add(near[: len(y2)], far[: len(y2)], alpha=4, out=y2)
    m5 += m1
    torch.add(m5[: len(y3)], m3[: len(y3)], alpha=8, out=y3)


def _spread(rows: Tensor) -> Iterator[Tensor]:
    """What `_synthesise` does, backwards: rows of S tiles `(4 S, F, C)` -> six in turn, `(S, F, C)` each."""
    y0, y1, y2, y3 = (rows[first::OUT] for first in range(OUT))
    yield y0.contiguous()
    even, odd = y0 + y2, y1 + y3
    yield even + odd
    yield even - odd
    torch.add(y0, y2, alpha=4, out=even)
    torch.add(y1, y3, alpha=4, out=odd)
    yield torch.add(even, odd, alpha=2)
    yield torch.sub(even, odd, alpha=2)
    yield y3.contiguous()


def _strips(frames: int) -> Iterator[tuple[int, int]]:
    """Borders of strips of equally many tiles, `(start, stop)` in frames; the last may end beyond the map."""
    tiles = -(-frames // OUT)
    strips = -(-tiles // STRIP)
    step = OUT * -(-tiles // strips)
    for start in range(0, frames, step):
        yield start, start + step


def _cut(rows: Tensor, start: int, stop: int) -> Tensor:
    """Rows `(stop - start, F, C)` of `(T, F, C)`, zeros where there are none."""
    before, after = max(-start, 0), max(stop - len(rows), 0)
    return F.pad(rows[start + before : stop - after], (0, 0, 0, 0, before, after)) if before or after else rows[start:stop]


def _rows(features: Tensor) -> Tensor:
    """`(B, C, T, F)` -> `(B, T, F, C)`, which is how a channels-last map lies in memory."""
    return features.permute(0, 2, 3, 1).contiguous()


def _map(rows: Tensor) -> Tensor:
    """`(S, F, C)` -> `(1, C, S, F)`, channels last."""
    return rows.permute(2, 0, 1).unsqueeze(0)
