"""Between two weights: the straight line on which WiSE-FT and model soups lie (`merging.py`, `training/run.py`)."""

import torch
from torch import Tensor


def between(start: Tensor, end: Tensor, share: float) -> Tensor:
    """`start + share * (end - start)`: both ends to the last bit, whatever the other one holds; counters are the start's."""
    if share == 0.0 or not start.is_floating_point():
        return start
    return end if share == 1.0 else torch.lerp(start, end, share)
