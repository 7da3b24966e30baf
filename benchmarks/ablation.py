"""What each option of the small decoder's learning recipe is good for: it learns without one of them at a time.

    python benchmarks/ablation.py                      # all rows, two at a time on two cores
    python benchmarks/ablation.py --steps 100 --rows "everything" "no guided attention"

Needs what `dvc repro` makes: the demo corpus and models/base. The shipped base's encoder and frame head stay as they are; its
decoder forgets all and learns anew from the demo's training songs, by the decoder's part of the recipe in pretrain/params.yaml
with all options on and fewer steps. So a row says what an option is worth to a decoder that listens to a trained encoder.
Without positions there is neither a structured start nor a guide to what it listens to. Scores are onset F1 of the token
decoder on the stems of the demo's validation songs, as far as the base's own training validates on them; no test song is
touched. It prints Markdown for docs/base.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl

from stemscribe import runtime
from stemscribe.audio import SAMPLE_RATE
from stemscribe.checkpoint import load_model
from stemscribe.config import TOKENS
from stemscribe.corpora.inventory import read_inventory
from stemscribe.corpora.sources import read_source
from stemscribe.data.sharding import write_shards
from stemscribe.data.shards import ShardReader
from stemscribe.data.survey import survey
from stemscribe.errors import StemscribeError
from stemscribe.executor import map_in_processes
from stemscribe.model.config import ModelConfig
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.pretraining.generalist import GeneralistTraining
from stemscribe.pretraining.params import ScratchParams, load_pretrain_params
from stemscribe.pretraining.prepare import PROGRAMS, header
from stemscribe.stages import STEMS
from stemscribe.stages.prepare import plan_stem
from stemscribe.training.curves import quiet

BASE = Path("models/base")
RECIPE = "pretrain/params.yaml"


@dataclass(frozen=True)
class Row:
    """A recipe: what differs from the full one."""

    model: Callable[[ModelConfig], ModelConfig] = lambda config: config
    train: Callable[[ScratchParams], ScratchParams] = lambda train: train


def with_all_options(train: ScratchParams) -> ScratchParams:
    """What every row starts from, whichever options the shipped base was taught without: the third base's recipe."""
    mixture = replace(train.mixture, curriculum=0.4)
    smoothing = (0.4, 0.24, 0.06)
    train = replace(train, frames_first=0.35, structured_time=True, mixture=mixture)
    return replace(train, alignment_weight=0.5, shift_smoothing=smoothing, processes=1)


def without_curriculum(train: ScratchParams) -> ScratchParams:
    """The mixture of the later steps from the first step on."""
    return replace(train, mixture=replace(train.mixture, single=train.mixture.single_later))


ROWS: Mapping[str, Row] = {
    "everything": Row(),
    "no positions on the memory, nor what needs them": Row(model=lambda config: replace(config, memory_positions=False)),
    "no structured start of time": Row(train=lambda train: replace(train, structured_time=False)),
    "no guided attention": Row(train=lambda train: replace(train, alignment_weight=0.0)),
    "no smoothing of time shifts": Row(train=lambda train: replace(train, shift_smoothing=(1.0, 0.0, 0.0))),
    "logits scaled by the width": Row(model=lambda config: replace(config, scale_head=True)),
    "no frame head in the memory": Row(model=lambda config: replace(config, memory_frames=False)),
    "no curriculum": Row(train=without_curriculum),
}


def main() -> None:
    """Teach and print."""
    parser = argparse.ArgumentParser(description="What each option of the decoder's learning recipe is good for.")
    parser.add_argument("--steps", type=_at_least_one, default=300, help="optimiser steps of each row (default: 300)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="some rows only")
    given = parser.parse_args()
    workers = min(runtime.workers(), len(given.rows))
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        prepare(shards)
        learn = partial(learn_without, shards=shards, steps=given.steps, processes=workers)
        learned = map_in_processes(learn, given.rows, workers, "learning", unit="recipes")
    print(f"\n{given.steps} steps each, one seed.\n")
    print(f"| recipe | {' | '.join(STEMS)} | mean |")
    print(f"| --- |{' --- |' * (len(STEMS) + 1)}")
    for row, scores in zip(given.rows, learned, strict=True):
        cells = [f"{score:.3f}" for score in (*scores.values(), sum(scores.values()) / len(scores))]
        print(f"| {row} | {' | '.join(cells)} |")


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of at least 1")
    return int(text)


def prepare(folder: Path) -> None:
    """All sources of the demo's songs as shards, as the base's own training has them of its songs."""
    source = read_source("demo")
    inventory = read_inventory(Path("data/raw/demo"))
    index, _ = survey(inventory, source.errata, runtime.workers())
    tracks = plan_stem(index, inventory.root, SAMPLE_RATE, PROGRAMS)
    shard_bytes = load_pretrain_params(RECIPE).songs.shard_megabytes * 1_000_000
    write_shards(folder, header("demo"), tracks, shard_bytes, runtime.workers(), "preparing songs")


def learn_without(row: str, shards: Path, steps: int, processes: int) -> dict[str, float]:
    """Teach a fresh decoder by a row's recipe; onset F1 by stem."""
    runtime.settle_torch(processes)
    quiet()
    params = load_pretrain_params(RECIPE)
    train = decoders_part(ROWS[row].train(with_all_options(params.train)), steps)
    model = listener(ROWS[row].model)
    model.freeze("encoder")
    for part in (model.pre_decoder, model.frame_head):
        assert part is not None
        part.requires_grad_(False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=steps,
        gradient_clip_val=train.gradient_clip,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(GeneralistTraining(model, ShardReader(shards), train, params.seed))
    return {stem: float(trainer.callback_metrics[f"validation/{stem}_{TOKENS}"]) for stem in STEMS}


def decoders_part(train: ScratchParams, steps: int) -> ScratchParams:
    """The recipe from the decoder's start on, in fewer steps; what is left of the curriculum keeps its share."""
    left = max(train.mixture.curriculum - train.frames_first, 0.0) / (1 - train.frames_first)
    mixture = replace(train.mixture, curriculum=left)
    return replace(train, mixture=mixture, steps=steps, frames_first=0.0, validate_every=steps)


def listener(change: Callable[[ModelConfig], ModelConfig]) -> YourMT3:
    """The shipped base with another config; the parts that both have keep their weights."""
    base = load_model(BASE)
    model = YourMT3(change(base.config))
    kept = {name: weight for name, weight in base.state_dict().items() if name in model.state_dict()}
    model.load_state_dict(kept)
    return model


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"ablation: {error}")
