"""Stage `finetune_<stem>`: teach the base one stem and export the best weights to models/<stem>.

Reads `finetune:` and `stems.<stem>.finetune:` of params.yaml, the stem's shards and the base; writes the specialist with its
provenance, and the learning curves to logs/<stem>. A run that is killed leaves its state in work/<stem>/<fingerprint>/; the
next run with the same parameters, data, base and code goes on from there.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stemscribe import runtime
from stemscribe.atomic import atomic_directory
from stemscribe.checkpoint import CONFIG, WEIGHTS, load_model, save_model
from stemscribe.config import Params, load_params
from stemscribe.data.shards import MANIFEST, NOTES, ShardReader
from stemscribe.errors import DataError
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.provenance import describe, fingerprint, hashes
from stemscribe.stages import one_stem, run_stage

BASE = Path("models/base")


def reads(stem: str) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("seed", "finetune", "predict.decode", f"stems.{stem}.finetune")


def main(argv: Sequence[str]) -> None:
    """Fine-tune the stem that `argv` names."""
    stem = one_stem(argv)
    finetune(stem, load_params(reads(stem)))


def finetune(stem: str, params: Params) -> None:
    """Fine-tune one stem in the current project folder.

    Raises:
        DataError: if no training or validation track has a note of the stem.
        StemscribeError: if another process trains the same run.
    """
    import torch

    from stemscribe.training.resumable import CURVES, locked
    from stemscribe.training.run import train
    from stemscribe.training.specialist import SpecialistTraining

    runtime.settle_torch()
    torch.manual_seed(params.seed)
    shards = ShardReader(Path("data/shards") / stem)
    _require_notes(shards, stem)
    model = specialist_of(load_model(BASE), shards.manifest["channels"])
    own = params.stems[stem].finetune
    mix = ShardReader(Path("data/shards/mix"))
    module = SpecialistTraining(model, shards, mix, params.finetune, own, params.predict.decode, params.seed)
    decided_by = {"seed": params.seed, "finetune": params.finetune, f"stems.{stem}": own}
    decided_by["predict"] = {"decode": params.predict.decode}
    inputs = _inputs(stem)
    work = Path("work") / stem / fingerprint(decided_by, inputs)
    with locked(work):
        tuning = params.finetune
        outcome = train(module, work, runtime.device(), tuning.patience, tuning.gradient_clip, tuning.shares)
        facts: dict[str, Any] = {**describe(decided_by, inputs), "training": asdict(outcome)}
        _export(stem, model, shards.manifest, facts, work / CURVES)


def specialist_of(base: YourMT3, channels: Sequence[int]) -> YourMT3:
    """The same weights for fewer channels; equal to the base on them, bit for bit, until trained."""
    specialist = YourMT3(base.config, channels)
    specialist.load_state_dict(base.state_dict())
    return specialist


def _require_notes(shards: ShardReader, stem: str) -> None:
    for split in ("train", "validation"):
        if not any(shards.notes(track) for track in shards.tracks(split)):
            raise DataError(
                f"no {split} track has a note of the stem {stem}; choose its programs in params.yaml, or more songs"
            )


def _inputs(stem: str) -> dict[str, str]:
    shards = Path("data/shards")  # a manifest carries the hashes of the audio
    files = (shards / stem / MANIFEST, shards / stem / NOTES, shards / "mix" / MANIFEST, BASE / WEIGHTS, BASE / CONFIG)
    return hashes(*files)


def kept(share: float) -> str:
    """Which weights a specialist has, in words."""
    return {0.0: "the base", 1.0: "the specialist"}.get(share, f"what lies {share:g} of the way from base to specialist")


def _export(stem: str, model: YourMT3, manifest: Mapping[str, Any], facts: dict[str, Any], curves: Path) -> None:
    with atomic_directory(Path("logs") / stem) as folder:
        shutil.copytree(curves, folder, dirs_exist_ok=True)
    training = facts["training"]
    tried = ", ".join(f"{score:.3f} at {share}" for share, score in training["scores"].items())
    print(
        f"{stem}: validation onset F1 {training['base_score']:.3f} before, {training['best_score']:.3f} after "
        f"{training['steps']} steps ({training['seconds']:.0f} s)"
        f"{f'; {tried} of the way' if tried else ''}; kept {kept(training['share'])}",
        flush=True,
    )
    save_model(Path("models") / stem, model, facts, manifest["programs"])


if __name__ == "__main__":
    sys.exit(run_stage(main))
