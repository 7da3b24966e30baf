"""The losses against closed forms, and the grouping of streams that must not change them."""

import pytest
import torch
import torch.nn.functional as F

from shard_band import UNVARIED, write_band, write_mix
from stemscribe import vocabulary
from stemscribe.data.crops import Batch, StemCrops, collate
from stemscribe.model.config import SMALL
from stemscribe.model.frame_head import FrameLogits
from stemscribe.training.losses import (
    LossWeights,
    alignment_loss_sum,
    batch_losses,
    frame_loss,
    length_buckets,
    token_loss_sum,
)
from stemscribe.training.schedule import cosine_with_warmup
from tiny_model import small_model

SHIFT = vocabulary.SHIFT_0
VOICE = 0.3


def test_token_loss_is_cross_entropy_over_what_is_not_padding() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(3, 5, 596), torch.randint(1, 596, (3, 5))
    targets[1, 3:] = vocabulary.PAD
    kept = targets != vocabulary.PAD
    expected = F.cross_entropy(logits[kept], targets[kept], reduction="sum")
    torch.testing.assert_close(token_loss_sum(logits, targets), expected)


def test_smoothing_moves_mass_to_neighbouring_ticks_and_leaves_pitches_alone() -> None:
    targets = torch.tensor([[SHIFT + 50, vocabulary.PITCH_0 + 60]])
    logits = torch.full((1, 2, 596), -100.0)
    logits[0, 0, SHIFT + 49] = logits[0, 0, SHIFT + 51] = 0.0  # the model says: one tick off
    logits[0, 1, vocabulary.PITCH_0 + 60] = 0.0
    exact = token_loss_sum(logits, targets)
    smooth = token_loss_sum(logits, targets, (0.4, 0.3, 0.0))
    assert smooth < 0.45 * exact
    torch.testing.assert_close(token_loss_sum(logits[:, 1:], targets[:, 1:], (0.4, 0.3, 0.0)), torch.tensor(0.0))


def silent_frames() -> FrameLogits:
    return FrameLogits(*(torch.full((1, 1, 4, 128), value) for value in (-20.0, -20.0, 0.0, -20.0)))


def truth(**parts: torch.Tensor) -> Batch:
    """What four frames should say; nothing sounds in the parts that are not given."""
    nothing = torch.zeros(1, 1, 4, 128)
    frames = {name: parts.get(name, nothing) for name in ("onset", "active", "shift", "voice")}
    return Batch(torch.zeros(1, 100), torch.zeros(1, 1), torch.zeros(1, 1, 1), **frames)


def test_frame_loss_weighs_a_missed_onset_three_times() -> None:
    missed = torch.zeros(1, 1, 4, 128)
    missed[0, 0, 1, 60] = 1
    false = silent_frames()
    false.onset[0, 0, 1, 60] = 20.0
    once = frame_loss(false, truth(), VOICE)
    torch.testing.assert_close(frame_loss(silent_frames(), truth(onset=missed), VOICE), 3 * once)


def test_frame_loss_asks_for_the_shift_of_onsets_only() -> None:
    onset, shift = torch.zeros(1, 1, 4, 128), torch.full((1, 1, 4, 128), 0.4)
    onset[0, 0, 1, 60] = 1
    heard = silent_frames()
    heard.onset[0, 0, 1, 60] = 20.0
    right = frame_loss(heard, truth(onset=onset, shift=shift), VOICE)
    assert float(right) == pytest.approx(0.4 / 4, abs=1e-4)  # of four frames
    assert float(frame_loss(silent_frames(), truth(shift=shift), VOICE)) == pytest.approx(0.0, abs=1e-4)


def test_frame_loss_asks_for_the_voice_only_where_something_sounds() -> None:
    sounding = torch.zeros(1, 1, 4, 128)
    sounding[0, 0, 1, 60] = 1
    heard = silent_frames()
    heard.active[0, 0, 1, 60] = 20.0  # heard, and taken for an instrument
    assert float(frame_loss(heard, truth(active=sounding), VOICE)) == pytest.approx(0.0, abs=1e-4)
    assert float(frame_loss(heard, truth(active=sounding, voice=sounding), VOICE)) == pytest.approx(VOICE * 20 / 4, abs=1e-3)


