"""A model between a base and its specialists: against forgetting, and from several specialists one model.

    merge("models/base", ["models/bass"], weight=0.5, output="models/bass_merged")

Every weight becomes `base + weight * (mean of the specialists - base)`. With one specialist that is WiSE-FT (Wortsman et al.
2022, "Robust fine-tuning of zero-shot models"), which keeps much of what fine-tuning taught and gives back much of what it made
the model forget; with several it is a model soup (Wortsman et al. 2022, "Model soups"). It needs no training and no data, only
that all of them began as the same base.

The promise: weight 0 gives the base and weight 1 the mean of the specialists, both to the last bit, one specialist itself. The
result listens for what the specialists listen for, and like any specialist it has the weights of all channels.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemscribe.atomic import sha256_file
from stemscribe.checkpoint import WEIGHTS, load_channels, load_model, load_programs, load_provenance, save_model
from stemscribe.errors import CheckpointError, UsageError
from stemscribe.model import ModelConfig, YourMT3
from stemscribe.model.interpolation import between
from stemscribe.provenance import describe

Folder = str | os.PathLike[str]


def merge(base: Folder, specialists: Sequence[Folder], weight: float, output: Folder) -> None:
    """Write the model between a base and its specialists.

    Args:
        base: the model folder from which all of them began.
        specialists: one model folder or more.
        weight: of the specialists, from 0 (the base) to 1 (their mean).
        output: the folder to write; it must not be there yet.

    Raises:
        UsageError: if the weight lies outside of 0 to 1, there is no specialist, or `output` is there already.
        CheckpointError: if a folder is broken, or a specialist is of another architecture than the base.
    """
    folders, target = [Path(folder) for folder in specialists], Path(output)
    if not 0.0 <= weight <= 1.0:
        raise UsageError(f"the weight is {weight:g}; give a number from 0 (the base) to 1 (the specialists)")
    if not folders:
        raise UsageError("no specialist to merge; name one model folder or more beside the base")
    if target.exists():
        raise UsageError(f"{target} is there already; remove it, or name another folder with --output")
    start = load_model(base)
    others = []
    for folder in folders:
        model = load_model(folder)
        _check_kin(start, model, Path(base), folder)
        others.append(model)
    scopes = [load_programs(folder) for folder in folders]
    heard = [scope for scope in scopes if scope is not None]
    programs = sorted(set().union(*heard)) if len(heard) == len(scopes) else None
    channels = sorted(set().union(*map(load_channels, folders)))
    save_model(target, interpolate(start, others, weight, channels), _facts(Path(base), folders, weight), programs)


@torch.no_grad()
def interpolate(base: YourMT3, specialists: Sequence[YourMT3], weight: float, channels: Sequence[int]) -> YourMT3:
    """The model at `base + weight * (mean of specialists - base)`, for `channels`; counters are the base's.

    Of its frame head's thresholds each channel has those of the first specialist that listens to it, with weight 0 the base's.
    """
    merged = YourMT3(base.config if weight == 0 else _with_thresholds(base.config, specialists), channels)
    states = [specialist.state_dict() for specialist in specialists]
    merged.load_state_dict(
        {key: between(value, _mean([state[key] for state in states]), weight) for key, value in base.state_dict().items()}
    )
    return merged.eval()


def _with_thresholds(config: ModelConfig, specialists: Sequence[YourMT3]) -> ModelConfig:
    head, first = config.frame_head, specialists[0].config.frame_head
    if head is None or first is None:
        return config
    thresholds, exceptions = list(head.onset_thresholds), head.exceptions
    for specialist in reversed(specialists):
        if (own := specialist.config.frame_head) is not None:
            for channel in specialist.channels:
                thresholds[channel] = own.onset_thresholds[channel]
            others = tuple(each for each in exceptions if each[0] not in specialist.channels)
            exceptions = (*others, *(each for each in own.exceptions if each[0] in specialist.channels))
    head = replace(
        head,
        onset_thresholds=tuple(thresholds),
        exceptions=exceptions,
        active_threshold=first.active_threshold,
        unison_threshold=first.unison_threshold,
    )
    return replace(config, frame_head=head)


def _mean(weights: Sequence[Tensor]) -> Tensor:
    return weights[0] if len(weights) == 1 or not weights[0].is_floating_point() else torch.stack(list(weights)).mean(dim=0)


def _check_kin(base: YourMT3, specialist: YourMT3, origin: Path, folder: Path) -> None:
    """Of one architecture, whatever their thresholds and channels, so that a weight means the same in both."""
    one, other = base.state_dict(), specialist.state_dict()
    same = specialist.config.architecture() == base.config.architecture()
    if not same or {key: value.shape for key, value in one.items()} != {key: value.shape for key, value in other.items()}:
        raise CheckpointError(f"{folder} is of another architecture than {origin}; merge a base with its own specialists")


def _facts(base: Path, specialists: Sequence[Path], weight: float) -> dict[str, Any]:
    folders = (base, *specialists)
    return {
        **describe({"merge": {"weight": weight}}, {str(folder): sha256_file(folder / WEIGHTS) for folder in folders}),
        "merged": {str(folder): load_provenance(folder) for folder in folders},
    }
