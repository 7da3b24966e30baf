"""Optimiser and learning rate, for base and specialists alike: AdamW, linear warmup, cosine decay."""

import math

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import nn

FINAL_LEARNING_RATE = 0.02  # of the peak, where the cosine ends
BETAS = (0.9, 0.98)


def cosine_with_warmup(step: int, warmup: int, total: int) -> float:
    """Factor on the peak learning rate: linear up over `warmup` steps, then a cosine down to `FINAL_LEARNING_RATE`."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = min((step - warmup) / max(total - warmup, 1), 1.0)
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def adamw(model: nn.Module, learning_rate: float, weight_decay: float, warmup: int, steps: int) -> OptimizerLRScheduler:
    """AdamW whose learning rate moves every step; matrices and kernels decay, norms and biases do not.

    Args:
        model: its trainable parameters are optimised.
        learning_rate: peak.
        weight_decay: of parameters with two or more dimensions.
        warmup: steps until the peak.
        steps: until the end of the cosine.
    """
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    groups = [
        {"params": [weight for weight in trainable if weight.ndim >= 2], "weight_decay": weight_decay},
        {"params": [weight for weight in trainable if weight.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(weight.device.type == "cpu" for weight in trainable)  # elsewhere PyTorch groups them by itself
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=BETAS, fused=True if fused else None)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine_with_warmup(step, warmup, steps))
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
