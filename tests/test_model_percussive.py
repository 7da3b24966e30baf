"""The ear for what is struck."""

import math

import torch

from stemscribe.model import PercussiveConfig
from stemscribe.model.percussive import PercussiveFrames

HOP, RATE, SAMPLES = 400, 16_000, 32_767
BEAT = 40  # the frame on which a drum is struck


def struck(hertz: float) -> torch.Tensor:
    """A click of a frequency, 50 ms long, on `BEAT`, `(1, N)`."""
    click = torch.hann_window(800) * torch.sin(2 * math.pi * hertz / RATE * torch.arange(800))
    audio = torch.zeros(SAMPLES)
    audio[BEAT * HOP - 400 : BEAT * HOP + 400] = 0.1 * click
    return audio.unsqueeze(0)


def test_a_stroke_is_heard_when_it_falls_even_above_4_khz() -> None:
    torch.manual_seed(0)
    ear = PercussiveFrames(PercussiveConfig(blocks=0), HOP, RATE)
    with torch.no_grad():
        frames = ear(struck(6_000))[0]
    assert frames.shape == (82, PercussiveConfig().width)
    change = (frames - frames[10]).norm(dim=1)
    assert change[15 : BEAT - 6].max() < 0.05 * change.max()  # nothing before it
    assert abs(int(change.argmax()) - BEAT) <= 3


def test_looking_along_time_it_knows_what_follows_within_a_tenth_of_a_second() -> None:
    torch.manual_seed(0)
    ear = PercussiveFrames(PercussiveConfig(blocks=2), HOP, RATE)
    looks = [block for block in ear.blocks]
    frames = torch.zeros(1, PercussiveConfig().width, 82)
    for name, steps in (("before", -3), ("after", 3)):
        frames = torch.zeros(1, PercussiveConfig().width, 82, requires_grad=True)
        heard = frames
        for look in looks:
            heard = heard + look.conv(heard)  # the norm sees the whole segment
        heard[0, :, BEAT].sum().backward()
        assert frames.grad is not None
        assert frames.grad[0, :, BEAT + steps].abs().sum() > 0, name
        assert frames.grad[0, :, BEAT + 2 * steps].abs().sum() == 0, name


def test_every_weight_of_the_ear_learns() -> None:
    ear = PercussiveFrames(PercussiveConfig(), HOP, RATE)
    ear(struck(200)).square().mean().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in ear.parameters())
