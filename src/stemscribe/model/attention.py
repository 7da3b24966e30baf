"""The encoder's attention unit: normalise, attend, project, add the input.

After Perceiver TF (Lu et al. 2023) as YourMT3+ builds it. The residual adds the input itself, not its
normalised form; dropout falls on the attention probabilities only; nothing is masked. Parameter names are the
reference's (`self.query`, `output.dense`...).

With `wanted` only some positions ask and all positions answer: the last layers of a pruned encoder need
nothing else, and what they compute for the wanted latents is what they would have computed anyway.
"""

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.linear import Linear, linear
from stemscribe.model.rotary import Rotary, rotate

NORM_EPSILON = 1e-5
DRAWS = 2**16  # steps in which a probability of dropout is drawn: four draws of one random number
MOST_LOOKS = 10**6  # probabilities up to which all heads are worked on together


def make_norm(kind: Literal["layer", "rms"], width: int) -> nn.Module:
    """The encoder's norm: LayerNorm in the published weights; RMS has no bias."""
    return nn.LayerNorm(width, eps=NORM_EPSILON) if kind == "layer" else nn.RMSNorm(width, eps=NORM_EPSILON)


class QueryKeyValue(nn.Module):
    """Norms and projections; `layernorm2` belongs to the source that a cross-attention reads."""

    def __init__(self, width: int, source_width: int | None, norm: Literal["layer", "rms"], rotary: Rotary) -> None:
        super().__init__()
        self.layernorm1 = make_norm(norm, width)
        if source_width is not None:
            self.layernorm2 = make_norm(norm, source_width)
        self.query = Linear(width, width)
        self.key = Linear(source_width or width, width)
        self.value = Linear(source_width or width, width)
        self.rotary_emb = rotary


class Output(nn.Module):
    """The projection after the heads are merged."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense = Linear(width, width)


class Attention(nn.Module):
    """Multi-head attention with a residual; cross-attention if `source_width` is given, else self-attention."""

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        norm: Literal["layer", "rms"],
        rotary: Rotary,
        source_width: int | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.self = QueryKeyValue(width, source_width, norm, rotary)
        self.output = Output(width)

    def forward(self, x: Tensor, turns: Tensor, source: Tensor | None = None, wanted: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: `(M, N, d)`, what asks; in cross-attention `(1, N, d)` asks the same of every source.
            turns: rotation of the queries, `(N, width / 2)`, or `(B, 1, W, width / 2)` with `wanted`.
            source: `(M, K, source_width)`, what is read by a cross-attention.
            wanted: `(B, W)`, positions in [0, N) that ask in each of B equal runs of M; all of them without
                it.

        Returns:
            `(M, N, d)`, or `(M, W, d)` with `wanted`.
        """
        parts = self.self
        asking = parts.layernorm1(x)
        read = asking if source is None else parts.layernorm2(source)
        runs = 1 if wanted is None else len(wanted)
        if wanted is None and source is None:
            turning, keys, values = self._split(asking, parts.query, parts.key, parts.value)
        else:
            if wanted is not None:
                asking, x = pick(asking, wanted), pick(x, wanted)
            (turning,) = self._split(asking, parts.query)
            keys, values = self._split(read, parts.key, parts.value)
        queries = rotate(torch.unflatten(turning, 0, (runs, -1)), turns).flatten(0, 1)
        mixed = attend(
            queries.transpose(1, 2).expand(len(read), -1, -1, -1),
            keys.transpose(1, 2),
            values.transpose(1, 2),
            self.dropout if self.training else 0.0,
        )
        projected: Tensor = self.output.dense(mixed.transpose(1, 2).flatten(2))
        return projected + x

    def _split(self, features: Tensor, *projections: nn.Linear) -> tuple[Tensor, ...]:
        """Projections of `(M, N, d)` in one product, `(M, N, heads, D)` each."""
        weight = torch.cat([projection.weight for projection in projections])
        bias = torch.cat([projection.bias for projection in projections])
        return torch.unflatten(linear(features, weight, bias), -1, (len(projections), self.heads, -1)).unbind(2)


def attend(queries: Tensor, keys: Tensor, values: Tensor, dropout: float) -> Tensor:
    """Attention of `(M, heads, N, D)` to `(M, heads, K, D)`, scaled by 1 / sqrt(D).

    On a CPU, in fp32, head by head: the probabilities of one head stay in the cache, and nothing needs to be copied together
    first. PyTorch's fused kernel is slower here, since M is large and heads are narrow, and it knows no dropout on CPUs; what
    PyTorch does then keeps three maps of the size of the probabilities, of four bytes each.
    """
    if not _by_head(queries):
        return F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout)
    mask = kept((*queries.shape[:-1], keys.shape[-2]), dropout) if dropout else None
    heard: Tensor = _HeadByHead.apply(queries, keys, values, mask, 1 / (1 - dropout))  # type: ignore[no-untyped-call]
    return heard


