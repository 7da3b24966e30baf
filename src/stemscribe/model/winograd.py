"""3x3 convolutions with half of the multiplications: Winograd's minimal filtering, along time.

The promise: `filtered(x, W, b)` gives the strips of the convolution of a map with zeros around it, up to rounding, and
`kernel_gradient` the gradient of its kernel; at full size the largest error of an output is 3e-6 of the largest output, where
the direct sum has 2e-6. After Winograd 1980 and Lavin & Gray 2016.

Four rows of outputs (a tile) depend on six rows of inputs. Direct: 4 rows x 3 taps = 12 products of a row with a 1x3 kernel.
Here: the inputs are mixed to six rows (`_analyse`), each is convolved with a 1x3 kernel of its own (`_kernels`), and the
answers are mixed to the four (`_synthesise`): 6 products. The mixtures are sums of whole rows with small factors: polynomials
are multiplied by their values at 0, 1, -1, 2, -2 and infinity. Along one axis only, since along both the factors grow, and with
them the rounding, and the products become too small to be fast.

Maps are `(B, T, F, C)`: a row is a frame, and the channels of a bin lie side by side. The convolutions are most of the full
model's encoding and training on a CPU; `residual.py` is who uses this.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

OUT, IN = 4, 6  # rows of a tile
STRIP_BINS = 4096  # bins of the tiles that are worked on together: more leave the cache, fewer make the products small
FEWEST_CHANNELS = 64  # below, the mixtures cost more than the products
KERNEL_MIXTURES = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)

Cut = Callable[[int, int, int], Tensor]
"""Rows `(stop - start, F, C)` of a map, contiguous: given the sample, start and stop."""


def filtered(
    cut: Cut, shape: Sequence[int], kernel: Tensor, shift: Tensor | None
) -> Iterator[tuple[tuple[int, slice], Tensor]]:
    """Convolution with a 3x3 kernel, zeros around the map, strip by strip.

    Args:
        cut: a look at the map; it may be made while one looks.
        shape: of the map, `(B, T, F, C_in)`.
        kernel: `(C_out, C_in, 3, 3)`.
        shift: `(C_out,)`, added to each channel.

    Yields:
        Sample and frames of a strip, and its outputs `(R, F, C_out)`, which the caller may overwrite and the next strip does.
    """
    kernels = _kernels(kernel)
    samples, frames, bins = shape[:3]
    for sample in range(samples):
        for start, stop in _strips(frames, bins):
            mixed = _analyse(_padded(cut, sample, start - 1, stop + 1, frames))
            # The second row (the value at 1) goes into all four outputs, once into each: it brings the shift along.
            answers = [
                _rows(F.conv2d(_map(row), one, shift if number == 1 else None, padding=(0, 1)))
                for number, (row, one) in enumerate(zip(mixed, kernels, strict=True))
            ]
            within = slice(start, min(stop, frames))
            yield (sample, within), _synthesise(answers)[: within.stop - start]


def kernel_gradient(features: Tensor, towards: Cut, channels_out: int) -> Tensor:
    """Gradient of the kernel `(C_out, C_in, 3, 3)`: six of 1x3 kernels, unmixed.

    Args:
        features: `(B, T, F, C_in)`, contiguous.
        towards: gradient of the convolution's outputs, `(B, T, F, C_out)`.
        channels_out: C_out.
    """
    samples, frames, bins, channels_in = features.shape
    total = features.new_zeros(IN, channels_out, channels_in, 1, 3)
    for sample in range(samples):
        for start, stop in _strips(frames, bins):
            mixed = _analyse(_padded(rows_of(features), sample, start - 1, stop + 1, frames))
            for number, wanted in enumerate(_spread(_padded(towards, sample, start, stop, frames))):
                total[number] += row_gradient(_map(mixed[number]), _map(wanted), (1, 3))
    mixtures = total.new_tensor(KERNEL_MIXTURES)
    return torch.einsum("kr,kois->oirs", mixtures, total.squeeze(3))


def row_gradient(features: Tensor, gradient: Tensor, size: tuple[int, int]) -> Tensor:
    """Gradient of a kernel `(C_out, C_in, *size)` of a plain convolution with zeros around the map.

    `torch.nn.grad` leaves channels-last and takes twice as long.

    Args:
        features: `(B, C_in, T, F)`, channels last.
        gradient: `(B, C_out, T, F)`, channels last.
        size: odd.
    """
    kernel = torch.empty(gradient.shape[1], features.shape[1], *size, dtype=features.dtype, memory_format=torch.channels_last)
    stride, padding, dilation, groups, wanted = [1, 1], [length // 2 for length in size], [1, 1], 1, [False, True, False]
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


def _synthesise(answers: list[Tensor]) -> Tensor:
    """Six answers `(S, F, C)`, which are overwritten, -> rows `(4 S, F, C)`."""
    m0, m1, m2, m3, m4, m5 = answers
    near, far = m1 + m2, m3 + m4
    m1 -= m2
    m3 -= m4
    out = m0.new_empty(OUT * len(m0), *m0.shape[1:])
    y0, y1, y2, y3 = (out[first::OUT] for first in range(OUT))
    torch.add(m0.add_(near), far, out=y0)
    torch.add(m1, m3, alpha=2, out=y1)
    torch.add(near, far, alpha=4, out=y2)
    torch.add(m5.add_(m1), m3, alpha=8, out=y3)
    return out


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


def _strips(frames: int, bins: int) -> Iterator[tuple[int, int]]:
    """Borders of strips of equally many tiles, `(start, stop)` in frames; the last may end beyond the map."""
    tiles = -(-frames // OUT)
    strips = -(-tiles // max(STRIP_BINS // bins, 1))
    step = OUT * -(-tiles // strips)
    for start in range(0, frames, step):
        yield start, start + step


def rows_of(features: Tensor) -> Cut:
    """A look at a map `(B, T, F, C)` that is there, contiguous."""
    return lambda sample, start, stop: features[sample, start:stop]


def _padded(cut: Cut, sample: int, start: int, stop: int, frames: int) -> Tensor:
    """Rows `(stop - start, F, C)`, zeros where there are none."""
    before, after = max(-start, 0), max(stop - frames, 0)
    rows = cut(sample, start + before, stop - after)
    return F.pad(rows, (0, 0, 0, 0, before, after)) if before or after else rows


def _rows(convolved: Tensor) -> Tensor:
    """`(1, C, S, F)` -> `(S, F, C)`, which is how a channels-last map lies in memory."""
    return convolved[0].permute(1, 2, 0).contiguous()


def _map(rows: Tensor) -> Tensor:
    """`(S, F, C)` -> `(1, C, S, F)`, channels last."""
    return rows.permute(2, 0, 1).unsqueeze(0)
