"""A training step in turns: forward, backward and AdamW, one segment and one channel, both sides with the same target row.

Ours trains as `finetune_<stem>` does (pruned, frozen batch statistics, the row trimmed to its length). The wheel's decoder gets
the row as its own loader makes it: 256 tokens, padded. Each case of ours, with parts frozen or not, is compared with the
wheel's step in which everything learns: it has no setting that freezes a part.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from comparison import Ratio, Sides, medians, said
from reference import Reference
from torch import Tensor, nn

from stemscribe.model import YourMT3
from stemscribe.training.schedule import adamw

Frozen = Literal["none", "conv", "encoder"]


@dataclass(frozen=True)
class Case:
    """What learns in a step, and what ours may cost at most, as a share of the wheel's step in which everything learns."""

    name: str
    what: str
    frozen: Frozen
    target: float
    memory_target: float | None = None


CASES = (
    Case("none", "training step", "none", 0.5, 0.6),
    Case("conv", "training step, our convolutions frozen", "conv", 0.45),
    Case("encoder", "training step, our encoder frozen", "encoder", 0.4),
)


def measure(sides: Sides) -> list[Ratio]:
    """Time the steps of all cases and the wheel's in turns."""
    music = {"stem": sides.stem.numpy(), "channel": sides.channel, "tokens": sides.tokens.numpy()}
    steps = [step_of("ours", case, sides.ours, music) for case in CASES]
    *ours, reference = medians([*steps, step_of("reference", CASES[0], sides.ours, music)], sides.repeats)
    note = f"{int((_labels(music) != 0).sum())} tokens"
    return [
        said(Ratio(case.what, seconds, reference, target=case.target, note=note))
        for case, seconds in zip(CASES, ours, strict=True)
    ]


def step_of(side: str, case: Case, model: YourMT3, music: Mapping[str, Any]) -> Callable[[], object]:
    """A training step on the first segment of the stem, ready to be called."""
    waveform = torch.from_numpy(music["stem"][:1])
    labels = _labels(music)
    channel = int(music["channel"])
    if side == "ours":
        specialist = YourMT3(model.config, [channel])
        specialist.load_state_dict(model.state_dict())
        return _our_step(specialist, case, waveform, labels)
    return _reference_step(Reference(model.state_dict()), waveform, labels, channel)


def _our_step(model: YourMT3, case: Case, waveform: Tensor, labels: Tensor) -> Callable[[], object]:
    model.prune = True
    model.freeze_batch_norm()
    model.freeze(case.frozen)
    model.train()
    optimizer: Any = adamw(model, learning_rate=1e-5, weight_decay=0.01, warmup=10, steps=100)["optimizer"]  # type: ignore[index]
    trimmed = labels[..., : int((labels != model.config.pad).sum(-1).max())]

    def step() -> None:
        logits = model.training_logits(model(waveform, trimmed))
        F.cross_entropy(logits.flatten(0, 2), trimmed.flatten(), ignore_index=model.config.pad).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _reference_step(side: Reference, waveform: Tensor, labels: Tensor, channel: int) -> Callable[[], object]:
    model: nn.Module = side.model.train()
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, weight_decay=0.01, fused=True)  # as ours is

    def step() -> None:
        side.loss(side.encode(waveform, [channel]), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def _labels(music: Mapping[str, Any]) -> Tensor:
    """Row of the first segment, `(1, 1, 256)`."""
    return torch.from_numpy(music["tokens"][:1, int(music["channel"])].astype("int64"))[None]
