"""What a training step minimises: tokens, frames, and where the decoder listens.

Token loss: cross-entropy over all targets that are not PAD, pooled over channels (YourMT3+). Its mass on a time-shift token
may be spread over the neighbouring ticks, since 10 ms more or less is no error to a listener.
Frame loss: binary cross-entropy of the frame head; onsets are rare, so a missed one weighs three times a false one.
Alignment loss: guided attention (Tachibana et al. 2018, arXiv 1710.08969) towards the frame of the current tick; what it is
worth beside the rest of the recipe stands in docs/base.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe import vocabulary
from stemscribe.config import LearningParams
from stemscribe.data.crops import Batch
from stemscribe.model.config import ModelConfig
from stemscribe.model.frame_head import FrameLogits
from stemscribe.model.yourmt3 import YourMT3

ONSET_WEIGHT = 3.0  # of a missed onset against a false one
ACTIVE_WEIGHT = 0.3  # of the active frames against the onsets
SHIFT_WEIGHT = 1.0  # of an onset's place inside its frame
ALIGNMENT_WIDTH = 0.7  # frames, standard deviation of the place to listen at
BUCKET_SHARES = (0.5, 0.375, 0.125)  # of the streams, from the shortest targets to the longest


@dataclass(frozen=True)
class LossWeights:
    """How the parts add up, and how soft a tick is."""

    frames: float
    voice: float  # inside `frames`: of voice or instrument, where something sounds, against the onsets
    alignment: float
    shift_smoothing: tuple[float, float, float]

    @classmethod
    def of(cls, learning: LearningParams) -> "LossWeights":
        """Those that the settings of a training name."""
        return cls(learning.frame_head_weight, learning.voice_weight, learning.alignment_weight, learning.shift_smoothing)


@dataclass(frozen=True)
class Losses:
    """The parts of one step's loss, each a scalar tensor; parts that the model cannot have are zero."""

    tokens: Tensor
    frames: Tensor
    alignment: Tensor
    total: Tensor


def batch_losses(model: YourMT3, batch: Batch, weights: LossWeights, with_tokens: bool = True) -> Losses:
    """Loss of a model on a batch.

    Args:
        model: in training mode; the frame loss needs its frame head, the alignment loss its memory positions.
        batch: crops and their targets.
        weights: of the parts.
        with_tokens: false leaves the decoder out and teaches the encoder by frames alone.
    """
    memory = model.encode(batch.waveform, batch.channels)
    frames = tokens = alignment = memory.new_zeros(())
    said = None
    if model.frame_head is not None and (weights.frames > 0 or model.config.memory_frames):
        said = model.frames(memory, batch.waveform, batch.channels)
        frames = frame_loss(said, batch, weights.voice)
    if with_tokens:
        guided = weights.alignment > 0 and model.config.memory_positions
        written = model.informed(memory, said)[:, : batch.tokens.shape[1]]
        tokens, alignment = _decoder_losses(model, written, batch.tokens, weights, guided)
    total = tokens + weights.frames * frames + weights.alignment * alignment
    return Losses(tokens.detach(), frames.detach(), alignment.detach(), total)


def _decoder_losses(
    model: YourMT3, memory: Tensor, targets: Tensor, weights: LossWeights, guided: bool
) -> tuple[Tensor, Tensor]:
    """Token and alignment loss; streams of similar length go through the decoder together."""
    streams, rows = memory.flatten(0, 1), targets.flatten(0, 1)
    lengths = (rows != vocabulary.PAD).sum(dim=1)
    tokens = alignment = memory.new_zeros(())
    for members, longest in length_buckets(lengths):
        wanted = rows[members, :longest]
        inputs = F.pad(wanted[:, :-1], (1, 0), value=vocabulary.PAD)
        looks: list[Tensor] = []
        if guided:
            logits, looks = model.decode(streams[members, None], inputs[:, None], alignment=True)
        else:
            logits = model.decode(streams[members, None], inputs[:, None])
        tokens = tokens + token_loss_sum(model.training_logits(logits).squeeze(1), wanted, weights.shift_smoothing)
        for look in looks:
            alignment = alignment + alignment_loss_sum(look.squeeze(1), wanted, model.config) / len(looks)
    count = lengths.sum()
    return tokens / count, alignment / count


