"""Stage `base`: put the generalist, from which every specialist starts, into models/base.

Reads `base:`. `base.source` is `small` for the model that is shipped with the package, the path of a model folder or of a
Lightning checkpoint of YourMT3+, or the address of such a checkpoint. The promise: models/base is complete, for all channels,
and was loaded once before it was put there, so that a broken one is refused here and not after an hour of training.

A model folder for all channels is copied as it is. A specialist has every weight of its base (no weight belongs to a channel),
so it becomes a base by naming all channels again. `base.frame_head: add` gives a model that has no frame head a fresh one, the
same each time. What was done stands in provenance.json, with the provenance of the source.

DVC watches `base:` and the shipped model, and no other path: a path can lie outside of the project, be an address, or be itself
made from models/base. `base.sha256` stands for the content instead: anything else is refused, and who writes another one there
has DVC run this stage again.
"""

import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import stemscribe
from stemscribe import runtime
from stemscribe.atomic import atomic_directory, sha256_file
from stemscribe.checkpoint import (
    CONFIG,
    PROVENANCE,
    WEIGHTS,
    load_channels,
    load_model,
    load_programs,
    load_provenance,
    save_model,
)
from stemscribe.config import BaseParams, load_params
from stemscribe.download import fetch, is_address
from stemscribe.errors import CheckpointError, UsageError
from stemscribe.lightning_checkpoint import import_checkpoint
from stemscribe.model import YourMT3
from stemscribe.model.config import WITH_EARS
from stemscribe.model.initialisation import fresh_frame_head
from stemscribe.provenance import describe
from stemscribe.stages import run_stage
from stemscribe.vocabulary import NUM_CHANNELS

BASE = Path("models/base")
SHIPPED = {"small": Path(stemscribe.__file__).parent / "weights" / "small"}
MADE = "made"  # a folder inside the one that is being written


def reads(stem: str | None = None) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("base",)


def main(argv: Sequence[str]) -> None:
    """Install the base that params.yaml names.

    Raises:
        UsageError: if there is no such model, or its address is none.
        DataError: if it cannot be fetched.
        CheckpointError: if it is broken, another than `base.sha256` says, or not for all channels.
    """
    if argv:
        raise UsageError(f"base takes no argument, not {argv[0]!r}; base.source in params.yaml names the model")
    base = load_params(reads()).base
    source = _place(base)
    digest = model_digest(source)
    if base.sha256 not in ("", digest):
        raise CheckpointError(
            f"{base.source} is another model than base.sha256 in params.yaml says, it has {digest}; "
            "restore it, or write that there to use it"
        )
    changes = install(source, BASE, base, digest)
    print("; ".join((f"base: {base.source}", *changes)), flush=True)
    if not base.sha256 and base.source not in SHIPPED:
        print(f"base: set base.sha256 to {digest} in params.yaml, and no other model takes its place unnoticed", flush=True)


def _place(base: BaseParams) -> Path:
    """Where the source lies, fetched if need be."""
    if is_address(base.source):
        return fetch(base.source, runtime.downloads_dir(), base.sha256)
    place = SHIPPED.get(base.source, Path(base.source))
    if place.name == WEIGHTS and place.is_file():
        raise UsageError(f"params.yaml: base.source: {base.source} is a part of a model folder; name the folder")
    if not place.exists():
        ways = f"{', '.join(SHIPPED)}, the path of one, or the address of a checkpoint"
        raise UsageError(f"params.yaml: base.source: no model folder or checkpoint {base.source!r}; give {ways}")
    return place


def model_digest(source: Path) -> str:
    """What `base.sha256` says of a model.

    Of a file its sha256; of a model folder that of the two lines which `sha256sum config.json model.safetensors` prints there.

    Raises:
        CheckpointError: if the folder lacks one of them.
    """
    if source.is_file():
        return sha256_file(source)
    for name in (CONFIG, WEIGHTS):
        if not (source / name).is_file():
            raise CheckpointError(f"{source} is no model folder: it has no {name}; name another, or make it again")
    lines = (f"{sha256_file(source / name)}  {name}\n" for name in (CONFIG, WEIGHTS))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def install(source: Path, target: Path, base: BaseParams, digest: str) -> list[str]:
    """Check the model at `source` and put it into the folder `target`, whole or not at all.

    Args:
        source: a model folder, or a Lightning checkpoint.
        target: the folder to write; one that is there is replaced.
        base: what params.yaml says of it.
        digest: of the source, for provenance.json.

    Returns:
        What was done to the source, in words; nothing, if it was copied.

    Raises:
        CheckpointError: if it is broken, or has other channels than ours.
    """
    with atomic_directory(target) as partial:
        folder, made = source, partial / MADE
        changes = []
        if not source.is_dir():
            import_checkpoint(source, made)
            folder = made
            changes.append("imported from a Lightning checkpoint")
        own, programs, origin = load_channels(folder), load_programs(folder), load_provenance(folder)
        model = load_model(folder, channels=range(NUM_CHANNELS))
        if model.config.channels != NUM_CHANNELS:
            raise CheckpointError(f"{source} has {model.config.channels} channels; a base needs {NUM_CHANNELS}")
        if own != model.channels or programs is not None:
            changes.append(f"a specialist for channels {', '.join(map(str, own))}, now for all")
        if base.frame_head == "add" and model.frame_head is None:
            model = with_frame_head(model)
            changes.append("a fresh frame head, which has learned nothing yet")
        if changes:
            facts = {**describe({"base": base}, {base.source: digest}), "changes": changes, "source": origin}
            save_model(made, model, facts)
        for name in (WEIGHTS, CONFIG, PROVENANCE):
            if changes:
                (made / name).replace(partial / name)
            else:
                shutil.copyfile(source / name, partial / name)
        if changes:
            made.rmdir()
    return changes


def with_frame_head(model: YourMT3) -> YourMT3:
    """The same weights with a fresh frame head, which fine-tuning trains beside everything else."""
    extended = YourMT3(replace(model.config, frame_head=WITH_EARS), model.channels)
    extended.frame_head = fresh_frame_head(model.config)
    extended.load_state_dict({**extended.state_dict(), **model.state_dict()}, strict=True)
    return extended.eval()


if __name__ == "__main__":
    sys.exit(run_stage(main))