def test_the_decoder_reads_the_frame_head_and_leaves_it_alone(batch: Batch) -> None:
    model = small_model(channels=[4]).train()
    assert model.frame_head is not None
    losses = batch_losses(model, batch, LossWeights(0.0, 0.3, 0.0, (1.0, 0.0, 0.0)))
    losses.total.backward()
    assert model.frame_memory is not None
    assert model.frame_memory.weight.grad is not None
    assert float(model.frame_memory.weight.grad.abs().max()) > 0
    assert all(weight.grad is None or not weight.grad.any() for weight in model.frame_head.parameters())


def test_alignment_loss_is_least_when_the_head_looks_at_the_frame_of_the_tick() -> None:
    targets = torch.tensor([[vocabulary.TIE, SHIFT + 100, vocabulary.PITCH_0 + 40, vocabulary.EOS]])
    frames = [0, 40, 40, SMALL.frames - 1]  # 100 ticks are 1 s, 40 frames of 25 ms
    look = torch.full((1, 4, SMALL.frames), -20.0)
    for position, frame in enumerate(frames):
        look[0, position, frame] = 0.0
    there = alignment_loss_sum(look.log_softmax(-1), targets, SMALL)
    elsewhere = alignment_loss_sum(look.roll(5, dims=-1).log_softmax(-1), targets, SMALL)
    assert there < elsewhere
    assert alignment_loss_sum(look, torch.full_like(targets, vocabulary.PAD), SMALL) == 0


def test_buckets_hold_every_stream_once_and_are_ordered_by_length() -> None:
    lengths = torch.tensor([2, 90, 2, 40, 2, 2, 17, 2, 30, 2, 2, 5, 60, 2, 2, 2, 8, 2])
    buckets = length_buckets(lengths)
    assert sorted(int(index) for members, _ in buckets for index in members) == list(range(18))
    assert [longest for _, longest in buckets] == sorted(longest for _, longest in buckets)
    assert all(longest == lengths[members].max() for members, longest in buckets)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    folder = tmp_path_factory.mktemp("shards")
    shards, mix = write_band(folder / "bass"), write_mix(folder / "mix")
    crops = StemCrops(shards, mix, "train", SMALL, UNVARIED, teach=1, seed=3, first=0, count=20)
    return collate([crops[index] for index in range(20)])


def test_the_parts_add_up_and_every_weight_gets_a_gradient(batch: Batch) -> None:
    model = small_model(channels=[4]).train()
    model.prune = True
    losses = batch_losses(model, batch, LossWeights(0.3, 0.3, 0.5, (0.4, 0.24, 0.06)))
    expected = losses.tokens + 0.3 * losses.frames + 0.5 * losses.alignment
    torch.testing.assert_close(losses.total.detach(), expected)
    losses.total.backward()
    untouched = {name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None}
    assert untouched == set()


def test_bucketed_decoding_gives_the_loss_of_one_padded_batch(batch: Batch) -> None:
    model = small_model(channels=[4]).eval()
    weights = LossWeights(0.0, 0.3, 0.0, (1.0, 0.0, 0.0))
    with torch.no_grad():
        bucketed = batch_losses(model, batch, weights).tokens
        logits = model.training_logits(model(batch.waveform, batch.tokens))
        whole = token_loss_sum(logits.flatten(0, 1), batch.tokens.flatten(0, 1)) / (batch.tokens != 0).sum()
    torch.testing.assert_close(bucketed, whole, rtol=1e-5, atol=1e-5)


def test_the_learning_rate_rises_to_its_peak_and_ends_low() -> None:
    rates = [cosine_with_warmup(step, 10, 100) for step in range(101)]
    assert rates[:11] == sorted(rates[:11])
    assert max(rates) == rates[10] == 1.0
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[100] == pytest.approx(0.02)
