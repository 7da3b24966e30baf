"""Mixture of experts: each token is served by its best few feed-forward networks; tokens never see each other.

y = sum over the top k experts e of w_e * W2_e( silu(W1_e x) * G_e x ), with w the router's softmax,
renormalised over those k.

After Shazeer et al. 2017 and Mixtral (Jiang et al. 2024), as YourMT3+ has it. Quirks kept: no capacity limit,
no load-balancing loss, no dropout; ties go by the order of `torch.topk`; a token whose best experts nearly
tie may change experts when the rounding changes, which is where most of the difference between two exact
implementations comes from.

There are three ways to the same sum:

* few experts are all computed in one matrix product, and a mask of gates drops the rest (twice the arithmetic
  at 2 of 4, but a sixth of the calls);
* many experts are routed: tokens are sorted by expert, each expert takes its own run, for which the lengths of
  the runs are looked at;
* many experts on an accelerator in bf16: the same, as two grouped products that take the lengths where they
  are, so that the host waits for nothing.

Tokens move into the order of experts and back by gathering, in the backward pass too: that is deterministic and
in parallel, which the gradient of plain indexing is not on every device.
"""

from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.linear import Linear, linear

DENSE_LIMIT = 4  # experts up to which computing all of them is faster than sorting
RUN_STEP = 64  # rows of which a run of tokens is a multiple


class Expert(nn.Module):
    """The weights of one gated feed-forward network, without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w1 = Linear(width, hidden, bias=False)
        self.gate = Linear(width, hidden, bias=False)
        self.w2 = Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """`(n, d)` -> `(n, d)`."""
        if torch.is_autocast_enabled(x.device.type):
            served: Tensor = self.w2(F.silu(self.w1(x)) * self.gate(x))
        else:
            served = _Served.apply(x, self.w1.weight, self.gate.weight, self.w2.weight)  # type: ignore[no-untyped-call]
        return served


class MixtureOfExperts(nn.Module):
    """Router and experts; `(..., d)` -> `(..., d)`."""

    def __init__(self, width: int, hidden: int, experts: int, top_k: int) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList([Expert(width, hidden) for _ in range(experts)])

    def forward(self, x: Tensor) -> Tensor:
        """Serve every token, by whichever way is fastest for this number of experts on this device."""
        tokens = x.flatten(0, -2)
        if len(self.experts) <= DENSE_LIMIT:
            served = self.dense(tokens)
        elif tokens.device.type != "cpu" and _kind(tokens) == torch.bfloat16:
            served = self.grouped(tokens)
        else:
            served = self.routed(tokens)
        return served.view_as(x)

    def route(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the experts of each token, `(n, top_k)` each; the softmax is fp32."""
        probabilities = self.gate(tokens).float().softmax(dim=-1)
        best, chosen = probabilities.topk(self.top_k, dim=-1)
        return (best / best.sum(dim=-1, keepdim=True)).to(tokens.dtype), chosen

    def dense(self, tokens: Tensor) -> Tensor:
        """All experts of all tokens `(n, d)`, the unchosen ones times zero."""
        weights, chosen = self.route(tokens)
        experts = self._experts()
        gates = weights.new_zeros(len(tokens), len(experts)).scatter(-1, chosen, weights)
        opened = linear(tokens, torch.cat([expert.w1.weight for expert in experts]))
        through = linear(tokens, torch.cat([expert.gate.weight for expert in experts]))
        return gated_linear(opened, through, gates, torch.cat([expert.w2.weight for expert in experts], dim=1))

    def routed(self, tokens: Tensor) -> Tensor:
        """Each expert on its own tokens of `(n, d)`; one look at the device's counts per call.

        A run is filled up to a multiple of `RUN_STEP` rows (copies of the first token, whose answers nobody takes): on a CPU
        each new shape of a product costs a compilation, which takes longer than the product.
        """
        weights, chosen = self.route(tokens)
        counts = chosen.flatten().bincount(minlength=len(self.experts)).tolist()
        filled = [-(-count // RUN_STEP) * RUN_STEP for count in counts]
        shift = torch.tensor([0, *accumulate(a - b for a, b in zip(filled, counts, strict=True))], device=tokens.device)
        places = _places(chosen) + shift[chosen]
        runs = torch.split(_Spread.apply(tokens, places, sum(filled)), filled)  # type: ignore[no-untyped-call]
        served = torch.cat([expert(run) for expert, run in zip(self._experts(), runs, strict=True)])
        return _answers(served, weights, places)

    def grouped(self, tokens: Tensor) -> Tensor:
        """The same without a look at the counts: one grouped product up and one down, in bf16 under autocast."""
        weights, chosen = self.route(tokens)
        places = _places(chosen)
        ends = F.one_hot(chosen.flatten(), len(self.experts)).sum(0).cumsum(0).to(torch.int32)
        kind = _kind(tokens)
        rise = torch.stack([torch.cat((expert.w1.weight, expert.gate.weight)) for expert in self._experts()])
        fall = torch.stack([expert.w2.weight for expert in self._experts()])
        runs = _Spread.apply(tokens, places, places.numel()).to(kind)  # type: ignore[no-untyped-call]
        opened, through = F.grouped_mm(runs, rise.to(kind).mT, offs=ends).chunk(2, dim=-1)
        served = F.grouped_mm(F.silu(opened) * through, fall.to(kind).mT, offs=ends)
        return _answers(served.to(tokens.dtype), weights, places)

    def _experts(self) -> list[Expert]:
        return [expert for expert in self.experts if isinstance(expert, Expert)]


def _places(chosen: Tensor) -> Tensor:
    """Where each of the choices `(n, k)` stands when they are sorted by expert."""
    order = chosen.flatten().argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device)).view_as(chosen)


