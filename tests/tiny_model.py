"""The reference's tiny model: its weights, and what it computed at every stage, made by the published code (yourmt3 0.1.4)."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from stemscribe.model import SMALL, ModelConfig, YourMT3
from stemscribe.model.initialisation import TimeTokens, initialise

FOLDER = Path(__file__).parent / "data" / "yourmt3_tiny"
TIME = TimeTokens(first=3, count=206, tick_seconds=0.01)


@cache
def tiny_config() -> ModelConfig:
    return ModelConfig.from_json(json.loads((FOLDER / "model_config.json").read_text()))


@cache
def tiny_record() -> dict[str, Tensor]:
    """What the reference computed: `waveform` (B, N), `spectrogram`, ..., integers as int64."""
    record = load_file(FOLDER / "io.safetensors")
    record["waveform"] = record["waveform"][:, 0]
    return {name: value if value.is_floating_point() else value.long() for name, value in record.items()}


@cache
def tiny_weights() -> dict[str, Tensor]:
    return load_file(FOLDER / "state_dict.safetensors")


def tiny_model(channels: list[int] | None = None) -> YourMT3:
    model = YourMT3(tiny_config(), channels)
    model.load_state_dict(tiny_weights(), strict=True)
    return model.eval()


def small_model(channels: list[int] | None = None) -> YourMT3:
    """SMALL from scratch, always the same."""
    model = YourMT3(SMALL, channels)
    initialise(model, TIME, torch.Generator().manual_seed(1))
    return model.eval()


def noise(config: ModelConfig, batch: int = 2, seed: int = 0) -> Tensor:
    """Segments of quiet noise `(batch, N)`."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(batch, config.segment_samples, generator=generator)


def relative(found: Tensor, expected: Tensor) -> float:
    """Largest difference, as a share of the largest expected magnitude."""
    return float((found - expected).detach().abs().max() / expected.detach().abs().max())


def eager_model() -> YourMT3:
    """An untrained bass specialist whose frame head hears notes everywhere."""
    model = small_model([4])
    assert model.frame_head is not None
    with torch.no_grad():
        model.frame_head.linear.bias.zero_()
    return model
