"""Waveform -> log-magnitude spectrogram on chosen frequencies: what the frame head's two ears listen to.

The promise: in silence all is 0, the loudest cell of a segment is 1, and 0 is 80 dB below it; music that is twice as loud looks
the same, but hiss below -60 dB is not stretched to the full range.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RANGE_DB = 80.0  # below the loudest cell of a segment, where the scale ends
FAINTEST_DB = -60.0  # a segment whose loudest cell is below this is not stretched further
FLOOR = 1e-7  # -140 dB
BLOCK = 42  # bands that are summed together: a band needs few of the transform's bins, and most of a whole bank is zeros


class BandSpectrogram(nn.Module):
    """One layer for each window length: a long window tells frequencies apart, a short one tells when they start.

    Args:
        windows: lengths in samples.
        hertz: centres of the bands, ascending, with one neighbour more at either end, which only bounds them.
        hop: samples between frames.
        sample_rate: in Hz.
    """

    def __init__(self, windows: Sequence[int], hertz: Sequence[float], hop: int, sample_rate: int) -> None:
        super().__init__()
        self.windows = tuple(windows)
        self.hop = hop
        self._blocks: list[list[tuple[slice, slice]]] = []
        for index, length in enumerate(windows):
            self.register_buffer(f"window_{index}", torch.hann_window(length), persistent=False)
            bank = filter_bank(hertz, length, sample_rate)
            self.register_buffer(f"bank_{index}", bank, persistent=False)
            self._blocks.append(_blocks(hertz, length, sample_rate))

    def forward(self, waveform: Tensor) -> Tensor:
        """`(B, N)` in [-1, 1] -> `(B, windows, T, bands)` in [0, 1], always in fp32; frame t is centred on sample `t * hop`."""
        with torch.autocast(waveform.device.type, enabled=False):
            layers = []
            for index, length in enumerate(self.windows):
                window, bank = self.get_buffer(f"window_{index}"), self.get_buffer(f"bank_{index}")
                transform = torch.stft(waveform.float(), length, self.hop, window=window, return_complex=True).transpose(1, 2)
                magnitude = torch.view_as_real(transform).square().sum(-1).sqrt()
                bands = torch.cat([magnitude[..., bins] @ bank[bins, part] for bins, part in self._blocks[index]], dim=-1)
                decibels = 20 * (bands / (length / 4) + FLOOR).log10()  # 0 dB: a full-scale sine
                loudest = decibels.amax(dim=(1, 2), keepdim=True).clamp(min=FAINTEST_DB)
                layers.append(1 + (decibels - loudest).clamp(min=-RANGE_DB) / RANGE_DB)
            return torch.stack(layers, dim=1)


def filter_bank(hertz: Sequence[float], length: int, sample_rate: int) -> Tensor:
    """Triangles between neighbouring centres, and interpolation where they lie closer than the transform's own bins.

    Args:
        hertz: bands + 2 of them, ascending.
        length: of the transform, in samples.
        sample_rate: in Hz.

    Returns:
        `(length / 2 + 1, bands)`.
    """
    width = sample_rate / length
    frequencies = torch.arange(length // 2 + 1, dtype=torch.float64)[:, None] * width
    centres = torch.tensor(hertz, dtype=torch.float64)
    low, centre, high = centres[:-2], centres[1:-1], centres[2:]
    rising = (frequencies - low.minimum(centre - width)) / (centre - low).clamp(min=width)
    falling = (high.maximum(centre + width) - frequencies) / (high - centre).clamp(min=width)
    triangles = rising.minimum(falling).clamp(min=0)
    return (triangles / triangles.sum(dim=0).clamp(min=1.0)).float()


def _blocks(hertz: Sequence[float], length: int, sample_rate: int) -> list[tuple[slice, slice]]:
    """For each stretch of `BLOCK` bands the transform's bins that it needs, and the bands."""
    width = sample_rate / length
    blocks = []
    for first in range(0, len(hertz) - 2, BLOCK):
        last = min(first + BLOCK, len(hertz) - 2)
        low = min(hertz[first], hertz[first + 1] - width)
        high = max(hertz[last + 1], hertz[last] + width)
        bins = slice(max(0, int(low / width)), min(length // 2, int(high / width) + 1) + 1)
        blocks.append((bins, slice(first, last)))
    return blocks
