"""Rotary position embedding as YourMT3+ has it: a few dimensions of the queries are turned, the keys never.

After Su et al. 2021 (RoFormer). Quirks kept, because the weights were trained with them:

* keys are not rotated, so a score depends on where the query stands, not on the distance between query and
  key;
* only the first `width` dimensions of each head are rotated (4 of 16 in the full model, see `config.py`);
* latents stand at positions from -1 to 1 with "pixel" frequencies of pi to 5 pi; frames stand at 0, 1, 2...
  with the usual ones;
* the frequencies are stored with the weights, once for each attention that shares them (18 times in the full
  model).
"""

import math

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Frequencies of one kind of position: `freqs (width / 2,)`, in radians per unit of position."""

    freqs: Tensor

    def __init__(self, freqs: Tensor) -> None:
        super().__init__()
        self.register_buffer("freqs", freqs)

    @classmethod
    def for_latents(cls, width: int) -> "Rotary":
        """Frequencies `pi * linspace(1, 5)` for positions in [-1, 1]."""
        return cls(torch.linspace(1.0, 5.0, width // 2) * math.pi)

    @classmethod
    def for_frames(cls, width: int) -> "Rotary":
        """Frequencies `10000 ** (-2 i / width)` for positions 0, 1, 2..."""
        return cls(10_000.0 ** (-torch.arange(0, width, 2) / width))

    def turns(self, positions: Tensor) -> Tensor:
        """Each position's turns, as complex numbers of length 1.

        Args:
            positions: `(..., N)`.

        Returns:
            `(..., N, width / 2)`, complex64.
        """
        angles = positions.float().unsqueeze(-1) * self.freqs.float()
        return torch.polar(torch.ones_like(angles), angles)


def rotate(queries: Tensor, turns: Tensor) -> Tensor:
    """Turn the first dimensions of each head: pairs (0, 1), (2, 3)... by their angle.

    Args:
        queries: `(..., N, heads, D)`.
        turns: `(..., N, width / 2)`, complex; width <= D.

    Returns:
        `(..., N, heads, D)` in the queries' type; the arithmetic is fp32.
    """
    width = 2 * turns.shape[-1]
    pairs = torch.view_as_complex(torch.unflatten(queries[..., :width].float().contiguous(), -1, (-1, 2)))
    turned = torch.view_as_real(pairs * turns.unsqueeze(-2)).flatten(-2).to(queries.dtype)
    return torch.cat((turned, queries[..., width:]), dim=-1)