def _by_head(queries: Tensor) -> bool:
    plain = not torch.is_autocast_enabled("cpu") and not torch.compiler.is_compiling()
    return queries.device.type == "cpu" and queries.dtype == torch.float32 and plain


def kept(shape: tuple[int, ...], dropout: float) -> Tensor:
    """Zeros with probability `dropout`, else ones: uint8, from the default generator of the CPU."""
    count = math.prod(shape)
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)[:count]
    return (draws >= round(dropout * DRAWS) - DRAWS // 2).view(torch.uint8).view(shape)


class _HeadByHead(torch.autograd.Function):
    """Attention, with dropout on the probabilities if there is a mask; they are computed again in the backward pass.

    Args:
        queries: `(M, heads, N, D)`.
        keys: `(M, heads, K, D)`.
        values: `(M, heads, K, D)`.
        mask: `(M, heads, N, K)`, 0 or 1, a byte each.
        gain: of what the mask leaves.
    """

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, gain: float) -> Tensor:
        ctx.save_for_backward(queries, keys, values, mask)
        ctx.gain = gain
        heard = _heads_apart(queries)
        for heads in _groups(queries, keys):
            asking, read, said = (each[:, heads].flatten(0, 1) for each in (queries, keys, values))
            looks = _looks(asking, read)
            if mask is not None:
                looks.mul_(mask[:, heads].flatten(0, 1).to(looks.dtype))
            _put(_products(looks, said, gain), heard[:, heads])
        return heard

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        queries, keys, values, mask = ctx.saved_tensors
        scale = queries.shape[-1] ** -0.5
        towards_queries, towards_keys, towards_values = (_heads_apart(each) for each in (queries, keys, values))
        for heads in _groups(queries, keys):
            asking, read, said, towards = (each[:, heads].flatten(0, 1) for each in (queries, keys, values, gradient))
            looks, towards_looks = _looks(asking, read), _products(towards, said.mT, ctx.gain)
            left = looks
            if mask is not None:
                left = mask[:, heads].flatten(0, 1).to(looks.dtype)
                towards_looks.mul_(left)
                left.mul_(looks)
            _put(_products(left.mT, towards, ctx.gain), towards_values[:, heads])
            scores = torch._softmax_backward_data(towards_looks, looks, -1, looks.dtype)
            _put(_products(scores, read, scale), towards_queries[:, heads])
            _put(_products(scores.mT, asking, scale), towards_keys[:, heads])
        return towards_queries, towards_keys, towards_values, None, None


def _groups(queries: Tensor, keys: Tensor) -> list[slice]:
    """Heads that are worked on together: all where that is little, else one at a time, which needs no copies."""
    runs, heads, asking = queries.shape[:3]
    together = heads if runs * heads * asking * keys.shape[2] <= MOST_LOOKS else 1
    return [slice(first, first + together) for first in range(0, heads, together)]


def _heads_apart(like: Tensor) -> Tensor:
    """An empty `(M, heads, N, D)` in which the heads of a position lie side by side, as projections want them."""
    runs, heads, positions, width = like.shape
    return like.new_empty(runs, positions, heads, width).transpose(1, 2)


def _put(flat: Tensor, into: Tensor) -> None:
    """Copy `(M h, N, D)` to `(M, h, N, D)`."""
    into.copy_(flat.view(into.shape))


def _products(left: Tensor, right: Tensor, factor: float) -> Tensor:
    """`factor * left @ right` of `(M, a, b)` and `(M, b, c)`."""
    return torch.baddbmm(left.new_empty(()).expand(len(left), left.shape[1], right.shape[2]), left, right, beta=0, alpha=factor)


def _looks(queries: Tensor, keys: Tensor) -> Tensor:
    """Probabilities `(M, N, K)`."""
    return _products(queries, keys.mT, queries.shape[-1] ** -0.5).softmax(dim=-1)


def pick(x: Tensor, wanted: Tensor) -> Tensor:
    """Keep the wanted positions of each run.

    Args:
        x: `(M, N, d)`, M = B runs of equal length.
        wanted: `(B, W)`, positions in [0, N).

    Returns:
        `(M, W, d)`.
    """
    runs, count = wanted.shape
    grouped = torch.unflatten(x, 0, (runs, -1))
    index = wanted[:, None, :, None].expand(-1, grouped.shape[1], count, x.shape[-1])
    return grouped.gather(2, index).flatten(0, 1)
