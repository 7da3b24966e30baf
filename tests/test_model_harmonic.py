"""The ear for pitch: one octave is like another."""

import math

import pytest
import torch

from stemscribe.model import HarmonicConfig
from stemscribe.model.band_spectrogram import BandSpectrogram
from stemscribe.model.harmonic import BINS_PER_SEMITONE, LOWEST, PIANO_PITCHES, HarmonicPitches, axis

HOP, RATE, SAMPLES = 400, 16_000, 32_767


def tone(pitch: float, seconds: float = SAMPLES / RATE, overtones: int = 1) -> torch.Tensor:
    """A tone with overtones, each half as loud as the one before, `(1, N)`."""
    time = torch.arange(SAMPLES) / RATE
    hertz = 440 * 2 ** ((pitch - 69) / 12)
    parts = [0.3 * 0.5**k * torch.sin(2 * math.pi * hertz * (k + 1) * time) for k in range(overtones)]
    return (sum(parts) * (time < seconds)).unsqueeze(0)


@pytest.mark.parametrize("pitch", [28, 40, 57, 69, 96, 108])
def test_a_tone_stands_on_the_middle_bin_of_its_pitch(pitch: int) -> None:
    for layer, lowest in ((0, 52), (1, 28)):  # the short window cannot tell apart what lies below about 160 Hz
        if pitch >= lowest:
            heard = BandSpectrogram((2_048, 8_192), axis(), HOP, RATE)(tone(pitch))[0, layer, 40]
            assert int(heard.argmax()) == BINS_PER_SEMITONE * (pitch - LOWEST) + 1


def test_the_spectrogram_lies_between_silence_and_the_loudest_cell() -> None:
    heard = BandSpectrogram((2_048, 8_192), axis(), HOP, RATE)(tone(60))
    assert heard.shape == (1, 2, 82, 294)
    assert (heard.min(), heard.amax(dim=(0, 2, 3)).tolist()) == (0, [1, 1])
    assert BandSpectrogram((2_048,), axis(), HOP, RATE)(torch.zeros(1, SAMPLES)).max() == 0


def test_what_is_twice_as_loud_is_heard_alike() -> None:
    ear = BandSpectrogram((2_048,), axis(), HOP, RATE)
    torch.testing.assert_close(ear(tone(60)), ear(2 * tone(60)), atol=1e-3, rtol=0)


def test_transposed_music_has_transposed_features() -> None:
    torch.manual_seed(0)
    ear = HarmonicPitches(HarmonicConfig(), HOP, RATE).eval()
    with torch.no_grad():
        low, high = ear(tone(57, 1.0, overtones=5))[0], ear(tone(64, 1.0, overtones=5))[0]
    assert low.shape == (82, PIANO_PITCHES, HarmonicConfig().width)
    around = slice(57 - LOWEST - 3, 57 - LOWEST + 4)
    moved = slice(around.start + 7, around.stop + 7)
    difference = (low[10:30, around] - high[10:30, moved]).norm() / low[10:30, around].norm()
    unmoved = (low[10:30, around] - high[10:30, around]).norm() / low[10:30, around].norm()
    assert difference < 0.25 < unmoved


def test_every_weight_of_the_ear_learns() -> None:
    ear = HarmonicPitches(HarmonicConfig(fine_channels=4, width=8, blocks=1), HOP, RATE)
    ear(tone(60, overtones=3)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in ear.parameters())
