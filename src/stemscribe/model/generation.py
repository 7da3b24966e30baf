"""Greedy decoding with a cache: one token a step for all streams that are still speaking.

The tokens are exactly those of the reference's loop, and each stream's tokens do not depend on its company (up to rounding;
with `int8` up to its coarser one). Weights are laid out once for all steps (`projection.py`), the memory's keys and values are
computed once a stream, those of the tokens lie in a cache that grows. A stream that has ended leaves the batch, so a silent
channel costs a few steps instead of the loudest channel's hundred. Quirks kept:

* the start token is PAD, and what is recorded after the end is PAD;
* an end as the very first token is not noticed: that stream goes on until the next one.
"""

from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model.decoder import DecoderLayer, DecoderStack, RootMeanSquareNorm
from stemscribe.model.projection import Projection, gate, projection

LOOK_EVERY = 4  # steps between looks at who has ended; each look waits for the device
LEAVE_BELOW = 0.8  # share of the batch still speaking below which the ended streams are taken out
GROWTH = 64  # steps for which a cache has room when it grows; a cache that is mostly empty is slow to read


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer, laid out for steps of one token."""

    self_norm: RootMeanSquareNorm
    cross_norm: RootMeanSquareNorm
    feed_norm: RootMeanSquareNorm
    query_key_value: Projection
    self_output: Projection
    cross_query: Projection
    cross_key_value: Projection
    cross_output: Projection
    rise: Projection
    fall: Projection
    heads: int

    @classmethod
    def of(cls, layer: DecoderLayer, kind: torch.dtype, int8: bool) -> Self:
        """See `projection` for `kind` and `int8`."""
        own, cross = layer.self_attention.SelfAttention, layer.cross_attention.EncDecAttention
        feed = layer.feed_forward.DenseReluDense

        def laid_out(*linears: torch.nn.Linear) -> Projection:
            return projection([linear.weight for linear in linears], kind, int8)

        return cls(
            self_norm=layer.self_attention.layer_norm,
            cross_norm=layer.cross_attention.layer_norm,
            feed_norm=layer.feed_forward.layer_norm,
            query_key_value=laid_out(own.q, own.k, own.v),
            self_output=laid_out(own.o),
            cross_query=laid_out(cross.q),
            cross_key_value=laid_out(cross.k, cross.v),
            cross_output=laid_out(cross.o),
            rise=gate(feed.wi_0.weight, feed.wi_1.weight, kind, int8),
            fall=laid_out(feed.wo),
            heads=own.heads,
        )


@dataclass(frozen=True)
class DecoderWeights:
    """All that a step reads, laid out once; it does not notice when the model's weights change."""

    embedding: Tensor  # (V, d)
    positions: Tensor  # (N, d)
    layers: tuple[LayerWeights, ...]
    norm: RootMeanSquareNorm
    head: Projection
    kind: torch.dtype

    @classmethod
    def of(cls, stack: DecoderStack, embedding: Tensor, head: Tensor, int8: bool = False) -> Self:
        """Lay out a decoder.

        Args:
            stack: layers, positions and the last norm.
            embedding: rows of the tokens `(V, d)`.
            head: output rows of the tokens `(V, d)`; their scale does not matter here.
            int8: quantise every projection, the head included.
        """
        device = embedding.device.type
        halved = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device) and not int8
        kind = torch.get_autocast_dtype(device) if halved else torch.float32 if int8 else embedding.dtype
        layers = tuple(LayerWeights.of(layer, kind, int8) for layer in stack.block if isinstance(layer, DecoderLayer))
        last = stack.final_layer_norm
        return cls(embedding, stack.additive_pe.weight, layers, last, projection([head], kind, int8), kind)


