"""Size, learning rate and augmentation of the small base: short trainings from scratch that differ in one thing each.

    python benchmarks/sweep.py                          # all rows, two at a time: half an hour on two cores
    python benchmarks/sweep.py --steps 50 --rows "as it ships" "twice the learning rate"

Needs the songs of pretrain/ (`cd pretrain && dvc repro prepare`, a quarter of an hour). Each row trains encoder and frame head
alone, as the first half of the base's own training does, with batches and crops drawn alike, for a small part of its steps; the
token decoder is not looked at. So a row tells what helps early. Scores are onset F1 by frames, with the threshold .4, on the
stems of the demo's validation songs, in the demo's timbres and in mixed ones; no test song is touched. It prints Markdown for
docs/base.md.
"""

import argparse
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytorch_lightning as pl
import torch

from stemscribe import runtime
from stemscribe.config import FRAMES
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, StemscribeError
from stemscribe.executor import map_in_processes
from stemscribe.model.config import SMALL, FrameHeadConfig, HarmonicConfig, ModelConfig, PercussiveConfig
from stemscribe.model.initialisation import initialise
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.pretraining.generalist import SHIFTS, GeneralistTraining
from stemscribe.pretraining.params import ScratchParams, load_pretrain_params
from stemscribe.stages import STEMS
from stemscribe.training.curves import quiet

SHARDS = Path("pretrain/data/shards/all")
RECIPE = "pretrain/params.yaml"
FEWER = FrameHeadConfig(harmonic=HarmonicConfig(width=12, fine_channels=8), percussive=PercussiveConfig(channels=6, width=48))
HALF = replace(
    SMALL,
    conv_channels=8,
    d_latent=48,
    expert_hidden=48,
    d_model=96,
    d_kv=24,
    d_ff=192,
    frame_head=FEWER,
)


def with_ear(**sizes: int) -> ModelConfig:
    """The shipped sizes with another ear for pitch."""
    head = FrameHeadConfig(harmonic=replace(HarmonicConfig(), **sizes), percussive=PercussiveConfig())
    return replace(SMALL, frame_head=head)


@dataclass(frozen=True)
class Row:
    """What differs from what ships."""

    model: ModelConfig = SMALL
    rate: float = 1.0  # of the shipped base's learning rate
    augment: Mapping[str, float] = field(default_factory=dict)

    def train(self, train: ScratchParams, steps: int) -> ScratchParams:
        """The recipe of encoder and frame head, shortened."""
        augment = replace(train.augment, **self.augment)
        alone = replace(train, steps=steps, frames_first=1.0, validate_every=steps, processes=1, augment=augment)
        return replace(alone, learning_rate=train.learning_rate * self.rate)


ROWS: Mapping[str, Row] = {
    "as it ships": Row(),
    "all of it half as wide": Row(HALF),
    "encoder half as wide": Row(replace(SMALL, conv_channels=8, d_latent=48, expert_hidden=48)),
    "encoder half as wide again": Row(replace(SMALL, conv_channels=24, d_latent=144, expert_hidden=144)),
    "ear for pitch twice as wide": Row(with_ear(width=48)),
    "ear for pitch with a block more": Row(with_ear(blocks=3)),
    "half of the learning rate": Row(rate=0.5),
    "twice the learning rate": Row(rate=2.0),
    "no filters, no rooms": Row(augment={"filter_share": 0.0, "room_share": 0.0}),
    "no transposition": Row(augment={"transpose": 0}),
}


def main() -> None:
    """Teach and print."""
    parser = argparse.ArgumentParser(description="Short trainings of the small base that differ in one thing each.")
    parser.add_argument("--steps", type=int, default=200, help="optimiser steps of each row (default: 200)")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS), metavar="ROW", help="some rows only")
    given = parser.parse_args()
    if not SHARDS.exists():
        raise DataError(f"no songs in {SHARDS}; make them: cd pretrain && dvc repro prepare")
    if given.steps < 1:
        parser.error("--steps must be at least 1")
    workers = min(runtime.workers(), len(given.rows))
    learn = partial(learned, steps=given.steps, processes=workers)
    found = map_in_processes(learn, given.rows, workers, "learning", unit="recipes")
    print(f"\n{given.steps} steps each, one seed.\n")
    print(f"| recipe | parameters | CPU, s a step | {' | '.join(STEMS)} | mean |")
    print(f"| --- |{' --- |' * (len(STEMS) + 3)}")
    for row, (parameters, seconds, scores) in zip(given.rows, found, strict=True):
        cells = [f"{score:.3f}" for score in (*scores.values(), sum(scores.values()) / len(scores))]
        print(f"| {row} | {parameters / 1e6:.2f} M | {seconds:.2f} | {' | '.join(cells)} |")


def learned(row: str, steps: int, processes: int) -> tuple[int, float, dict[str, float]]:
    """Parameters of the whole model, CPU time of a step, and onset F1 by stem after some steps."""
    runtime.settle_torch(processes)
    quiet()
    params = load_pretrain_params(RECIPE)
    model = YourMT3(ROWS[row].model)
    initialise(model, SHIFTS, torch.Generator().manual_seed(params.seed))
    train = ROWS[row].train(params.train, steps)
    clock = Clock()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        limit_train_batches=steps,
        gradient_clip_val=train.gradient_clip,
        num_sanity_val_steps=0,
        callbacks=[clock],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(GeneralistTraining(model, ShardReader(SHARDS), train, params.seed))
    scores = {stem: float(trainer.callback_metrics[f"validation/{stem}_{FRAMES}"]) for stem in STEMS}
    return sum(weight.numel() for weight in model.parameters()), clock.seconds / steps, scores


class Clock(pl.Callback):
    """CPU time of the training without its validation."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin."""
        self._started = time.process_time()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The last step is done."""
        self.seconds = time.process_time() - self._started


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"sweep: {error}")
