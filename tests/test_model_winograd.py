"""Winograd's convolution is the plain one up to rounding, forward and backward; what is not stored for the backward pass is not
missed there."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stemscribe.model.pre_encoder import rectified_pairs
from stemscribe.model.winograd import FEWEST_CHANNELS, OUT, STRIP, _Winograd, convolve
from tiny_model import relative


def exact(*shape: int) -> Tensor:
    """Random numbers in double precision that learn."""
    return torch.randn(*shape, dtype=torch.double).requires_grad_()


# One tile and less, tiles that end with the map and beyond it, several strips.
@pytest.mark.parametrize("frames", [1, 2, OUT, OUT + 1, OUT * STRIP, 2 * OUT * STRIP + 3])
def test_half_of_the_products_give_the_same_convolution(frames):
    torch.manual_seed(0)
    inputs = exact(2, 3, frames, 6), exact(5, 3, 3, 3), exact(5)
    ours, plain = _Winograd.apply(*inputs), F.conv2d(*inputs, padding=1)
    assert relative(ours, plain) < 1e-12
    towards = torch.randn_like(plain)
    pairs = (torch.autograd.grad(result, inputs, towards) for result in (ours, plain))
    for mine, theirs in zip(*pairs, strict=True):
        assert relative(mine, theirs) < 1e-12


def test_rounding_is_hardly_worse_than_that_of_the_plain_sum():
    torch.manual_seed(0)
    features = torch.rand(1, FEWEST_CHANNELS, 110, 16)
    kernel, shift = torch.randn(FEWEST_CHANNELS, FEWEST_CHANNELS, 3, 3) * 0.02, torch.randn(FEWEST_CHANNELS)
    truth = F.conv2d(features.double(), kernel.double(), shift.double(), padding=1)
    assert relative(convolve(features, kernel, shift).double(), truth) < 1e-5


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
