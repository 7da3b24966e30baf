"""How a training shows itself: learning curves for DVC, and a bar or plain lines for the person who waits."""

import json
import logging
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from dvclive.lightning import DVCLiveLogger
from pytorch_lightning.callbacks import Callback, TQDMProgressBar

from stemscribe.atomic import atomic_file
from stemscribe.progress import PLAIN_SECONDS

FROZEN = ".*module\\(s\\) in eval mode at the start of training.*"  # batch norms, on purpose


class Curves(DVCLiveLogger):
    """DVCLive's logger, without its experiments and reports, counting steps from 1.

    DVCLive takes step 0 for no step at all and invents a number for it, so a curve would begin with its first point misplaced.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        super().__init__(dir=str(folder), resume=resume, save_dvc_exp=False, dvcyaml=None, report=None, log_model=False)

    @property
    def experiment(self) -> Any:
        """DVCLive without its web service, for which it would read all curves again at each step."""
        live = super().experiment
        live.post_data_to_studio = _post_nothing
        return live

    def finalize(self, status: str) -> None:
        """End, and close the repository that DVCLive has opened."""
        super().finalize(status)
        repository = getattr(self.experiment, "_dvc_repo", None)
        if repository is not None:
            repository.close()

    def log_metrics(self, metrics: Mapping[str, int | float | str], step: int | None = None, sync: bool | None = True) -> None:
        """Record values as those after `step + 1` steps, and write them at once.

        Whether to write, DVCLive would find out by reading the source lines of the whole call stack, at each step.
        """
        super().log_metrics(metrics, None if step is None else step + 1, sync)


def _post_nothing() -> None:
    pass


def forget_after(folder: Path, step: int) -> None:
    """Remove what a killed run recorded after its last checkpoint, so that a resumed run does not record it twice.

    DVCLive empties its summary before it writes it. If that is as far as it came, the summary goes too, for DVCLive would not
    begin; it is written anew with the next step.
    """
    summary = folder / "metrics.json"
    try:
        json.loads(summary.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        summary.unlink(missing_ok=True)
    for path in folder.rglob("*.tsv"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        if not lines or not lines[0].endswith("\n"):  # DVCLive would add rows to a curve without a head
            path.unlink()
            continue
        rows = [line for line in lines[1:] if line.endswith("\n")]  # the last may have been cut off
        kept = [row for row in rows if int(row.split("\t", 1)[0]) <= step]
        with atomic_file(path) as partial:
            partial.write_text("".join((*lines[:1], *kept)), encoding="utf-8")


def quiet() -> None:
    """Silence what Lightning tells everybody at every start; warnings about this run stay."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    for message in (".*treespec, LeafSpec.*", ".*does not have many workers.*", ".*Checkpoint directory .* exists.*", FROZEN):
        warnings.filterwarnings("ignore", message)


def progress_callback(steps: int) -> Callback:
    """Lightning's bar on a terminal, elsewhere a line every ten seconds that counts up to `steps`."""
    return TQDMProgressBar(refresh_rate=5) if sys.stderr.isatty() else _Lines(steps)


class _Lines(Callback):
    """Steps, rate, remaining time and the newest scores, as plain lines."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._started = self._last = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = self._last = time.monotonic()
        self._first_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        now, step = time.monotonic(), trainer.global_step
        if now - self._last < PLAIN_SECONDS:
            return
        self._last = now
        rate = (step - self._first_step) / (now - self._started)
        loss = float(trainer.callback_metrics["train/loss"])
        left = (self._steps - step) / rate
        print(f"step {step}/{self._steps}, {rate:.2f} steps/s, {left:.0f} s left, loss {loss:.3f}", file=sys.stderr, flush=True)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = trainer.callback_metrics.items()
        scores = {name.split("/", 1)[1]: float(value) for name, value in values if name.startswith("validation/")}
        text = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        print(f"step {trainer.global_step}: {text}", file=sys.stderr, flush=True)
