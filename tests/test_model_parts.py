"""Closed forms for the parts: what a spectrogram, a rotation, a router and a residual must do by definition."""

import math

import pytest
import torch

from stemscribe.model import SMALL
from stemscribe.model.decoder import SinusoidTable
from stemscribe.model.moe import MixtureOfExperts
from stemscribe.model.rotary import Rotary, rotate
from stemscribe.model.spectrogram import LogSpectrogram
from tiny_model import noise, relative, small_model

SPECTROGRAM = LogSpectrogram(SMALL.n_fft, SMALL.hop, SMALL.bins)


def sine(hertz: float, amplitude: float = 0.5) -> torch.Tensor:
    seconds = torch.arange(SMALL.segment_samples) / SMALL.sample_rate
    return amplitude * torch.sin(2 * math.pi * hertz * seconds)[None]


def test_silence_in_zeros_out():
    assert torch.equal(SPECTROGRAM(torch.zeros(1, SMALL.segment_samples)), torch.zeros(1, 82, 512))


def test_a_sine_stands_in_its_own_bin():
    bin_width = SMALL.sample_rate / SMALL.n_fft  # 7.8125 Hz; bin 0 (DC) is not there
    assert int(SPECTROGRAM(sine(440.0))[0, 40].argmax()) == round(440.0 / bin_width) - 1


def test_the_spectrogram_is_deaf_to_loudness_and_bounded():
    loud, quiet = SPECTROGRAM(noise(SMALL, 1)), SPECTROGRAM(noise(SMALL, 1) / 4)
    assert float((loud - quiet).abs().max()) < 2e-3  # the floor under the logarithm is all it hears of it
    assert float(loud.min()) >= 0.0
    assert float(loud.max()) < 1.0


def test_broken_audio_makes_no_nan():
    broken = noise(SMALL, 2)
    broken[0, 100] = math.nan
    spectrogram = SPECTROGRAM(broken)
    assert bool(spectrogram.isfinite().all())
    assert torch.equal(spectrogram[1:], SPECTROGRAM(broken[1:]))


def test_rotation_keeps_length_and_leaves_the_rest_of_the_head_alone():
    queries = torch.randn(2, 26, 6, 16)
    turned = rotate(queries, Rotary.for_latents(4).turns(torch.linspace(-1, 1, 26)))
    assert torch.equal(turned[..., 4:], queries[..., 4:])
    assert relative(turned.norm(dim=-1), queries.norm(dim=-1)) < 1e-6
    assert not torch.allclose(turned, queries)


def test_rotation_turns_pairs_by_position_times_frequency():
    rotary = Rotary.for_frames(4)
    assert torch.allclose(rotary.freqs, torch.tensor([1.0, 0.01]))
    queries = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 4)
    turned = rotate(queries, rotary.turns(torch.tensor([2.0]))).flatten()
    assert torch.allclose(turned, torch.tensor([math.cos(2), math.sin(2), math.cos(0.02), math.sin(0.02)]))


def test_latent_frequencies_run_from_pi_to_five_pi():
    assert torch.allclose(Rotary.for_latents(4).freqs, torch.tensor([math.pi, 5 * math.pi]))


@pytest.mark.parametrize("way", ["dense", "routed"])
def test_experts_sum_their_best_two(way):
    torch.manual_seed(0)
    mixture = MixtureOfExperts(width=8, hidden=12, experts=4, top_k=2)
    tokens = torch.randn(50, 8)
    expected = []
    for token in tokens:  # the definition, one token at a time
        best, chosen = mixture.gate(token).softmax(dim=-1).topk(2)
        expected.append(sum(w / best.sum() * mixture.experts[e](token) for w, e in zip(best, chosen, strict=True)))
    assert relative(getattr(mixture, way)(tokens), torch.stack(expected)) < 1e-5


def test_both_ways_of_computing_experts_learn_the_same():
    torch.manual_seed(0)
    mixture = MixtureOfExperts(width=8, hidden=12, experts=4, top_k=2)
    tokens = torch.randn(50, 8)
    gradients = []
    for way in (mixture.dense, mixture.routed):
        mixture.zero_grad()
        way(tokens).square().sum().backward()
        gradients.append([weight.grad.clone() for weight in mixture.parameters()])
    for dense, routed in zip(*gradients, strict=True):
        assert relative(dense, routed) < 1e-4


def test_an_expert_nobody_asks_for_is_no_trouble():
    mixture = MixtureOfExperts(width=8, hidden=12, experts=8, top_k=2)
    assert mixture(torch.randn(1, 1, 8)).shape == (1, 1, 8)


def test_position_table_holds_sines_then_cosines():
    table = SinusoidTable(positions=1_034, width=512).weight
    angle = 7 / 10_000 ** (2 * 3 / 512)
    assert float(table[7, 3]) == pytest.approx(math.sin(angle), abs=1e-6)
    assert float(table[7, 256 + 3]) == pytest.approx(math.cos(angle), abs=1e-6)


def test_the_future_does_not_change_the_past():
    model = small_model([4])
    memory = torch.randn(1, 1, SMALL.frames, SMALL.d_model)
    tokens = torch.randint(1, 596, (1, 1, 10))
    changed = tokens.clone()
    changed[..., 6:] = 5
    with torch.no_grad():
        assert torch.equal(model.decode(memory, tokens)[..., :6, :], model.decode(memory, changed)[..., :6, :])


def test_alignments_are_probabilities_over_frames_one_tensor_a_layer():
    model = small_model([4, 12])
    memory = torch.randn(2, 2, SMALL.frames, SMALL.d_model)
    tokens = torch.randint(1, 596, (2, 2, 10))
    with torch.no_grad():
        logits, alignments = model.decode(memory, tokens, alignment=True)
        assert torch.equal(logits, model.decode(memory, tokens))
    assert [tuple(layer.shape) for layer in alignments] == [(2, 2, 10, SMALL.frames)] * SMALL.decoder_layers
    assert torch.allclose(alignments[0].exp().sum(dim=-1), torch.ones(2, 2, 10))


def test_streams_do_not_hear_each_other():
    model = small_model([4, 12])
    memory = torch.randn(2, 2, SMALL.frames, SMALL.d_model)
    tokens = torch.randint(1, 596, (2, 2, 10))
    with torch.no_grad():
        together = model.decode(memory, tokens)
        alone = model.decode(memory[1:, 1:], tokens[1:, 1:])
    assert relative(alone, together[1:, 1:]) < 1e-5


def test_frozen_batch_norm_survives_train_and_keeps_its_statistics():
    model = small_model([4])
    model.freeze_batch_norm()
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items() if "running" in name}
    model.encode(noise(SMALL))
    assert model.training
    assert before
    for name, value in before.items():
        assert torch.equal(model.state_dict()[name], value)


def test_batch_norm_learns_its_statistics_otherwise():
    model = small_model([4]).train()
    before = model.state_dict()["pre_encoder.0.blocks.0.bn1.running_mean"].clone()
    model.encode(noise(SMALL))
    assert not torch.equal(model.state_dict()["pre_encoder.0.blocks.0.bn1.running_mean"], before)
