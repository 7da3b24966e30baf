"""One training of the small base, from its first step to a model folder; goes on where a killed run stopped."""

import shutil
import sys
import time
import types
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, refusals
from stemscribe.checkpoint import save_model
from stemscribe.data.shards import MANIFEST, NOTES, ShardReader
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.pretraining.generalist import GeneralistTraining
from stemscribe.pretraining.params import TrainParams
from stemscribe.pretraining.partners import partners
from stemscribe.provenance import describe, fingerprint, hashes
from stemscribe.training.curves import Curves, forget_after, progress_callback, quiet
from stemscribe.training.resumable import (
    CURVES,
    LAST,
    StopWhenAsked,
    WholeCheckpoints,
    accelerator,
    interruptible,
    load_checkpoint,
    locked,
)


def learn(
    model: YourMT3,
    shards: Path,
    name: str,
    train: TrainParams,
    seed: int,
    model_folder: Path,
    logs_folder: Path,
    started_from: Sequence[Path] = (),
    facts: Mapping[str, Any] = types.MappingProxyType({}),
) -> None:
    """Teach a model in the current folder, pretrain/, and write it with its curves.

    Args:
        model: what training starts from; on the CPU.
        shards: folder of the sources.
        name: of the recipe in params.yaml.
        train: the recipe.
        seed: decides crops and dropout.
        model_folder: where the model goes, whole or not at all.
        logs_folder: where its curves go.
        started_from: the model's files, if it has learned before.
        facts: more for the provenance.

    Raises:
        CheckpointError: if what an earlier run left is damaged.
        StemscribeError: if another run holds the state, a process was killed, or the disk is full.
    """
    device = runtime.device()
    processes = train.processes if device == "cpu" else 1
    runtime.settle_torch(processes)
    model.train()
    decided_by = {"seed": seed, name: train, "model": model.config}
    digests = hashes(shards / MANIFEST, shards / NOTES, *started_from)
    work = Path("work") / fingerprint(decided_by, digests)
    with locked(work), partners(model, shards, train, seed, processes) as others:
        module = GeneralistTraining(model, ShardReader(shards), train, seed, others)
        started = time.monotonic()
        last = work / LAST
        resumed = last.exists()
        curves = work / CURVES
        quiet()
        if resumed:
            forget_after(curves, load_checkpoint(last)["global_step"])
        trainer = pl.Trainer(
            accelerator=accelerator(device),
            devices=1,
            max_epochs=module.epochs,
            limit_train_batches=module.steps_per_epoch,
            gradient_clip_val=train.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=Curves(curves, resumed),
            plugins=[WholeCheckpoints()],
            callbacks=[
                StopWhenAsked(),
                ModelCheckpoint(work, filename=Path(LAST).stem, enable_version_counter=False),
                progress_callback(train.steps),
            ],
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
        with refusals(work), interruptible():
            trainer.fit(module, ckpt_path=last if resumed else None)
            if not trainer.callback_metrics:  # a finished training was taken up again: nothing was left to do
                trainer.loggers = []  # this validation stands in the curves already
                trainer.validate(module, verbose=False)
        scores = {key: round(float(value), 4) for key, value in trainer.callback_metrics.items() if "validation/" in key}
        training = {"steps": trainer.global_step, "resumed": resumed, "seconds": round(time.monotonic() - started, 1)}
        with atomic_directory(logs_folder) as folder:
            shutil.copytree(curves, folder, dirs_exist_ok=True)
        told = {"training": training, "validation": scores, "architecture": asdict(model.config)}
        save_model(model_folder, model, {**describe(decided_by, digests), **told, **facts})
