"""What does not fit is refused in one line that says what came and what must come."""

import pytest
import torch

from stemscribe.model import SMALL, YourMT3
from tiny_model import noise, small_model

MODEL = small_model()
WAVEFORM = noise(SMALL, 1)
MEMORY = torch.zeros(1, 2, SMALL.frames, SMALL.d_model)


def refuses(match: str):
    return pytest.raises(ValueError, match=r"\A[^\n]*" + match + r"[^\n]*\Z")


@pytest.mark.parametrize("waveform", [WAVEFORM[0], WAVEFORM[None], WAVEFORM[:, :-1]])
def test_waveforms_are_whole_mono_segments(waveform):
    with refuses("waveform has shape"):
        MODEL.encode(waveform)


@pytest.mark.parametrize("sample", [float("nan"), float("inf")])
def test_broken_audio_is_refused(sample):
    broken = WAVEFORM.clone()
    broken[0, 7] = sample
    with refuses("NaN or infinite"):
        MODEL.encode(broken)


def test_integer_audio_is_refused():
    with refuses("floating point"):
        MODEL.encode(torch.zeros(1, SMALL.segment_samples, dtype=torch.int16))


@pytest.mark.parametrize("channels", [[13], [-1], [], [4, 99], torch.tensor([[4], [13]]), torch.tensor([[4]])])
def test_channels_must_exist(channels):
    with refuses("channels"):
        MODEL.encode(noise(SMALL, 2), channels)
    if isinstance(channels, list):
        with refuses("channels"):
            YourMT3(SMALL, channels)


@pytest.mark.parametrize("token", [-100, 596])
def test_tokens_must_be_in_the_vocabulary(token):
    with refuses("token ids"):
        MODEL.decode(MEMORY, torch.full((1, 2, 3), token))


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 2, 4), (1, 2), (1, 2, 1_035), (1, 2, 0)])
def test_tokens_must_fit_the_memory(shape):
    with refuses("tokens"):
        MODEL.decode(MEMORY, torch.ones(shape, dtype=torch.long))


def test_tokens_are_integers():
    with refuses("tokens"):
        MODEL.decode(MEMORY, torch.ones(1, 2, 4))


@pytest.mark.parametrize(
    "use",
    [lambda memory: MODEL.frames(memory, torch.zeros(1, SMALL.segment_samples)), MODEL.generate_from_memory],
    ids=["frames", "tokens"],
)
def test_memory_must_have_the_model_s_frames(use):
    with refuses("memory has shape"):
        use(MEMORY[:, :, :-1])
