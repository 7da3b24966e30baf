"""T5 decoder: every channel of every segment is a stream of its own, which reads that channel's frames.

Token embedding plus fixed sinusoids, then layers of self-attention, cross-attention and a gated feed-forward
network, all pre-normalised by RMS and without biases. After T5 v1.1 (Raffel et al. 2020, Shazeer 2020), as
YourMT3+ builds it. Quirks kept:

* attention has no 1 / sqrt(d) (T5 folds it into the initial weights) and no relative position bias;
* the states that are attended to are not normalised;
* the inner width (heads * d_kv) need not equal `d_model`; padding is not masked, which is harmless under a
  causal mask.

Dropout in training: the input, each sub-layer's output, the gated product and the last norm's output at one
rate, the attention probabilities at another (zero keeps the fused attention kernel on CPUs).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.config import ModelConfig
from stemscribe.model.linear import Linear

NORM_EPSILON = 1e-6


class RootMeanSquareNorm(nn.Module):
    """x / rms(x) * weight: no mean is taken away, no bias added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """`(..., d)` -> `(..., d)`."""
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPSILON)


class SinusoidTable(nn.Module):
    """Fixed positions `(positions, d)`: sines in the first half, cosines in the second; stored with the weights."""

    weight: Tensor

    def __init__(self, positions: int, width: int) -> None:
        super().__init__()
        wavelengths = 10_000.0 ** (2 * torch.arange(width // 2) / width)
        angles = torch.arange(positions).unsqueeze(1) / wavelengths
        self.register_buffer("weight", torch.cat((angles.sin(), angles.cos()), dim=1))


class HeadAttention(nn.Module):
    """Multi-head attention with scale 1 and no biases; `SelfAttention` if nothing else is read."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.decoder_heads * config.d_kv
        self.heads = config.decoder_heads
        self.dropout = config.attention_dropout
        self.q = Linear(config.d_model, inner, bias=False)
        self.k = Linear(config.d_model, inner, bias=False)
        self.v = Linear(config.d_model, inner, bias=False)
        self.o = Linear(inner, config.d_model, bias=False)

    def forward(self, x: Tensor, memory: Tensor | None, alignments: list[Tensor] | None = None) -> Tensor:
        """Attend causally to `x` itself, or to all of `memory`.

        Args:
            x: `(S, L, d)` of S streams.
            memory: `(S, T, d)` or None.
            alignments: if given, the first head's log-probabilities `(S, L, T)` are appended to it.
        """
        read = x if memory is None else memory
        queries, keys, values = (self.split(features) for features in (self.q(x), self.k(read), self.v(read)))
        if alignments is not None:
            alignments.append((queries[:, 0] @ keys[:, 0].mT).float().log_softmax(dim=-1))
        mixed = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=memory is None,
            scale=1.0,
        )
        projected: Tensor = self.o(mixed.transpose(1, 2).flatten(2))
        return projected

    def split(self, features: Tensor) -> Tensor:
        """`(S, N, heads * d_kv)` -> `(S, heads, N, d_kv)`."""
        return torch.unflatten(features, -1, (self.heads, -1)).transpose(1, 2)


class GatedFeedForward(nn.Module):
    """Wo( gelu(wi_0 x) * wi_1 x ), with the tanh form of gelu."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.dropout = nn.Dropout(config.decoder_dropout)
        self.wi_0 = Linear(config.d_model, config.d_ff, bias=False)
        self.wi_1 = Linear(config.d_model, config.d_ff, bias=False)
        self.wo = Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., d)` -> `(..., d)`."""
        opened: Tensor = self.wo(self.dropout(F.gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x)))
        return opened


class SelfSublayer(nn.Module):
    """Norm and causal self-attention."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.SelfAttention = HeadAttention(config)
        self.layer_norm = RootMeanSquareNorm(config.d_model)


class CrossSublayer(nn.Module):
    """Norm and attention to the encoder's states."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.EncDecAttention = HeadAttention(config)
        self.layer_norm = RootMeanSquareNorm(config.d_model)


class FeedForwardSublayer(nn.Module):
    """Norm and gated feed-forward network."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.DenseReluDense = GatedFeedForward(config)
        self.layer_norm = RootMeanSquareNorm(config.d_model)


class DecoderLayer(nn.Module):
    """Three sub-layers, each on the normalised sum so far; `layer.0`, `.1`, `.2` are the reference's names."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList([SelfSublayer(config), CrossSublayer(config), FeedForwardSublayer(config)])
        self.dropout = nn.Dropout(config.decoder_dropout)

    @property
    def self_attention(self) -> SelfSublayer:
        """The first sub-layer."""
        sublayer = self.layer[0]
        assert isinstance(sublayer, SelfSublayer)
        return sublayer

    @property
    def cross_attention(self) -> CrossSublayer:
        """The second sub-layer."""
        sublayer = self.layer[1]
        assert isinstance(sublayer, CrossSublayer)
        return sublayer

    @property
    def feed_forward(self) -> FeedForwardSublayer:
        """The third sub-layer."""
        sublayer = self.layer[2]
        assert isinstance(sublayer, FeedForwardSublayer)
        return sublayer

    def forward(self, x: Tensor, memory: Tensor, alignments: list[Tensor] | None = None) -> Tensor:
        """`(S, L, d)` with `memory (S, T, d)` -> `(S, L, d)`."""
        own, cross, feed = self.self_attention, self.cross_attention, self.feed_forward
        x = x + self.dropout(own.SelfAttention(own.layer_norm(x), None))
        x = x + self.dropout(cross.EncDecAttention(cross.layer_norm(x), memory, alignments))
        x = x + self.dropout(feed.DenseReluDense(feed.layer_norm(x)))
        return x


class DecoderStack(nn.Module):
    """Positions, layers and the last norm."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.additive_pe = SinusoidTable(config.positions, config.d_model)
        self.block = nn.ModuleList([DecoderLayer(config) for _ in range(config.decoder_layers)])
        self.final_layer_norm = RootMeanSquareNorm(config.d_model)
        self.dropout = nn.Dropout(config.decoder_dropout)

    def forward(self, embedded: Tensor, memory: Tensor, alignments: list[Tensor] | None = None) -> Tensor:
        """Decode.

        Args:
            embedded: token embeddings `(S, L, d)`, L at most the number of positions.
            memory: `(S, T, d)`.
            alignments: if given, each layer appends its cross-attention's first head, see `HeadAttention`.

        Returns:
            Hidden states `(S, L, d)`, normalised.
        """
        x = self.dropout(embedded + self.additive_pe.weight[: embedded.shape[1]])
        for layer in self.block:
            x = layer(x, memory, alignments)
        hidden: Tensor = self.dropout(self.final_layer_norm(x))
        return hidden


class Decoder(nn.Module):
    """The reference's outer shell, so that keys read `decoder.decoder...`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.decoder = DecoderStack(config)

    def forward(self, embedded: Tensor, memory: Tensor, alignments: list[Tensor] | None = None) -> Tensor:
        """See `DecoderStack`."""
        hidden: Tensor = self.decoder(embedded, memory, alignments)
        return hidden
