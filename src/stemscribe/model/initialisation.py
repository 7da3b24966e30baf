"""Weights to begin from, chosen so that a small model learns to place notes in time within minutes.

Three things beyond the usual scales (uniform in 1 / sqrt(fan-in) for the encoder, normal with d ** -0.5 for
the decoder, outputs that add to a residual at half of it, queries further divided by sqrt(d_kv) because
attention has scale 1):

1. *Token time and audio time share a geometry from the first step.* One sinusoid over frames, turned by a
   random orthogonal matrix Q, is the position of the decoder's memory; the same sinusoid, read at the time of
   tick k, is the embedding of shift token k and, in those dimensions that the first head reads, its output
   row.
2. *The first head of every cross-attention reads that sinusoid:* its query and key are rows of Q, so a shift
   token looks at its own frame, and its value and output are the same rows, so what it brings home is the
   time of the frame it looked at.
3. Positions over frames before the first temporal layer, at half amplitude.

Without 1 and 2 (and, then, a loss that guides that head) the token decoder of the small model did not take off in
20 minutes, although the encoder heard the notes after four. What each is worth today: docs/base.md.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from stemscribe.model.config import PITCHES, WITH_EARS, ModelConfig
from stemscribe.model.decoder import DecoderLayer, HeadAttention
from stemscribe.model.frame_head import FrameHead
from stemscribe.model.moe import Expert
from stemscribe.model.yourmt3 import YourMT3

SHORTEST_WAVE = 4.0  # frames; the longest is four segments
LATENT_SCALE = 0.5
TEMPORAL_SCALE = 0.5
RESIDUAL_SCALE = 0.5  # of projections whose output is added to a residual
HEAD_SCALE = 0.5  # of output rows, times d ** -0.5
SHIFT_HEAD_SCALE = 0.15  # of the sinusoid in the output rows of shift tokens
READER_QUERY_SCALE = 0.35  # with the key's, a score of about 5 (d_kv 48) for the right frame
READER_KEY_SCALE = 0.6
FRAME_MEMORY_SCALE = 0.5  # RMS of what one certain onset adds to the memory, whose own is about the same
OTHER_KEY_SCALE = 0.5  # the other heads' keys, so that content does not drown the reader
FRAME_HEAD_SEED = 1  # of the head that a model without one is given
RANDOM_POSITION_SCALE = 0.02  # where time has no geometry, as is usual for learned positions


@dataclass(frozen=True)
class TimeTokens:
    """Which tokens tell time: token `first + k` stands for `k * tick_seconds` after the start of the segment."""

    first: int
    count: int
    tick_seconds: float


def initialise(model: YourMT3, time: TimeTokens | None, generator: torch.Generator) -> None:
    """Give every weight of the model its start, in place; the same generator state gives the same weights.

    Args:
        model: of any config; what it lacks (positions, frame head) is left out.
        time: see `initialise_decoder`.
        generator: source of all randomness, on the CPU.
    """
    initialise_encoder(model, generator)
    initialise_decoder(model, time, generator)


@torch.no_grad()
def initialise_encoder(model: YourMT3, generator: torch.Generator) -> None:
    """Start everything up to the memory, and the frame head."""
    for part in (model.pre_encoder, model.encoder, model.pre_decoder, model.frame_head):
        for module in part.modules() if part is not None else ():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv1d):
                _uniform(module, generator)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm | nn.RMSNorm):
                module.reset_parameters()
    for module in model.encoder.modules():
        if isinstance(module, Expert):
            module.w2.weight.normal_(0.0, RESIDUAL_SCALE * module.w2.in_features**-0.5, generator=generator)
    model.encoder.latent_array.latents.normal_(0.0, LATENT_SCALE, generator=generator)
    if model.encoder.temporal_positions is not None:
        frames = torch.arange(float(model.config.frames))
        wave = sinusoid(frames, model.config.d_latent, longest=4.0 * model.config.frames)
        model.encoder.temporal_positions.copy_(TEMPORAL_SCALE * wave)
    if model.frame_head is not None and model.config.frame_head is not None:
        model.frame_head.linear.bias.zero_()
        model.frame_head.linear.bias[: 2 * PITCHES] = model.config.frame_head.initial_bias


@torch.no_grad()
def initialise_decoder(model: YourMT3, time: TimeTokens | None, generator: torch.Generator) -> None:
    """Start embedding, decoder, output rows and memory positions; also a way to restart them on a trained encoder.

    Args:
        model: changed in place.
        time: the tokens that get the geometry of time, used if the model has `memory_positions`; None starts everything at
            random.
        generator: source of all randomness, on the CPU.
    """
    config = model.config
    width = config.d_model
    model.embed_tokens.weight.normal_(0.0, 1.0, generator=generator)
    model.lm_head.lm_head.weight.normal_(0.0, HEAD_SCALE * width**-0.5, generator=generator)
    layers = [layer for layer in model.decoder.decoder.block if isinstance(layer, DecoderLayer)]
    for layer in layers:
        for attention in (layer.self_attention.SelfAttention, layer.cross_attention.EncDecAttention):
            _scaled_attention(attention, width, config.d_kv, generator)
        feed = layer.feed_forward.DenseReluDense
        feed.wi_0.weight.normal_(0.0, width**-0.5, generator=generator)
        feed.wi_1.weight.normal_(0.0, width**-0.5, generator=generator)
        feed.wo.weight.normal_(0.0, RESIDUAL_SCALE * config.d_ff**-0.5, generator=generator)
        for sublayer in (layer.self_attention, layer.cross_attention, layer.feed_forward):
            sublayer.layer_norm.weight.fill_(1.0)
    model.decoder.decoder.final_layer_norm.weight.fill_(1.0)
    if model.frame_memory is not None:
        model.frame_memory.weight.normal_(0.0, FRAME_MEMORY_SCALE, generator=generator)
    if model.memory_positions is None:
        return
    if time is None:
        model.memory_positions.normal_(0.0, RANDOM_POSITION_SCALE, generator=generator)
        return
    turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
    longest = 4.0 * config.frames
    model.memory_positions.copy_(sinusoid(torch.arange(float(config.frames)), width, longest) @ turn)
    ticks = torch.arange(float(time.count)) * (time.tick_seconds * config.sample_rate / config.hop)
    wave = sinusoid(ticks, width, longest)
    read = _reader_dimensions(width, config.d_kv)
    tokens = slice(time.first, time.first + time.count)
    model.embed_tokens.weight[tokens] = wave @ turn
    model.lm_head.lm_head.weight[tokens] = SHIFT_HEAD_SCALE * wave[:, read] @ turn[read]
    for layer in layers:
        _time_reader(layer.cross_attention.EncDecAttention, turn[read], config.d_kv)


def fresh_frame_head(config: ModelConfig) -> FrameHead:
    """A frame head with ears for a model of this config that has none: the same each time, and nothing learned yet."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(FRAME_HEAD_SEED)
        return FrameHead(replace(config, frame_head=WITH_EARS))


