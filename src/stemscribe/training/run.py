"""Running a specialist's training so that nothing is lost: resume, early stopping, best weights.

Everything that is kept between runs lies in `work/<stem>/<fingerprint>/`: `last.ckpt`, `best.ckpt` and the learning curves.
The fingerprint covers parameters, data, base and code, so a run continues only what would have led to the same result.
"""

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch import Tensor

from stemscribe import interruption
from stemscribe.atomic import refusals, write_json
from stemscribe.memory import memory_for
from stemscribe.model.interpolation import between
from stemscribe.training.curves import Curves, forget_after, progress_callback, quiet
from stemscribe.training.resumable import (
    CURVES,
    LAST,
    StopWhenAsked,
    WholeCheckpoints,
    accelerator,
    interruptible,
    load_checkpoint,
    save_checkpoint,
)
from stemscribe.training.specialist import MONITOR, SpecialistTraining
from stemscribe.training.thresholds import LEVEL, choose_thresholds

BEST, BASE, BASE_SCORE = "best.ckpt", "base.pt", "base.json"


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    steps: int
    base_score: float  # validation onset F1 before the first step
    best_score: float  # the best validation onset F1, of the base or after some step
    share: float  # of the way from the base to the best weights that training found, where the kept ones lie; 0 is the base
    scores: dict[str, float]  # validation onset F1 at each share that was tried
    seconds: float  # wall time of this process; less than the training took if it was resumed
    resumed_at: int  # step at which this process took over, 0 for a run from the start


def train(
    module: SpecialistTraining, folder: Path, device: str, patience: int, gradient_clip: float, shares: Sequence[float] = (1.0,)
) -> Outcome:
    """Train until the steps are used up or validation stops improving; leaves in the module what is to be kept.

    That is the best weights, or a mean of them and the base's, which often reads other music better than both (WiSE-FT,
    Wortsman et al. 2022, arXiv 2109.01903), with thresholds of the frame head for it; or the base, if these read worse.

    Args:
        module: what to teach; changed in place.
        folder: the run's own folder under work/, locked by the caller; holds what an earlier, killed run left.
        device: `cpu` or `cuda`.
        patience: validations without a better score.
        gradient_clip: global norm.
        shares: of the way from the base to the best weights that are tried; the base is tried in any case.

    Raises:
        CheckpointError: if what an earlier run left is damaged.
        StemscribeError: if there is too little memory for the batch, or no space on the disk.
    """
    started = time.monotonic()
    last = folder / LAST
    resumed = last.exists()
    quiet()
    base_score = _score_of_base(module, folder, device)
    resumed_at: int = load_checkpoint(last)["global_step"] if resumed else 0
    if resumed:
        forget_after(folder / CURVES, resumed_at)
        print(f"resuming {folder} at step {resumed_at}", flush=True)
    else:
        shutil.rmtree(folder / CURVES, ignore_errors=True)
    trainer = _trainer(module, folder, device, patience, gradient_clip, resumed)
    enough = memory_for(module.batch_size, "training on", "finetune.batch_size", lambda size: module.rehearse(size, device))
    with refusals(folder), interruptible(), enough:
        trainer.fit(module, ckpt_path=last if resumed else None)
    best = load_checkpoint(folder / BEST)
    score = float(best["validation_score"])
    module.load_state_dict(best["state_dict"])
    known = {0.0: base_score, 1.0: score}
    share, scores = _settle(module, load_checkpoint(folder / BASE), {0.0, *shares}, known, device)
    seconds = time.monotonic() - started
    return Outcome(trainer.global_step, base_score, max(score, base_score), share, scores, seconds, resumed_at)


@torch.no_grad()
def _settle(
    module: SpecialistTraining, base: dict[str, Tensor], shares: Set[float], known: Mapping[float, float], device: str
) -> tuple[float, dict[str, float]]:
    """Give the module the weights at the best of some shares of the way from the base to its own, with thresholds for them.

    Of shares that a few minutes of music cannot tell apart the largest is the best: the sounds and songs of the training are
    what a specialist is for. The base keeps its own thresholds, which were chosen on more music.

    Args:
        module: with the best weights; changed in place.
        base: the weights of the base.
        shares: to try; 0, the base, is one of them.
        known: of some shares, the validation score that they had already.
        device: `cpu` or `cuda`.

    Returns:
        the share, and the onset F1 at each share that was tried.
    """
    model = module.model
    own = {name: weight.clone() for name, weight in model.state_dict().items()}

    def go(share: float) -> None:
        model.load_state_dict({name: between(base[name], weight, share) for name, weight in own.items()})

    scores = dict[float, float]()
    for share in sorted(shares):
        if share not in known:
            interruption.check()
            go(share)
        scores[share] = known[share] if share in known else module.score(device)
    least = max(scores.values()) - LEVEL
    best = max(share for share, score in scores.items() if score >= least)
    go(best)
    if best > 0 and model.config.frame_head is not None:
        interruption.check()
        model.config = replace(model.config, frame_head=choose_thresholds(model.config.frame_head, [module.listen(device)]))
    return best, {f"{share:g}": round(score, 4) for share, score in scores.items()}


def _score_of_base(module: SpecialistTraining, folder: Path, device: str) -> float:
    """Validate before the first step, once; a resumed run finds the number and the weights in the folder."""
    if not (folder / BASE_SCORE).exists():
        trainer = pl.Trainer(
            accelerator=accelerator(device), devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False
        )
        with interruptible():
            (result,) = trainer.validate(module, verbose=False)
        save_checkpoint(module.model.state_dict(), folder / BASE)
        write_json(folder / BASE_SCORE, {MONITOR: result[MONITOR]})
    score: float = json.loads((folder / BASE_SCORE).read_text(encoding="utf-8"))[MONITOR]
    return score


class _StopForGood(EarlyStopping):
    """Early stopping that a resumed run remembers; Lightning's own would train on for one more epoch."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.wait_count >= self.patience


class _KeepScore(Callback):
    """Writes the validation score into each checkpoint, so that the best one knows its own."""

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["validation_score"] = float(trainer.callback_metrics.get(MONITOR, float("-inf")))


def _trainer(
    module: SpecialistTraining,
    folder: Path,
    device: str,
    patience: int,
    gradient_clip: float,
    resumed: bool,
) -> pl.Trainer:
    return pl.Trainer(
        accelerator=accelerator(device),
        devices=1,
        max_epochs=module.epochs,
        limit_train_batches=module.steps_per_epoch,
        gradient_clip_val=gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        deterministic=True,
        logger=Curves(folder / CURVES, resumed),
        plugins=[WholeCheckpoints()],
        callbacks=[
            StopWhenAsked(),
            _KeepScore(),
            _StopForGood(MONITOR, mode="max", patience=patience, check_finite=True),
            # The best first: a run that is killed between the two does the epoch again, and does not forget that it was best.
            ModelCheckpoint(folder, filename=Path(BEST).stem, monitor=MONITOR, mode="max", enable_version_counter=False),
            # Lightning's own `save_last` saves only when the best changes; a killed run must lose one epoch at most.
            ModelCheckpoint(folder, filename=Path(LAST).stem, enable_version_counter=False),
            progress_callback(module.steps),
        ],
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )
