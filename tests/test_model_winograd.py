"""Winograd's convolution is the plain one up to rounding, forward and backward; what a residual block does not store for the
backward pass is not missed there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model import residual
from stemscribe.model.pre_encoder import rectified_pairs
from stemscribe.model.residual import Kernels
from stemscribe.model.winograd import FEWEST_CHANNELS, OUT, STRIP_BINS, filtered, kernel_gradient, rows_of
from tiny_model import relative

BINS = 6
STRIP = OUT * (STRIP_BINS // BINS)  # frames


def exact(*shape: int) -> Tensor:
    """Random numbers in double precision that learn."""
    return torch.randn(*shape, dtype=torch.double).requires_grad_()


def gathered(features: Tensor, kernel: Tensor, shift: Tensor | None) -> Tensor:
    """All strips of a convolution, `(B, T, F, C_out)`."""
    out = torch.full((*features.shape[:3], len(kernel)), torch.nan, dtype=features.dtype)
    for here, strip in filtered(rows_of(features), features.shape, kernel, shift):
        out[here] = strip
    return out


def channels_first(features: Tensor) -> Tensor:
    return features.permute(0, 3, 1, 2)


# One tile and less, tiles that end with the map and beyond it, several strips.
@pytest.mark.parametrize("frames", [1, 2, OUT, OUT + 1, STRIP, 2 * STRIP + 3])
def test_half_of_the_products_give_the_same_convolution(frames):
    torch.manual_seed(0)
    features, kernel, shift = exact(2, frames, BINS, 3), exact(5, 3, 3, 3), exact(5)
    plain = F.conv2d(channels_first(features), kernel, shift, padding=1)
    towards = torch.randn_like(plain)
    (wanted,) = torch.autograd.grad(plain, kernel, towards)
    with torch.no_grad():
        assert relative(channels_first(gathered(features, kernel, shift)), plain) < 1e-12
        found = kernel_gradient(features, rows_of(towards.permute(0, 2, 3, 1).contiguous()), len(kernel))
    assert relative(found, wanted) < 1e-12


def test_rounding_is_hardly_worse_than_that_of_the_plain_sum():
    torch.manual_seed(0)
    features = torch.rand(1, 110, 16, FEWEST_CHANNELS)
    kernel, shift = torch.randn(FEWEST_CHANNELS, FEWEST_CHANNELS, 3, 3) * 0.02, torch.randn(FEWEST_CHANNELS)
    truth = F.conv2d(channels_first(features).double(), kernel.double(), shift.double(), padding=1)
    assert relative(channels_first(gathered(features, kernel, shift)).double(), truth) < 1e-5


def step_by_step(features: Tensor, kernels: Kernels) -> Tensor:
    """The block by the operations of PyTorch."""
    hidden = F.relu(F.conv2d(features, kernels.kernel1, kernels.shift1, padding=1))
    hidden = F.conv2d(hidden, kernels.kernel2, kernels.shift2, padding=1)
    shortcut = features if kernels.multiple is None else F.conv2d(features, kernels.multiple, kernels.offset)
    return F.avg_pool2d(F.relu(hidden + shortcut), (1, 2))


@pytest.mark.parametrize("planes", [1, 7])
def test_a_block_answers_and_learns_as_step_by_step(planes):
    torch.manual_seed(0)
    shortcut = (exact(7, 1, 1, 1), exact(7)) if planes == 1 else (None, None)
    kernels = Kernels(exact(7, planes, 3, 3), exact(7), exact(7, 7, 3, 3), exact(7), *shortcut)
    features = torch.randn(2, planes, 9, BINS, dtype=torch.double, requires_grad=planes > 1)
    ours, plain = residual.residual(features, kernels), step_by_step(features, kernels)
    assert relative(ours, plain) < 1e-12
    inputs = [each for each in (features, *kernels) if each is not None and each.requires_grad]
    towards = torch.randn_like(plain)
    pairs = (torch.autograd.grad(result, inputs, towards) for result in (ours, plain))
    for mine, theirs in zip(*pairs, strict=True):
        assert relative(mine, theirs) < 1e-12
    with torch.no_grad():
        assert torch.equal(residual.residual(features, kernels), ours)


def test_a_second_backward_pass_is_refused_and_not_wrong():
    kernels = Kernels(exact(3, 3, 3, 3), exact(3), exact(3, 3, 3, 3), exact(3), None, None)
    loss = residual.residual(torch.randn(1, 3, 4, BINS, dtype=torch.double), kernels).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_blocks_that_it_does_not_know_are_left_to_pytorch():
    kernel = torch.zeros(FEWEST_CHANNELS, FEWEST_CHANNELS, 3, 3)
    shift = torch.zeros(FEWEST_CHANNELS)
    known = Kernels(kernel, shift, kernel, shift, None, None)
    features = torch.zeros(1, FEWEST_CHANNELS, 4, BINS)
    assert residual.suits(features, known)
    assert not residual.suits(features.double(), known)
    few = Kernels(kernel[:9, :9], shift[:9], kernel[:9, :9], shift[:9], None, None)
    assert not residual.suits(features[:, :9], few)
    plane = Kernels(kernel[:, :1], shift, kernel, shift, kernel[:, :1, :1, :1], shift)
    assert residual.suits(features[:, :1], plane)
    assert not residual.suits(features[:, :1].clone().requires_grad_(), plane)  # nobody asks for it: it would cost a map
    with torch.autocast("cpu"):
        assert not residual.suits(features, known)


def test_pairs_of_bins_learn_from_their_signs_alone():
    torch.manual_seed(0)
    sums = torch.randn(2, 3, 4, 6, requires_grad=True)
    ours, plain = rectified_pairs(sums.clone()), F.avg_pool2d(F.relu(sums), (1, 2))
    assert torch.equal(ours, plain)
    towards = torch.randn_like(plain)
    mine, theirs = (torch.autograd.grad(result, sums, towards)[0] for result in (ours, plain))
    assert torch.equal(mine, theirs)
    with torch.no_grad():
        assert torch.equal(rectified_pairs(sums.clone()), plain)
