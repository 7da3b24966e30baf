"""Model folders: `model.safetensors`, `config.json` and `provenance.json`, written and read as a whole.

The promise: what loads is exactly what was saved. The weights carry their own sizes, every key must be there
with its shape and type and none besides, and there is no pickle in it. `config.json` is {"model": all fields
of ModelConfig, "channels": the channels the model is a specialist of, "programs": the programs it was taught,
or null for all}; no weight depends on channels or programs, so any folder can be loaded for others. Many fields
(heads, windows, experts per token) change no shape, so the weights' file repeats them in its header, and where it
does, they must agree; thresholds, with which the same weights can be read otherwise, are left out of it.

Saving takes the memory of no second model: weights are written from where they are, and copied only where they share memory or
lie in another order (convolutions, in `channels_last`). Loading takes one model's memory; the file is mapped beside it.

The rotary frequencies stand in the file as often as the reference has them (18 times at full size), and all
copies must agree.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from stemscribe.atomic import atomic_directory, refusal, write_json
from stemscribe.audio import SAMPLE_RATE
from stemscribe.errors import CheckpointError
from stemscribe.model import ModelConfig, YourMT3

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
PROVENANCE = "provenance.json"
ARCHITECTURE = "architecture"  # key of the weights' header
SHOWN = 3  # keys named in a message before "and n more"


def save_model(
    folder: str | os.PathLike[str],
    model: YourMT3,
    provenance: Mapping[str, Any],
    programs: Sequence[int] | None = None,
) -> None:
    """Write a model folder; a folder of that name is replaced once the new one is complete.

    Args:
        folder: where to.
        model: its weights are stored in fp32 as they are, with its config and channels.
        provenance: where the weights come from, anything JSON can hold.
        programs: what a specialist listens for; None for all.

    Raises:
        CheckpointError: if a weight is NaN or infinite.
        StemscribeError: if the folder cannot be written.
    """
    weights = _apart(model.state_dict())
    _check_finite(weights, "the model to be saved")
    with atomic_directory(folder) as partial:
        try:
            architecture = json.dumps(model.config.architecture(), sort_keys=True)
            save_file(weights, partial / WEIGHTS, metadata={ARCHITECTURE: architecture})  # of two keys the order would vary
        except SafetensorError as error:  # it knows no other: a full disk, say
            raise refusal(folder, str(error)) from error
        (partial / WEIGHTS).chmod(0o644)  # safetensors writes for the owner alone, but a shared cache has many readers
        stem = {"channels": list(model.channels), "programs": None if programs is None else list(programs)}
        write_json(partial / CONFIG, {"model": model.config.to_json(), **stem})
        write_json(partial / PROVENANCE, dict(provenance))


def load_model(folder: str | os.PathLike[str], channels: Sequence[int] | None = None) -> YourMT3:
    """The model of a folder, on the CPU, in evaluation mode.

    Args:
        folder: written by `save_model`.
        channels: load it for these channels instead of its own.

    Raises:
        CheckpointError: if a file is missing or truncated, a key of the config or a weight is missing,
            unknown or of the wrong shape, or a weight is not finite.
    """
    path = Path(folder)
    config, own_channels = _load_config(path)
    weights = _load_weights(path / WEIGHTS)
    _check_architecture(config, path / WEIGHTS)
    try:
        with torch.device("meta"):  # shapes first: a wrong config must not cost memory
            expected = YourMT3(config).state_dict()
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes that no tensor can have
        raise CheckpointError(f"{path / CONFIG} describes no model that can be built; fetch it again") from error
    _check_weights(weights, expected, path / WEIGHTS)
    try:
        model = YourMT3(config, own_channels if channels is None else channels)
    except ValueError as error:
        raise CheckpointError(f"{path / CONFIG}: {error}") from error
    model.load_state_dict(weights, strict=True)
    for key, value in model.state_dict().items():
        if key.endswith(".freqs") and not torch.equal(value, weights[key]):
            raise CheckpointError(f"{path / WEIGHTS}: {key} differs from its other copies; fetch the file again")
    return model.eval()


def load_channels(folder: str | os.PathLike[str]) -> tuple[int, ...]:
    """The channels that the model of a folder is a specialist of.

    Raises:
        CheckpointError: if config.json is missing or says something else.
    """
    return tuple(_load_config(Path(folder))[1])


def load_programs(folder: str | os.PathLike[str]) -> tuple[int, ...] | None:
    """The programs that the model of a folder was taught, None for all.

    Raises:
        CheckpointError: if config.json is missing or says something else.
    """
    path = Path(folder)
    _load_config(path)
    programs = _load_object(path / CONFIG)["programs"]
    if programs is None:
        return None
    if not isinstance(programs, list) or not all(type(program) is int and 0 <= program <= 128 for program in programs):
        raise CheckpointError(f"{path / CONFIG}: 'programs' is {programs!r}; it must be null or a list of 0 to 128")
    return tuple(programs)


def load_provenance(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Where the weights of a folder come from.

    Raises:
        CheckpointError: if the file is missing or not a JSON object.
    """
    return _load_object(Path(folder) / PROVENANCE)


