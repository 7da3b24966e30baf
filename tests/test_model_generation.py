"""Greedy decoding against its definition: the arg-max of the whole sequence so far, computed anew for every token."""

import dataclasses

import pytest
import torch

from stemscribe.model import SMALL, YourMT3
from tiny_model import noise, small_model, tiny_model, tiny_record


def by_definition(model: YourMT3, memory: torch.Tensor, length: int) -> torch.Tensor:
    """All `length` arg-max tokens of each stream, ends unheeded."""
    tokens = torch.full((*memory.shape[:2], 1), model.config.pad)
    with torch.no_grad():
        for _ in range(length):
            tokens = torch.cat((tokens, model.decode(memory, tokens)[..., -1:, :].argmax(dim=-1)), dim=-1)
    return tokens[..., 1:]


def ended(tokens: torch.Tensor, eos: int) -> torch.Tensor:
    """PAD behind the first end that is not the first token; as long as the longest stream."""
    tokens = tokens.clone()
    longest = 0
    for stream in tokens.flatten(0, -2):
        ends = (stream[1:] == eos).nonzero().flatten()
        stop = int(ends[0]) + 2 if len(ends) else len(stream)
        stream[stop:] = 0
        longest = max(longest, stop)
    return tokens[..., :longest]


def test_a_cache_changes_no_token():
    model = tiny_model()
    memory = tiny_record()["pre_decoder"]
    assert torch.equal(model.generate_from_memory(memory, 20), ended(by_definition(model, memory, 20), eos=1))


def test_streams_leave_when_they_end_and_an_end_as_first_token_is_not_noticed():
    model = tiny_model()
    memory = tiny_record()["pre_decoder"]
    endless = by_definition(model, memory, 30)
    first = endless[0, :, 0].tolist()
    common = endless.flatten().bincount().argsort(descending=True)[:5].tolist()
    for eos in {*first, *common}:  # any token may play the end: these come first in a stream, or end many
        model.config = dataclasses.replace(model.config, eos=eos)
        assert torch.equal(model.generate_from_memory(memory, 30), ended(endless, eos)), eos


def test_waveform_in_tokens_out():
    model = small_model([4, 12])
    tokens = model.generate(noise(SMALL), max_length=8)
    assert tokens.dtype == torch.long
    assert tokens.shape[:2] == (2, 2)
    assert 2 <= tokens.shape[2] <= 8
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < 596


def test_generation_ignores_the_training_mode_and_restores_it():
    model = small_model([4])
    model.encoder.eval()
    expected = model.generate(noise(SMALL), max_length=8)
    model.train()
    model.encoder.eval()
    assert torch.equal(model.generate(noise(SMALL), max_length=8), expected)
    assert model.training
    assert model.pre_encoder.training
    assert not model.encoder.training


def test_generation_leaves_no_graph():
    assert not small_model([4]).generate(noise(SMALL, 1), max_length=4).requires_grad


@pytest.mark.parametrize("length", [0, 2_000])
def test_a_length_beyond_the_positions_is_refused(length):
    model = small_model([4])
    with pytest.raises(ValueError, match="max_length"):
        model.generate_from_memory(torch.zeros(1, 1, SMALL.frames, SMALL.d_model), length)


def test_laid_out_weights_serve_many_calls_and_are_forgotten_afterwards():
    model = tiny_model()
    memory = tiny_record()["pre_decoder"]
    expected = model.generate_from_memory(memory, 12)
    with model.decoding():
        assert torch.equal(model.generate_from_memory(memory, 12), expected)
        assert torch.equal(model.generate_from_memory(memory[:1], 12), expected[:1])
    model.load_state_dict({name: torch.zeros_like(weight) for name, weight in model.state_dict().items()})
    assert not torch.equal(model.generate_from_memory(memory, 12), expected)


def test_int8_begins_as_fp32_does():
    model = tiny_model()
    memory = tiny_record()["pre_decoder"]
    expected = model.generate_from_memory(memory, 1)
    with model.decoding(int8=True):
        found = model.generate_from_memory(memory, 1)
    assert (found == expected).float().mean() > 0.6  # of 72 tokens that random weights hardly choose between
