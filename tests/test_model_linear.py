"""Products by oneDNN are those of PyTorch up to rounding, with their gradients; norms are folded without a trace."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model import attention
from stemscribe.model.attention import _HeadByHead, attend, kept
from stemscribe.model.linear import linear
from stemscribe.model.moe import RUN_STEP, Expert, MixtureOfExperts, gated_linear
from stemscribe.model.pre_encoder import folded
from tiny_model import noise, relative, small_model


def gradients(result: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    """Of a sum whose gradient differs from place to place."""
    ramp = torch.linspace(-1.0, 1.0, result.numel()).view_as(result)
    return torch.autograd.grad((result * ramp).sum(), inputs)


def test_a_linear_layer_is_a_linear_layer():
    torch.manual_seed(0)
    x, weight, bias = torch.randn(3, 50, 24), torch.randn(40, 24), torch.randn(40)
    inputs = [part.requires_grad_() for part in (x, weight, bias)]
    ours, plain = linear(*inputs), F.linear(*inputs)
    assert relative(ours, plain) < 1e-5
    for mine, theirs in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert relative(mine, theirs) < 1e-5


def test_a_linear_layer_takes_the_gradient_of_a_sum():
    x, weight = torch.randn(9, 8), torch.randn(4, 8, requires_grad=True)
    linear(x, weight).sum().backward()  # an expanded scalar, no memory behind it
    assert torch.allclose(weight.grad, x.sum(0).expand(4, -1), atol=1e-5)


def test_nothing_is_no_trouble_for_a_linear_layer():
    assert linear(torch.zeros(0, 8), torch.randn(4, 8)).shape == (0, 4)


def test_a_gated_product_learns_as_its_parts_do():
    torch.manual_seed(0)
    inputs = [torch.randn(*shape, requires_grad=True) for shape in ((7, 6), (7, 6), (7, 3), (3, 6))]
    opened, through, gates, weight = inputs
    ours = gated_linear(*inputs)
    plain = F.linear(F.silu(opened) * through * gates.repeat_interleave(2, dim=-1), weight)
    assert relative(ours, plain) < 1e-5
    for mine, theirs in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert relative(mine, theirs) < 1e-5
    with torch.no_grad():
        assert relative(gated_linear(opened.clone(), through, gates, weight), plain) < 1e-5


def test_an_expert_that_keeps_nothing_but_its_run_learns_as_its_parts_do():
    torch.manual_seed(0)
    expert = Expert(width=6, hidden=10)
    run = torch.randn(7, 6, requires_grad=True)
    inputs = (run, *expert.parameters())
    ours = expert(run)
    plain = F.linear(F.silu(F.linear(run, expert.w1.weight)) * F.linear(run, expert.gate.weight), expert.w2.weight)
    assert relative(ours, plain) < 1e-5
    for mine, theirs in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert relative(mine, theirs) < 1e-5


@pytest.mark.parametrize("together", [0, attention.MOST_LOOKS])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_attention_learns_as_its_parts_do_few_or_many_heads_at_a_time(dropout, together, monkeypatch):
    monkeypatch.setattr(attention, "MOST_LOOKS", together)
    torch.manual_seed(0)
    queries, keys, values = inputs = [torch.randn(2, 3, n, 4, requires_grad=True) for n in (5, 6, 6)]
    mask = kept((2, 3, 5, 6), dropout) if dropout else None
    gain = 1 / (1 - dropout)
    ours = _HeadByHead.apply(*inputs, mask, gain)
    plain = ((queries @ keys.mT / 2).softmax(dim=-1) * (1 if mask is None else mask) * gain) @ values
    assert relative(ours, plain) < 1e-5
    for mine, theirs in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert relative(mine, theirs) < 1e-5


def test_attention_without_dropout_is_that_of_pytorch():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, n, 4) for n in (5, 6, 6)]
    assert relative(attend(*inputs, 0.0), F.scaled_dot_product_attention(*inputs)) < 1e-5
    asked_by_all = (inputs[0][:1].expand(2, -1, -1, -1), *inputs[1:])
    assert relative(attend(*asked_by_all, 0.0), F.scaled_dot_product_attention(*asked_by_all)) < 1e-5


def test_dropout_keeps_its_share_and_comes_from_the_seed():
    torch.manual_seed(7)
    mask = kept((1_000, 999), 0.1)
    assert abs(float(mask.float().mean()) - 0.9) < 0.002
    torch.manual_seed(7)
    assert torch.equal(kept((1_000, 999), 0.1), mask)
    ones = torch.ones(1, 1, 1_000, 8)
    assert abs(float(attend(ones, ones, ones, 0.1).mean()) - 1.0) < 0.01


@pytest.mark.parametrize("way", ["grouped", "dense"])
@pytest.mark.parametrize("tokens", [1, RUN_STEP, 300])
def test_experts_answer_and_learn_alike_whichever_way_they_are_asked(tokens: int, way: str):
    torch.manual_seed(0)
    mixture = MixtureOfExperts(width=16, hidden=32, experts=8, top_k=2)
    x = torch.randn(tokens, 16, requires_grad=True)
    weights = (x, *mixture.parameters())
    routed, other = mixture.routed(x), getattr(mixture, way)(x)
    assert relative(other, routed) < 1e-5
    ramp = torch.linspace(-1.0, 1.0, routed.numel()).view_as(routed)
    pairs = [torch.autograd.grad((y * ramp).sum(), weights, allow_unused=True) for y in (routed, other)]
    for mine, theirs in zip(*pairs, strict=True):
        if mine is not None and mine.abs().max() > 0:
            assert relative(theirs, mine) < 1e-4


def test_a_folded_norm_is_the_norm_and_learns_as_it_does():
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 5, kernel_size=3, padding=1, bias=False), nn.BatchNorm2d(5).eval()
    nn.init.uniform_(norm.weight, 0.5, 2.0), nn.init.uniform_(norm.bias)
    norm.running_mean.uniform_(-1.0, 1.0), norm.running_var.uniform_(0.2, 3.0)
    features = torch.randn(2, 3, 6, 8, requires_grad=True)  # the border, where zeros are read, is most of it
    inputs = (features, convolution.weight, norm.weight, norm.bias)
    ours, plain = F.conv2d(features, *folded(convolution, norm), padding=1), norm(convolution(features))
    assert relative(ours, plain) < 1e-5
    for mine, theirs in zip(gradients(ours, *inputs), gradients(plain, *inputs), strict=True):
        assert relative(mine, theirs) < 1e-4


@pytest.mark.parametrize(
    ("part", "still"), [("none", ()), ("conv", ("pre_encoder.",)), ("encoder", ("pre_encoder.", "encoder."))]
)
def test_a_frozen_part_gets_no_gradient_and_all_others_do(part, still):
    model = small_model([4])
    model.prune = True
    model.freeze(part)
    model.train()
    model(noise(model.config), torch.ones(2, 1, 4, dtype=torch.long)).square().sum().backward()
    silent = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert {name for name, _ in model.named_parameters() if still and name.startswith(still)} <= silent
    assert all(name.startswith((*still, "frame_head.")) for name in silent)
    for prefix in still:
        assert not any(module.training for name, module in model.named_modules() if f"{name}.".startswith(prefix))


def test_an_unknown_part_is_refused_by_name():
    with pytest.raises(ValueError, match="parts are none, conv, encoder"):
        small_model([4]).freeze("decoder")
