"""Waveform -> what is struck when: a small network that looks at the whole width of the spectrum, up to 8 kHz.

A drum has no place on a pitch axis; it is known by the shape of its noise and by how suddenly it comes. So unlike the ear for
pitch (`harmonic.py`) this one flattens all frequencies into one vector a frame, and then looks along time: a ride and a crash,
an open and a closed hi-hat begin alike and differ in how they die away. It costs a twentieth of the encoder, and hears the
cymbals that lie above the small encoder's 4 kHz. After the drum transcribers by convolutions on log-frequency spectrograms
(Vogl et al. 2017, "Drum transcription via joint beat and drum modeling using convolutional recurrent neural networks").
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.band_spectrogram import BandSpectrogram
from stemscribe.model.config import PercussiveConfig

LOWEST_HZ, HIGHEST_HZ = 50.0, 7_600.0
POOLING = 2  # bands, after each of the two convolutions


class PercussiveFrames(nn.Module):
    """The whole branch: spectrogram, two convolutions over time and frequency, one vector a frame, and a look along time."""

    def __init__(self, config: PercussiveConfig, hop: int, sample_rate: int) -> None:
        super().__init__()
        steps = config.bands + 1
        hertz = [LOWEST_HZ * (HIGHEST_HZ / LOWEST_HZ) ** (step / steps) for step in range(steps + 1)]
        self.spectrogram = BandSpectrogram((config.window,), hertz, hop, sample_rate)
        first, second = config.channels, 2 * config.channels
        self.conv1 = nn.Conv2d(1, first, 5, padding=2)
        self.norm1 = nn.GroupNorm(1, first)
        self.conv2 = nn.Conv2d(first, second, 3, padding=1)
        self.norm2 = nn.GroupNorm(1, second)
        self.flatten = nn.Linear(second * (config.bands // POOLING**2), config.width)
        self.blocks = nn.ModuleList(AlongTime(config.width, 2**index) for index in range(config.blocks))

    def forward(self, waveform: Tensor) -> Tensor:
        """`(B, N)` -> `(B, T, width)`."""
        x = self.spectrogram(waveform).contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(F.relu(self.norm1(self.conv1(x))), (1, POOLING))
        x = F.max_pool2d(F.relu(self.norm2(self.conv2(x))), (1, POOLING))
        frames: Tensor = self.flatten(x.permute(0, 2, 1, 3).flatten(2)).transpose(1, 2)
        for block in self.blocks:
            frames = block(frames)
        return frames.transpose(1, 2)


class AlongTime(nn.Module):
    """What came before a frame and what follows it, added to what is known."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation, bias=False)
        self.norm = nn.GroupNorm(1, width)

    def forward(self, frames: Tensor) -> Tensor:
        """`(B, width, T)` -> the same shape."""
        return frames + F.relu(self.norm(self.conv(frames)))