def _answers(served: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Bring `(m, d)` from its places `(n, k)` back to its tokens, weigh and add up `(n, d)`."""
    gathered: Tensor = _Collect.apply(served, places)  # type: ignore[no-untyped-call]
    return (gathered * weights.unsqueeze(-1)).sum(1).to(served.dtype)


def gated_linear(opened: Tensor, through: Tensor, gates: Tensor, weight: Tensor) -> Tensor:
    """`(silu(opened) * through * gates) W^T`; for the backward pass only the arguments are kept.

    Args:
        opened: `(n, h)`; written over where nothing learns.
        through: `(n, h)`.
        gates: `(n, e)` of e experts that lie side by side in h.
        weight: `(d, h)`.

    Returns:
        `(n, d)`.
    """
    if not torch.is_grad_enabled():
        return linear(_gated(F.silu(opened, inplace=True).mul_(through), gates), weight)
    if torch.is_autocast_enabled(opened.device.type):
        return linear(_gated(F.silu(opened) * through, gates), weight)
    served: Tensor = _GatedLinear.apply(opened, through, gates, weight)  # type: ignore[no-untyped-call]
    return served


def _gated(hidden: Tensor, gates: Tensor) -> Tensor:
    """`(n, h)`, which is written over, times the gates of its e parts `(n, e)`."""
    torch.unflatten(hidden, -1, (gates.shape[-1], -1)).mul_(gates.unsqueeze(-1))
    return hidden


def _kind(tokens: Tensor) -> torch.dtype:
    """The type in which products are taken here."""
    device = tokens.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else tokens.dtype


class _Spread(torch.autograd.Function):
    """Copies of tokens `(n, d)` at their places `(n, k)` in `(m, d)`; places that nobody has hold the first token."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, places: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(places)
        copies = torch.arange(len(tokens), device=places.device).repeat_interleave(places.shape[1])
        return tokens.index_select(0, copies.new_zeros(size).scatter_(0, places.flatten(), copies))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return torch.unflatten(gradient.index_select(0, places.flatten()), 0, places.shape).sum(1), None, None


class _Collect(torch.autograd.Function):
    """Rows `(n, k, d)` of `(m, d)` from their places `(n, k)`, each at most once."""

    @staticmethod
    def forward(ctx: Any, served: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.size = len(served)
        return torch.unflatten(served.index_select(0, places.flatten()), 0, places.shape)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        spread = gradient.new_zeros(ctx.size, gradient.shape[-1])
        return spread.index_copy_(0, places.flatten(), gradient.flatten(0, 1)), None


class _Served(torch.autograd.Function):
    """An expert's answer `(n, d)` to its run; the backward pass keeps the run alone, and makes both hidden products again.

    Each is four times as wide as the run; of all experts in all layers they would be the largest part of what is kept.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, rise: Tensor, gate: Tensor, fall: Tensor) -> Tensor:
        ctx.save_for_backward(x, rise, gate, fall)
        return linear(F.silu(linear(x, rise), inplace=True).mul_(linear(x, gate)), fall)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, rise, gate, fall = ctx.saved_tensors
        opened, through = linear(x, rise), linear(x, gate)
        risen = F.silu(opened)
        towards = linear(gradient, fall.t())
        towards_fall = gradient.t() @ (risen * through)
        towards_through = risen.mul_(towards)
        towards_opened = torch.ops.aten.silu_backward(towards.mul_(through), opened)
        towards_x = linear(towards_opened, rise.t()) + linear(towards_through, gate.t())
        return towards_x, towards_opened.t() @ x, towards_through.t() @ x, towards_fall


class _GatedLinear(torch.autograd.Function):
    """SiLU, product and projection in one step: neither the SiLU nor the product is stored, both are quickly made again."""

    @staticmethod
    def forward(ctx: Any, opened: Tensor, through: Tensor, gates: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(opened, through, gates, weight)
        return linear(_gated(F.silu(opened).mul_(through), gates), weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        opened, through, gates, weight = ctx.saved_tensors
        risen = F.silu(opened)
        hidden = risen * through
        towards = linear(gradient, weight.t())
        towards_gates = torch.unflatten(towards * hidden, -1, (gates.shape[-1], -1)).sum(-1)
        _gated(towards, gates)
        towards_weight = gradient.t() @ _gated(hidden, gates) if ctx.needs_input_grad[3] else None
        towards_through = risen.mul_(towards)
        return torch.ops.aten.silu_backward(towards.mul_(through), opened), towards_through, towards_gates, towards_weight