class CachedLayer:
    """What one layer remembers of S streams: keys and values `(2, S, heads, N, d_kv)`, of the tokens and of the memory."""

    def __init__(self, weights: LayerWeights, memory: Tensor) -> None:
        self._weights = weights
        pairs = torch.unflatten(weights.cross_key_value(memory), -1, (2, weights.heads, -1))  # (S, T, 2, heads, d_kv)
        self._heard = pairs.permute(2, 0, 3, 1, 4).contiguous()
        self._said = self._heard[:, :, :, :0]

    def step(self, x: Tensor, position: int) -> Tensor:
        """The layer's output `(S, d)` for the token at `position`, given its input `(S, d)`."""
        weights = self._weights
        fused = torch.unflatten(weights.query_key_value(weights.self_norm(x)), -1, (3, weights.heads, -1))
        if position == self._said.shape[3]:
            self._grow()
        self._said[:, :, :, position] = fused[:, 1:].transpose(0, 1)
        x = x + weights.self_output(_attend(fused[:, 0], self._said[:, :, :, : position + 1]))
        query = torch.unflatten(weights.cross_query(weights.cross_norm(x)), -1, (weights.heads, -1))
        x = x + weights.cross_output(_attend(query, self._heard))
        return x + weights.fall(weights.rise(weights.feed_norm(x)))

    def keep(self, rows: Tensor) -> None:
        """Forget all streams but `rows`."""
        self._said, self._heard = self._said[:, rows], self._heard[:, rows]

    def _grow(self) -> None:
        pairs, streams, heads, length, width = self._said.shape
        grown = self._said.new_empty(pairs, streams, heads, length + GROWTH, width)
        grown[:, :, :, :length] = self._said
        self._said = grown


def _attend(query: Tensor, cache: Tensor) -> Tensor:
    """Queries `(S, heads, d_kv)`, one a stream, to a cache `(2, S, heads, N, d_kv)` -> merged heads `(S, heads * d_kv)`."""
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query.unsqueeze(2), cache[0], cache[1], scale=1.0).flatten(1)
    # For a single query two plain products read the cache faster than the fused kernel, which is made for blocks of queries.
    keys, values = cache.flatten(1, 2)
    looks = torch.bmm(query.flatten(0, 1).unsqueeze(1), keys.mT).softmax(dim=-1)
    return torch.bmm(looks, values).view(len(query), -1)


def greedy(weights: DecoderWeights, memory: Tensor, max_length: int, pad: int, eos: int) -> Tensor:
    """Decode streams to their end.

    Args:
        weights: the decoder's.
        memory: `(S, T, d)`, positions included where the model has them.
        max_length: tokens a stream may have.
        pad: the token that starts a stream and follows its end.
        eos: the token that ends a stream.

    Returns:
        Tokens `(S, L)`, L the length of the longest stream, at most `max_length`.
    """
    streams, device = len(memory), memory.device
    layers = [CachedLayer(layer, memory.to(weights.kind)) for layer in weights.layers]
    tokens = torch.full((streams, max_length), pad, dtype=torch.long, device=device)
    lengths = torch.full((streams,), max_length, dtype=torch.long, device=device)
    rows = torch.arange(streams, device=device)
    last = torch.full((streams,), pad, dtype=torch.long, device=device)
    ended = torch.zeros(streams, dtype=torch.bool, device=device)
    for position in range(max_length):
        x = weights.embedding[last] + weights.positions[position]
        for layer in layers:
            x = layer.step(x, position)
        last = weights.head(weights.norm(x)).argmax(dim=-1)
        tokens[rows, position] = last.masked_fill(ended, pad)
        if position == 0:
            continue  # an end as the very first token is not noticed
        ends = (last == eos) & ~ended
        lengths[rows] = torch.where(ends, position + 1, lengths[rows])
        ended = ended | ends
        if position % LOOK_EVERY == 0:
            speaking = (~ended).nonzero().flatten()
            if len(speaking) == 0:
                break
            if len(speaking) < LEAVE_BELOW * len(rows):
                for layer in layers:
                    layer.keep(speaking)
                rows, last, ended = rows[speaking], last[speaking], ended[speaking]
    return tokens[:, : int(lengths.max())]
