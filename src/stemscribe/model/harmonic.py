"""Waveform -> what sounds at each pitch, by a small network to which all pitches are alike.

A note an octave higher is the same picture moved along a logarithmic frequency axis, and its overtones stand at fixed
distances from it. So the layers are convolutions over time and pitch, and each block also looks at the places where harmonics
and subharmonics would lie. Few weights learn from every note of every instrument, which is why timbres that were never heard
are heard well. After Basic Pitch (Bittner et al. 2022, arXiv 2203.09893: harmonics as channels) and the harmonic dilation of
HarmoF0 (Wei et al. 2022, arXiv 2205.01019).

The promise: moving the spectrogram by whole semitones moves the features, save at the edges of the range; a frame's features
depend on 0.5 s around it and on the loudness of the whole segment.
"""

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.band_spectrogram import BandSpectrogram
from stemscribe.model.config import HarmonicConfig

LOWEST = 21  # MIDI pitch A0, the first of the axis
PIANO_PITCHES = 88  # for which there are features: the piano's, A0 to C8
BINS_PER_SEMITONE = 3
OVERTONES = 10  # semitones above C8 that only serve as overtones; the axis ends below 8 kHz
REFERENCE_PITCH, REFERENCE_HZ = 69, 440.0
INTERVALS = (0, 12, 19, 24, 28, 31, 34, 36, -12, -19, -24, -28)  # semitones to harmonics 1 to 8 and subharmonics 2 to 5
COMBS = ((-24, -12, 0, 12, 24, 36), (19, 31), (28, 34), (-28, -19))  # the same, in evenly spaced groups


class HarmonicBlock(nn.Module):
    """Look along the harmonics, then along time; both add to what is known."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.along_harmonics = nn.Linear(len(INTERVALS) * width, width, bias=False)
        self.norm1 = nn.GroupNorm(1, width)
        self.along_time = nn.Conv2d(width, width, (3, 1), padding=(dilation, 0), dilation=(dilation, 1), bias=False)
        self.norm2 = nn.GroupNorm(1, width)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, width, T, P)` -> the same shape."""
        found = reduce(torch.add, (self._comb(x, comb) for comb in COMBS))
        x = x + F.relu(self.norm1(found))
        return x + F.relu(self.norm2(self.along_time(x)))

    def _comb(self, x: Tensor, comb: tuple[int, ...]) -> Tensor:
        """What lies at evenly spaced intervals from each pitch, as one dilated convolution; zeros lie beyond the axis."""
        width = x.shape[1]
        weight = self.along_harmonics.weight.view(width, len(INTERVALS), width)
        kernel = weight[:, [INTERVALS.index(interval) for interval in comb]].transpose(1, 2).unsqueeze(2)
        return F.conv2d(F.pad(x, (-comb[0], comb[-1])), kernel, dilation=(1, comb[1] - comb[0]))


class HarmonicPitches(nn.Module):
    """The whole branch: spectrograms, two convolutions on fine bins, one onto semitones, harmonic blocks."""

    def __init__(self, config: HarmonicConfig, hop: int, sample_rate: int) -> None:
        super().__init__()
        self.spectrogram = BandSpectrogram(config.windows, axis(), hop, sample_rate)
        fine, width = config.fine_channels, config.width
        self.fine1 = nn.Conv2d(len(config.windows), fine, 5, padding=2)
        self.norm1 = nn.GroupNorm(1, fine)
        self.fine2 = nn.Conv2d(fine, fine, 3, padding=1)
        self.norm2 = nn.GroupNorm(1, fine)
        self.onto_semitones = nn.Conv2d(fine, width, (3, BINS_PER_SEMITONE), stride=(1, BINS_PER_SEMITONE), padding=(1, 0))
        self.norm3 = nn.GroupNorm(1, width)
        self.blocks = nn.ModuleList(HarmonicBlock(width, 2**index) for index in range(config.blocks))

    def forward(self, waveform: Tensor) -> Tensor:
        """`(B, N)` -> `(B, T, 88, width)`, pitch 0 being A0."""
        x = self.spectrogram(waveform).contiguous(memory_format=torch.channels_last)
        x = F.relu(self.norm1(self.fine1(x)))
        x = x + F.relu(self.norm2(self.fine2(x)))
        x = F.relu(self.norm3(self.onto_semitones(x)))
        for block in self.blocks:
            x = block(x)
        features: Tensor = x[..., :PIANO_PITCHES].permute(0, 2, 3, 1)
        return features


def axis() -> list[float]:
    """Frequencies of the fine bins in Hz, three a semitone with the pitch in the middle, and one more at either end."""
    bins = range(-1, BINS_PER_SEMITONE * (PIANO_PITCHES + OVERTONES) + 1)
    semitones = (LOWEST - REFERENCE_PITCH + (number - BINS_PER_SEMITONE // 2) / BINS_PER_SEMITONE for number in bins)
    return [REFERENCE_HZ * 2 ** (semitone / 12) for semitone in semitones]
