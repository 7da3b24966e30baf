"""A specialist is the same module with fewer channels: equal to the bit when sliced, to rounding when pruned."""

import dataclasses

import pytest
import torch

from stemscribe.model import ModelConfig, YourMT3
from tiny_model import noise, relative, small_model, tiny_config, tiny_model, tiny_record

STEMS = {"bass": [4], "drums": [12], "vocals": [5, 9, 10, 11], "other": [0, 1, 2, 3, 5, 6, 7, 8, 9, 10]}


def routed_model(channels: list[int] | None = None) -> YourMT3:
    """Like the tiny one, but with eight routed experts as at full size."""
    torch.manual_seed(3)
    return YourMT3(dataclasses.replace(tiny_config(), experts=8), channels).eval()


def labels_for(config: ModelConfig, length: int = 12) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, config.vocabulary, (2, config.channels, length), generator=generator)


@pytest.mark.parametrize("make", [tiny_model, small_model, routed_model])
@pytest.mark.parametrize("channels", STEMS.values(), ids=STEMS)
def test_a_specialist_equals_the_generalist_bit_for_bit(make, channels):
    generalist, specialist = make(), make(channels)
    waveform, labels = noise(generalist.config), labels_for(generalist.config)
    with torch.no_grad():
        assert torch.equal(specialist(waveform, labels[:, channels]), generalist(waveform, labels)[:, channels])


@pytest.mark.parametrize("make", [tiny_model, small_model, routed_model])
@pytest.mark.parametrize("channels", STEMS.values(), ids=STEMS)
def test_pruning_changes_nothing_but_rounding(make, channels):
    model = make(channels)
    waveform = noise(model.config)
    with torch.no_grad():
        sliced = model.encode(waveform)
        model.prune = True
        assert relative(model.encode(waveform), sliced) < 1e-4


def test_pruning_learns_the_same():
    def gradients(prune: bool) -> dict[str, torch.Tensor]:
        model = small_model([4, 12])
        model.prune = prune
        model.encode(noise(model.config)).square().sum().backward()
        return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}

    pruned, sliced = gradients(True), gradients(False)
    assert pruned.keys() == sliced.keys()
    for name, gradient in sliced.items():
        if gradient.abs().max() > 1e-4:  # below is rounding: biases of keys, which a softmax cannot feel
            assert relative(pruned[name], gradient) < 1e-3, name


@pytest.mark.parametrize("prune", [False, True])
def test_each_sample_may_have_its_own_channels(prune):
    model = small_model()
    waveform = noise(model.config)
    own = torch.tensor([[4, 12], [11, 0]])
    with torch.no_grad():
        everything = model.encode(waveform)
        model.prune = prune
        found = model.encode(waveform, own)
    expected = torch.stack([everything[0, own[0]], everything[1, own[1]]])
    assert torch.equal(found, expected) if not prune else relative(found, expected) < 1e-4


def test_a_pruned_specialist_speaks_the_same_tokens():
    record = tiny_record()
    model = tiny_model([4, 12])
    model.prune = True
    found = model.generate(record["waveform"], max_length=24)
    expected = record["greedy_tokens"][:, [4, 12]]
    assert torch.equal(found, expected[..., : found.shape[-1]])


def test_channels_asked_for_at_call_time_override_the_model_s():
    model = small_model([4])
    waveform = noise(model.config, batch=1)
    with torch.no_grad():
        assert model.encode(waveform).shape[1] == 1
        assert torch.equal(model.encode(waveform, [12, 4])[:, 1:], model.encode(waveform))