def _apart(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as a file has them: on the CPU, contiguous, no two in the same memory, and none in a part of some."""
    taken: set[int] = set()
    weights = {}
    for key, value in state.items():
        tensor = value.detach().cpu().contiguous()
        memory = tensor.untyped_storage()
        if memory.data_ptr() in taken or memory.nbytes() != tensor.nbytes:
            tensor = tensor.clone()
        taken.add(memory.data_ptr())
        weights[key] = tensor
    return weights


def _load_config(folder: Path) -> tuple[ModelConfig, list[int]]:
    if not folder.is_dir():
        raise CheckpointError(f"no model folder {folder}; make it with the base or finetune stage, or fetch it with `dvc pull`")
    path = folder / CONFIG
    content = _load_object(path)
    if set(content) != {"model", "channels", "programs"}:
        raise CheckpointError(f"{path}: keys are {sorted(content)}; they must be 'channels', 'model' and 'programs'")
    model, channels = content["model"], content["channels"]
    if not isinstance(model, dict):
        raise CheckpointError(f"{path}: 'model' must be an object with the fields of the model's config")
    if not isinstance(channels, list) or not all(type(channel) is int for channel in channels):
        raise CheckpointError(f"{path}: 'channels' is {channels!r}; it must be a list of integers")
    try:
        config = ModelConfig.from_json(model)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not channels or len(set(channels)) < len(channels) or not all(0 <= each < config.channels for each in channels):
        last = config.channels - 1
        raise CheckpointError(f"{path}: channels are {channels}; they must be one or more of 0 to {last}, each once")
    if config.sample_rate != SAMPLE_RATE:
        raise CheckpointError(f"{path}: sample_rate is {config.sample_rate}; only models for {SAMPLE_RATE} Hz can be read")
    return config, channels


def _load_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing; the model folder is incomplete, fetch or make it again") from None
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON ({error}); fetch or make it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no JSON object; fetch or make it again")
    return content


def _load_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; the model folder is incomplete, fetch or make it again")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path} is truncated or no safetensors file ({error}); fetch it again") from error


def _check_weights(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    """Same keys, shapes and types, finite numbers."""
    for complaint, keys in (
        ("lacks", expected.keys() - weights.keys()),
        ("has unknown", weights.keys() - expected.keys()),
    ):
        if keys:
            raise CheckpointError(f"{path} {complaint} {_some(sorted(keys))}; config.json describes another model")
    for key, value in expected.items():
        found = weights[key]
        if found.shape != value.shape or found.dtype != value.dtype:
            raise CheckpointError(
                f"{path}: {key} is {found.dtype} {tuple(found.shape)} but config.json asks for"
                f" {value.dtype} {tuple(value.shape)}"
            )
    _check_finite(weights, str(path))


def _check_architecture(config: ModelConfig, path: Path) -> None:
    """Against the fields that the weights were saved with, if the file tells them."""
    with safe_open(path, framework="pt") as file:
        told = (file.metadata() or {}).get(ARCHITECTURE)
    if told is None:
        return
    try:
        saved = json.loads(told)
    except ValueError:
        saved = None
    if not isinstance(saved, dict):
        raise CheckpointError(f"{path}: what its header says of the architecture is no JSON object; fetch it again")
    asked = json.loads(json.dumps(config.architecture()))  # lists for tuples
    for name in sorted(asked.keys() | saved.keys()):
        if asked.get(name) != saved.get(name):
            raise CheckpointError(
                f"{path} was saved with {name} {json.dumps(saved.get(name))}, but config.json says"
                f" {json.dumps(asked.get(name))}; fetch the folder again"
            )


def _check_finite(weights: Mapping[str, Tensor], where: str) -> None:
    broken = [key for key, value in weights.items() if not bool(torch.isfinite(value).all())]
    if broken:
        raise CheckpointError(f"{where} has NaN or infinite weights in {_some(broken)}; the training has diverged")


def _some(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:SHOWN])
    return shown if len(keys) <= SHOWN else f"{shown} and {len(keys) - SHOWN} more"