def has_untaught_head(model: YourMT3) -> bool:
    """Whether the model's frame head is still the `fresh_frame_head`, whatever has become of the rest.

    To rounding, since a mean of heads that are the same (`stemscribe merge`) need not be the same to the last bit.
    """
    head = model.config.frame_head
    if (
        model.frame_head is None
        or head is None
        or (head.harmonic, head.percussive) != (WITH_EARS.harmonic, WITH_EARS.percussive)
    ):
        return False
    own, fresh = model.frame_head.state_dict(), fresh_frame_head(model.config).state_dict()
    return all(torch.allclose(own[name].cpu(), weight, atol=0.0) for name, weight in fresh.items())


@torch.no_grad()
def rescale_memory(model: YourMT3, factor: float) -> None:
    """Multiply the memory by `factor` without changing what the frame head says of it.

    A trained encoder's states may have grown loud beside the positions (RMS 0.7); before its decoder is
    restarted, bring them to an RMS of about 0.5.
    """
    for module in model.pre_decoder.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(factor)
    if model.frame_head is not None:
        listeners = (model.frame_head.harmonic, model.frame_head.percussive)
        for reader in (model.frame_head.linear, *(listener.attend for listener in listeners if listener is not None)):
            reader.weight.div_(factor)


def sinusoid(positions: Tensor, width: int, longest: float) -> Tensor:
    """Sines, then cosines, of geometrically spaced wavelengths from 4 frames to `longest`.

    Args:
        positions: `(N,)` in frames, fractions allowed.
        width: even number of dimensions.
        longest: wavelength in frames.

    Returns:
        `(N, width)`, RMS 0.707.
    """
    waves = torch.logspace(math.log10(SHORTEST_WAVE), math.log10(longest), width // 2)
    angles = positions.unsqueeze(1) * (2 * math.pi) / waves
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def _uniform(module: nn.Linear | nn.Conv2d | nn.Conv1d, generator: torch.Generator) -> None:
    """Weights and biases uniform in 1 / sqrt(fan-in)."""
    bound = module.weight[0].numel() ** -0.5
    module.weight.uniform_(-bound, bound, generator=generator)
    if module.bias is not None:
        module.bias.uniform_(-bound, bound, generator=generator)


def _scaled_attention(attention: HeadAttention, width: int, d_kv: int, generator: torch.Generator) -> None:
    attention.q.weight.normal_(0.0, (width * d_kv) ** -0.5, generator=generator)
    attention.k.weight.normal_(0.0, width**-0.5, generator=generator)
    attention.v.weight.normal_(0.0, width**-0.5, generator=generator)
    attention.o.weight.normal_(0.0, RESIDUAL_SCALE * width**-0.5, generator=generator)


def _reader_dimensions(width: int, d_kv: int) -> Tensor:
    """The dimensions of the sinusoid that a head of `d_kv` reads: evenly spaced waves, the sine and cosine of each."""
    waves = torch.linspace(0, width // 2 - 1, d_kv // 2).round().long()
    return torch.cat((waves, waves + width // 2))


def _time_reader(cross: HeadAttention, rows: Tensor, d_kv: int) -> None:
    """Make the first head compare times, and the others compare contents: their keys start as their queries.

    Args:
        cross: the cross-attention of one layer.
        rows: `(d_kv, d_model)`, each extracts one dimension of the turned sinusoid.
        d_kv: width of a head.
    """
    cross.k.weight.copy_(OTHER_KEY_SCALE * d_kv**0.5 * cross.q.weight)
    cross.q.weight[:d_kv] = READER_QUERY_SCALE * rows
    cross.k.weight[:d_kv] = READER_KEY_SCALE * rows
    cross.v.weight[:d_kv] = rows
    cross.o.weight[:, :d_kv] = rows.T
