"""Spectrogram -> convolutional features: three residual blocks that halve the frequencies and keep every frame.

After the Res2D pre-encoder of YourMT3+; the most expensive part of the full model (42 of 60 GMAC of the
encoder per segment). The convolutions run channels-last, which on CPUs and tensor cores is the faster layout.

Batch normalisation takes the statistics of the batch in training mode. With small batches of a single stem
these drift away from the pretrained ones; `YourMT3.freeze_batch_norm` keeps the running statistics in force.
Wherever they are in force, training included, each norm is folded into the convolution before it.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.residual import Kernels, residual, suits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut, then average pooling over pairs of frequency bins."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_out)
        self.bn2 = nn.BatchNorm2d(channels_out)
        self.conv1 = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels_out, channels_out, kernel_size=3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels_in, channels_out, kernel_size=1) if channels_in != channels_out else None

    def forward(self, features: Tensor) -> Tensor:
        """`(B, C_in, T, F)` -> `(B, C_out, T, F / 2)`."""
        kernels = self._folded()
        if kernels is None:
            hidden = F.relu(self.bn1(self.conv1(features)), inplace=True)
            hidden = self.bn2(self.conv2(hidden))
        elif suits(features, kernels):
            return residual(features, kernels)
        else:
            hidden = F.relu(F.conv2d(features, kernels.kernel1, kernels.shift1, padding=1), inplace=True)
            hidden = F.conv2d(hidden, kernels.kernel2, kernels.shift2, padding=1)
        return rectified_pairs(hidden.add_(features if self.shortcut is None else widened(self.shortcut, features)))

    def _folded(self) -> Kernels | None:
        """Both convolutions with their norms folded in; None where a norm takes the statistics of the batch."""
        first, second = folded(self.conv1, self.bn1), folded(self.conv2, self.bn2)
        if first is None or second is None:
            return None
        shortcut = (None, None) if self.shortcut is None else (self.shortcut.weight, self.shortcut.bias)
        return Kernels(*first, *second, *shortcut)


def widened(convolution: nn.Conv2d, plane: Tensor) -> Tensor:
    """A 1x1 convolution of one plane `(B, 1, T, F)`: a multiple of it for each channel, which oneDNN is slow to learn.

    It is summed in the reference's order, multiple and bias first: the tiny fixture's experts feel the last bit of a sum.
    """
    if convolution.bias is None or plane.shape[1] != 1:
        wide: Tensor = convolution(plane)
        return wide
    rows = torch.addcmul(convolution.bias, plane.permute(0, 2, 3, 1), convolution.weight.flatten())  # channels last
    return rows.permute(0, 3, 1, 2)


def folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor] | None:
    """Kernel and shift of `norm(convolution(x))`, or None where the norm's statistics are not fixed.

    A norm with fixed statistics multiplies each output channel by a number and adds another, so the kernel may be multiplied
    instead. The norm's own weights get their gradients through the folded kernel, and the map before the norm is never stored.
    """
    if norm.training or norm.running_mean is None or norm.running_var is None:
        return None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return convolution.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale


def rectified_pairs(sums: Tensor) -> Tensor:
    """ReLU, then the mean of each two neighbouring bins.

    Args:
        sums: `(B, C, T, F)`, which is overwritten.

    Returns:
        `(B, C, T, F / 2)`.
    """
    if torch.is_grad_enabled() and sums.requires_grad:
        pooled: Tensor = _RectifiedPairs.apply(sums)  # type: ignore[no-untyped-call]
        return pooled
    return F.avg_pool2d(F.relu(sums, inplace=True), kernel_size=(1, 2))


class _RectifiedPairs(torch.autograd.Function):
    """For the backward pass only the signs are kept, a byte each; the map itself is the largest there is."""

    @staticmethod
    def forward(ctx: Any, sums: Tensor) -> Tensor:
        ctx.save_for_backward((sums > 0).view(torch.uint8))
        return F.avg_pool2d(F.relu(sums, inplace=True), kernel_size=(1, 2))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (positive,) = ctx.saved_tensors
        towards: Tensor = positive.to(gradient.dtype)
        torch.unflatten(towards, -1, (-1, 2)).mul_((gradient / 2).unsqueeze(-1))
        return towards


class ResidualStack(nn.Module):
    """Three residual blocks; the first one widens a single plane to all channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            [ResidualBlock(1, channels), ResidualBlock(channels, channels), ResidualBlock(channels, channels)]
        )

    def forward(self, spectrogram: Tensor) -> Tensor:
        """Convolve.

        Args:
            spectrogram: `(B, T, F)`, F a multiple of 8.

        Returns:
            `(B, T, F / 8, channels)`.
        """
        features = spectrogram.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            features = block(features)
        return features.permute(0, 2, 3, 1)
