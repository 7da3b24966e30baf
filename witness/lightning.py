"""Genuine Lightning checkpoints of the reference: `python -m witness.lightning {full,tiny,variants}`, in .venv-reference.

The promise: the file is written by `pytorch_lightning.Trainer.save_checkpoint` after a step of training of the wheel's own
LightningModule by its own optimizer. Like the published file it holds the optimizer's state, the schedule and the
hyper-parameters with their TaskManager, under the names that the classes have in the authors' program (`utils.task_manager`).
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ["TORCHDYNAMO_DISABLE"] = "1"  # the wheel compiles its encoder and decoder in training

import pytorch_lightning as pl
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from witness.wheel import YourMT3, build, randomise

SEED = 7
LABELS = 16  # tokens of a channel, to train on
VARIANTS = ("YMT3+", "YPTF+Single", "YPTF+Multi", "YPTF.MoE+Single")
# tests/data/lightning_tiny/model_config.json says the same to our model.
TINY: Mapping[str, Mapping[str, Any]] = {
    "audio": {"input_frames": 4_799, "n_fft": 256},
    "encoder": {
        **dict.fromkeys(("d_latent", "d_latents", "d_model", "qk_channels", "v_channels"), 32), "kv_dim": 16,
        "num_blocks": 1, "num_local_transformers_per_block": 1, "num_temporal_transformers_per_block": 1,
        "ff_widening_factor": 1, "moe_num_experts": 3,
    },
    "decoder": {"d_model": 16, "num_heads": 2, "d_kv": 8, "num_layers": 1},
    "model": {"conv_out_channels": 4, "num_max_positions": 32},
}  # fmt: skip


class Segments(pl.LightningDataModule):
    """One batch, as the wheel's own data module hands them over; nothing to validate on."""

    num_val_dataloaders = 0

    def __init__(self, waveform: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.batch = {"demo": (waveform.unsqueeze(1), labels, torch.zeros(len(labels), dtype=torch.long))}

    def train_dataloader(self) -> Any:
        """The batch, once."""
        return torch.utils.data.DataLoader([self.batch], batch_size=None)


def main(argv: Sequence[str] | None = None) -> None:
    """Write checkpoints of the reference and what it computes with them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("full", "tiny", "variants"))
    parser.add_argument("--music", type=Path, required=True, help="waveform (B, N) and labels (B, 13, 256)")
    parser.add_argument("--output", type=Path, required=True, help="folder")
    arguments = parser.parse_args(argv)
    arguments.output.mkdir(parents=True, exist_ok=True)
    music = load_file(arguments.music)
    if arguments.what == "variants":
        for name in VARIANTS:
            write_variant(name, arguments.output / f"{name}.ckpt")
        return
    model = build(sizes=TINY if arguments.what == "tiny" else None, max_steps=1)
    randomise(model, SEED)
    waveform = music["waveform"][:1, : model.audio_cfg["input_frames"]].contiguous()
    write_checkpoint(model, waveform, music["labels"][:1, :, :LABELS], arguments.output / "last.ckpt")
    labels = music["labels"][:1, :, : LABELS // 4].contiguous()
    with torch.no_grad():
        logits = model.eval()(waveform.unsqueeze(1), labels)["logits"]
    record = {"waveform": waveform, "labels": labels, "training_logits": logits.contiguous()}
    save_file(record, arguments.output / "record.safetensors")
    if arguments.what == "full":  # what a reader of the checkpoint must find
        weights = {key: value.contiguous().clone() for key, value in model.state_dict().items()}
        save_file(weights, arguments.output / "weights.safetensors")


def write_checkpoint(model: YourMT3, waveform: Tensor, labels: Tensor, path: Path) -> None:
    """Train `model` for a step and have the trainer save all it knows."""
    under_published_names()
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=1, limit_val_batches=0, gradient_clip_val=1.0, logger=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=path.parent, callbacks=[pl.callbacks.ModelCheckpoint(save_top_k=0)],
    )  # fmt: skip
    trainer.fit(model.train(), Segments(waveform, labels))
    trainer.save_checkpoint(path)


def write_variant(name: str, path: Path) -> None:
    """Another member of the family, as far as an importer looks at it: its state dict."""
    model = build("YPTF.MoE+Multi", decoder="t5") if name == "YPTF.MoE+Single" else build(name)
    torch.save({"state_dict": model.state_dict(), "pytorch-lightning_version": pl.__version__}, path)


def under_published_names() -> None:
    """Let classes be pickled as in the authors' program, where `yourmt3.utils.task_manager` is `utils.task_manager`."""
    for name, module in list(sys.modules.items()):
        if name.startswith("yourmt3."):
            short = name.removeprefix("yourmt3.")
            sys.modules[short] = module
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == name:
                    value.__module__ = short


if __name__ == "__main__":
    main()
