"""What every training needs to be stopped at any time and taken up again: lock, whole checkpoints, Ctrl-C that is heard.

A lock on a run's folder keeps a second process out while the first is alive. A checkpoint is there whole, or the one before it.
"""

import fcntl
import io
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins.io import TorchCheckpointIO

from stemscribe import interruption
from stemscribe.atomic import atomic_file, refusals
from stemscribe.errors import CheckpointError, StemscribeError
from stemscribe.memory import out_of_memory

LAST, CURVES = "last.ckpt", "dvclive"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process.

    Raises:
        StemscribeError: if another process trains there, or the folder cannot be made.
    """
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("w")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StemscribeError(f"another process trains in {folder}; wait for it or stop it") from None
        yield


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written beside their place.

    Lightning writes to the system's folder for temporary files and moves the result. Where that is another file system a kill
    leaves half a checkpoint, and a missing permission passes for success.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint`; what is there stays until the new one is complete.

        Raises:
            StemscribeError: if the operating system refuses (disk full, no permission).
        """
        save_checkpoint(checkpoint, Path(path))


class StopWhenAsked(Callback):
    """Ctrl-C and SIGTERM end a training at the next step at the latest, whatever caught the KeyboardInterrupt before."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        """Stop if somebody asked for it."""
        interruption.check()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C and SIGTERM come out of Lightning as what they are; it would leave the program with exit code 1 and no word."""
    try:
        yield
        interruption.check()
    except SystemExit as leaving:
        raise KeyboardInterrupt from leaving


def save_checkpoint(content: dict[str, Any], path: Path) -> None:
    """Write `content`; what is there stays until the new one is complete.

    Raises:
        StemscribeError: if the operating system refuses (disk full, no permission).
    """
    archive = io.BytesIO()  # torch's own writer does not say why it could not write
    torch.save(content, archive)
    with atomic_file(path) as partial:
        partial.write_bytes(archive.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, on the CPU; nothing in the file is run.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        if out_of_memory(error):
            raise
        raise CheckpointError(f"{path} is damaged; remove {path.parent} to train from the start") from error
    return checkpoint


def accelerator(device: str) -> str:
    """Lightning's name of a torch device."""
    return "gpu" if device == "cuda" else device
