"""Stage `train` of pretrain/dvc.yaml: the small base from scratch; goes on where a killed run stopped."""

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, refusals
from stemscribe.checkpoint import save_model
from stemscribe.data.shards import MANIFEST, NOTES, ShardReader
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.provenance import describe, fingerprint, hashes
from stemscribe.stages import run_stage

SHARDS = Path("data/shards/all")
TRAINED = Path("trained")


def main(argv: Sequence[str]) -> None:
    """Train the base in the current folder, pretrain/."""
    import pytorch_lightning as pl
    import torch
    from pytorch_lightning.callbacks import ModelCheckpoint

    from stemscribe.model.config import SMALL
    from stemscribe.model.initialisation import initialise
    from stemscribe.model.yourmt3 import YourMT3
    from stemscribe.pretraining.generalist import SHIFTS, GeneralistTraining
    from stemscribe.pretraining.partners import partners
    from stemscribe.training.curves import Curves, forget_after, progress_callback, quiet
    from stemscribe.training.run import CURVES, StopWhenAsked, WholeCheckpoints, accelerator, interruptible, locked

    params = load_pretrain_params()
    device = runtime.device()
    processes = params.train.processes if device == "cpu" else 1
    runtime.settle_torch(processes)
    model = YourMT3(SMALL)
    initialise(model, SHIFTS, torch.Generator().manual_seed(params.seed))
    decided_by = {"seed": params.seed, "train": params.train, "model": SMALL}
    inputs = hashes(SHARDS / MANIFEST, SHARDS / NOTES)
    work = Path("work") / fingerprint(decided_by, inputs)
    with locked(work), partners(model, SHARDS, params.train, params.seed, processes) as others:
        module = GeneralistTraining(model, ShardReader(SHARDS), params.train, params.seed, others)
        started = time.monotonic()
        last = work / "last.ckpt"
        resumed = last.exists()
        curves = work / CURVES
        quiet()
        if resumed:
            forget_after(curves, torch.load(last, weights_only=True)["global_step"])
        trainer = pl.Trainer(
            accelerator=accelerator(device),
            devices=1,
            max_epochs=module.epochs,
            limit_train_batches=module.steps_per_epoch,
            gradient_clip_val=params.train.gradient_clip,
            reload_dataloaders_every_n_epochs=1,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            logger=Curves(curves, resumed),
            plugins=[WholeCheckpoints()],
            callbacks=[
                StopWhenAsked(),
                ModelCheckpoint(work, filename="newest", save_last=True, enable_version_counter=False),
                progress_callback(params.train.steps),
            ],
            enable_progress_bar=sys.stderr.isatty(),
            enable_model_summary=False,
        )
        with refusals(work), interruptible():
            trainer.fit(module, ckpt_path=last if resumed else None)
            if not trainer.callback_metrics:  # a finished training was taken up again: nothing was left to do
                trainer.loggers = []  # this validation stands in the curves already
                trainer.validate(module, verbose=False)
        scores = {name: round(float(value), 4) for name, value in trainer.callback_metrics.items() if "validation/" in name}
        training = {"steps": trainer.global_step, "resumed": resumed, "seconds": round(time.monotonic() - started, 1)}
        facts: dict[str, Any] = {**describe(decided_by, inputs), "training": training, "validation": scores}
        facts["architecture"] = asdict(SMALL)
        with atomic_directory("logs") as folder:
            shutil.copytree(curves, folder, dirs_exist_ok=True)
        save_model(TRAINED, model, facts)


if __name__ == "__main__":
    sys.exit(run_stage(main))
