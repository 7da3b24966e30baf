"""The published YourMT3+ checkpoint, a PyTorch Lightning file, as a model folder.

The promise: what is written is `ModelConfig` FULL to the last key, shape and type, with the numbers of the file and none of its
code, for `torch_archive.py` reads it; whatever else calls itself a checkpoint is refused in a line that says what it is. All
shapes are checked before a number is read. Memory: one copy of the weights, beside what `save_model` needs (two more).

The norm of the encoder is decided by the keys: the published file says `rms` in its name, but the published code built it with
LayerNorm, and a LayerNorm has a bias. The pitch shifter that some variants carry takes no part in transcribing; it is left out,
like the optimizer's state, and provenance.json says so.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemscribe.atomic import sha256_file
from stemscribe.checkpoint import save_model
from stemscribe.errors import CheckpointError, UsageError
from stemscribe.model import FULL, ModelConfig, YourMT3
from stemscribe.provenance import describe
from stemscribe.torch_archive import LARGEST, Archive, StoredTensor

NAME = "YPTF.MoE+Multi"
PUBLISHED_BYTES = 561_544_628
PUBLISHED_SHA256 = "ae38e415c79efd5592dcb9b658cdb99ddb11d4c4e1eaa364cab04a052473fc25"

KEPT = {"state_dict", "epoch", "global_step", "pytorch-lightning_version"}  # entries of the file; the others are left out
NORM_BIAS = "encoder.blocks.0.local_transformer.0.layernorm.bias"
PITCH_SHIFT = "pitchshift."
SINGLE = "pre_decoder.0.projection_layer.weight"  # only a model with one stream of tokens has it
SHOWN = 3  # keys named in a message before "and n more"


def import_checkpoint(
    path: str | os.PathLike[str], output: str | os.PathLike[str], sizes: ModelConfig = FULL
) -> dict[str, Any]:
    """Write a Lightning checkpoint of YourMT3+ as a model folder for all channels.

    Args:
        path: the `.ckpt` file.
        output: the folder to write; it must not be there yet.
        sizes: what the model must be, save for `norm`, which the file decides.

    Returns:
        What provenance.json says of the file, under "imported".

    Raises:
        CheckpointError: if the file is missing, broken, no such checkpoint, or asks to run code.
        UsageError: if `output` is there already.
    """
    source, target = Path(path), Path(output)
    if target.exists():
        raise UsageError(f"{target} is there already; remove it, or name another folder with --output")
    with Archive(source, PUBLISHED_BYTES) as archive:
        content = archive.content()
        stored = _state_dict(content, source)
        kept = {key: value for key, value in stored.items() if not key.startswith(PITCH_SHIFT)}
        config = replace(sizes, norm="layer" if NORM_BIAS in kept else "rms")
        with torch.device("meta"):  # shapes first: a wrong file must not cost memory
            model = YourMT3(config).eval()
        _check_fits(stored, kept, model.state_dict(), source)
        weights = {key: archive.read(key, value) for key, value in kept.items()}
    model.load_state_dict(weights, strict=True, assign=True)
    _check_copies(model, weights, source)
    digest = sha256_file(source)
    imported = {
        "file": source.name,
        "bytes": source.stat().st_size,
        "sha256": digest,
        "is_the_published_file": digest == PUBLISHED_SHA256,
        "model": _variant(stored),
        "norm": config.norm,
        "epoch": _number(content.get("epoch")),
        "global_step": _number(content.get("global_step")),
        "pytorch_lightning": _text(content.get("pytorch-lightning_version")),
        "dropped_weights": sorted(stored.keys() - kept.keys()),
        "dropped_entries": sorted(key for key in map(_text, content) if key and key not in KEPT),
    }
    save_model(target, model, {**describe({}, {source.name: digest}), "imported": imported})
    return imported


def as_text(imported: Mapping[str, Any], output: str | os.PathLike[str]) -> str:
    """What was imported, in lines for a person."""
    known = "the published file" if imported["is_the_published_file"] else "not the published file"
    norm = "LayerNorm" if imported["norm"] == "layer" else "RMSNorm"
    left_out = [*imported["dropped_entries"], *imported["dropped_weights"]]
    return "\n".join(
        (
            f"{imported['file']}: {imported['bytes']:,} bytes, sha256 {imported['sha256'][:8]}..., {known}",
            f"{imported['model']}, {norm} in the encoder, trained for {imported['global_step']} steps",
            f"left out: {', '.join(left_out) or 'nothing'}",
            f"{os.fspath(output)}: written; name it as base.source in params.yaml, or with --model",
        )
    )


def _state_dict(content: Mapping[Any, Any], path: Path) -> dict[str, StoredTensor]:
    stored = content.get("state_dict")
    if not isinstance(stored, dict):
        if any(isinstance(value, StoredTensor) for value in content.values()):
            raise CheckpointError(f"{path} holds bare weights and is no Lightning checkpoint: it has no 'state_dict'")
        raise CheckpointError(f"{path} is no Lightning checkpoint: it has no 'state_dict'")
    for key, value in stored.items():
        if _text(key) is None or not isinstance(value, StoredTensor):
            raise CheckpointError(f"{path}: 'state_dict' holds something that is no named tensor ({_text(key)})")
    return stored


def _check_fits(
    stored: Mapping[str, StoredTensor], kept: Mapping[str, StoredTensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    """Same keys, shapes and types; if not, say which model it is or what differs."""
    other = _differences(kept, expected)
    if other:
        raise CheckpointError(
            f"{path} is {_variant(stored)} ({', '.join(other)}); only {NAME} of the published sizes can be imported"
        )
    for complaint, keys in (("lacks", expected.keys() - kept.keys()), ("has unknown", kept.keys() - expected.keys())):
        if keys:
            raise CheckpointError(f"{path} {complaint} {_some(sorted(keys))}; it is no {NAME}, or of another version")
    for key, value in expected.items():
        found = kept[key]
        if found.shape != tuple(value.shape) or found.storage.dtype != value.dtype:
            raise CheckpointError(
                f"{path}: {key} is {found.storage.dtype} {found.shape} but {NAME} has {value.dtype} {tuple(value.shape)}"
            )


def _variant(stored: Mapping[str, StoredTensor]) -> str:
    """The name of a member of the YourMT3 family, as its authors give it, or "another model"."""
    shifted = " (PS)" if any(key.startswith(PITCH_SHIFT) for key in stored) else ""
    if "encoder.latent_array.latents" in stored:
        experts = ".MoE" if _any(stored, ".mlp.experts.") else ""
        streams = "Single" if SINGLE in stored else "Multi"
        return f"YPTF{experts}+{streams}{shifted}"
    if _any(stored, "encoder.encoder.block."):
        return f"YMT3+{shifted}"
    return "another model"


def _differences(stored: Mapping[str, StoredTensor], expected: Mapping[str, Tensor]) -> list[str]:
    """What sets another member of the family apart, in words."""
    if not stored.keys() & expected.keys():
        return [f"{len(stored)} weights and none of the expected names"]
    found = []
    if not _any(stored, "encoder.latent_array.") and not _any(stored, "encoder.blocks."):
        found.append("a T5 encoder" if _any(stored, "encoder.encoder.block.") else "an encoder that is no Perceiver-TF")
    elif not _any(stored, ".mlp.experts."):
        found.append("no mixture of experts")
    if SINGLE in stored:
        found.append("`-dec t5`, one stream of tokens instead of one for each channel")
    for key, row in (
        ("embed_tokens.weight", "tokens in the vocabulary"),
        ("encoder.latent_array.latents", "latents"),
        ("decoder.decoder.additive_pe.weight", "positions"),
    ):
        if key in stored and len(stored[key].shape) == 2 and stored[key].shape[0] != len(expected[key]):
            found.append(f"{stored[key].shape[0]} {row} instead of {len(expected[key])}")
    return found


def _any(keys: Mapping[str, Any], part: str) -> bool:
    return any(part in key for key in keys)


def _some(keys: list[str]) -> str:
    shown = ", ".join(keys[:SHOWN])
    return shown if len(keys) <= SHOWN else f"{shown} and {len(keys) - SHOWN} more"


def _check_copies(model: YourMT3, weights: Mapping[str, Tensor], path: Path) -> None:
    """The rotary frequencies stand in the file many times and in the model once each."""
    for key, value in model.state_dict().items():
        if key.endswith(".freqs") and not torch.equal(value, weights[key]):
            raise CheckpointError(f"{path}: {key} differs from its other copies; fetch it again")


def _number(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= LARGEST else None


def _text(value: Any) -> str | None:
    """`value` if it is text that can be shown in a line."""
    return value if type(value) is str and value.isprintable() else None