def length_buckets(lengths: Tensor) -> list[tuple[Tensor, int]]:
    """Group streams `(n,)` by target length, so that a long target does not make all others pay for its padding.

    Returns:
        pairs of member indices and their greatest length; few streams stay together.
    """
    order = torch.argsort(lengths, stable=True)
    if len(order) < 16:
        return [(order, int(lengths.max()))]
    cuts = [round(share * len(order)) for share in torch.tensor(BUCKET_SHARES).cumsum(0).tolist()[:-1]]
    return [(part, int(lengths[part].max())) for part in torch.tensor_split(order, cuts)]


def token_loss_sum(logits: Tensor, targets: Tensor, smoothing: Sequence[float] = (1.0, 0.0, 0.0)) -> Tensor:
    """Cross-entropy summed over the targets that are not PAD.

    Args:
        logits: `(n, L, 596)`.
        targets: `(n, L)`.
        smoothing: mass of a time-shift target on its own tick, on each neighbour, on each second neighbour.
    """
    if smoothing[0] == 1.0:
        return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=vocabulary.PAD, reduction="sum")
    log_probabilities = logits.log_softmax(dim=-1)
    first, last = vocabulary.SHIFT_0, vocabulary.SHIFT_0 + vocabulary.MAX_SHIFT
    is_shift = (targets >= first) & (targets <= last)

    def mass(step: int) -> Tensor:
        moved = torch.where(is_shift, (targets + step).clamp(first, last), targets)
        return log_probabilities.gather(-1, moved.unsqueeze(-1)).squeeze(-1)

    exact = mass(0)
    soft = smoothing[0] * exact + sum(w * (mass(k) + mass(-k)) for k, w in enumerate(smoothing[1:], start=1))
    return -(torch.where(is_shift, soft, exact) * (targets != vocabulary.PAD)).sum()


def frame_loss(logits: FrameLogits, truth: Batch, voice_weight: float) -> Tensor:
    """Of `(B, C, T, 128)` logits: summed over pitches, averaged over frames and channels.

    Binary cross-entropy of onset and active; where a note starts the distance of its shift, in frames; where one sounds the
    binary cross-entropy of voice.
    """
    weight = truth.onset.new_tensor(ONSET_WEIGHT)
    onsets = F.binary_cross_entropy_with_logits(logits.onset, truth.onset, reduction="none", pos_weight=weight)
    actives = F.binary_cross_entropy_with_logits(logits.active, truth.active, reduction="none")
    shifts = truth.onset * (logits.shift - truth.shift).abs()
    voices = truth.active * F.binary_cross_entropy_with_logits(logits.voice, truth.voice, reduction="none")
    parts = onsets + ACTIVE_WEIGHT * actives + SHIFT_WEIGHT * shifts + voice_weight * voices
    return parts.sum(-1).mean()


def alignment_loss_sum(look: Tensor, targets: Tensor, config: ModelConfig) -> Tensor:
    """Cross-entropy between where a cross-attention head looks and where the current tick is, summed over targets.

    Args:
        look: `(n, L, T)` log-probabilities of one head over the frames.
        targets: `(n, L)` tokens; the tick in force is that of the last shift token, and the last frame at EOS.
        config: gives the frame of a tick.
    """
    frames = look.shape[-1]
    is_shift = (targets >= vocabulary.SHIFT_0) & (targets <= vocabulary.SHIFT_0 + vocabulary.MAX_SHIFT)
    ticks = torch.where(is_shift, targets - vocabulary.SHIFT_0, 0).cummax(dim=1).values
    place = ticks * (config.sample_rate / vocabulary.TICKS_PER_SECOND / config.hop)
    place = torch.where(targets == vocabulary.EOS, float(frames - 1), place).clamp(max=frames - 1)
    distance = torch.arange(frames, device=look.device) - place.unsqueeze(-1)
    wanted = torch.softmax(-0.5 * (distance / ALIGNMENT_WIDTH) ** 2, dim=-1)
    return -(wanted * look).sum(-1)[targets != vocabulary.PAD].sum()
