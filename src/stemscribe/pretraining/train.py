"""Stage `train` of pretrain/dvc.yaml: the small base from scratch."""

import sys
from collections.abc import Sequence
from pathlib import Path

from stemscribe.errors import UsageError
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.stages import run_stage

SHARDS = Path("data/shards/all")
TRAINED = Path("trained")
LOGS = Path("logs")


def main(argv: Sequence[str]) -> None:
    """Train the base in the current folder, pretrain/."""
    import torch

    from stemscribe.model.config import SMALL
    from stemscribe.model.initialisation import initialise
    from stemscribe.model.yourmt3 import YourMT3
    from stemscribe.pretraining.generalist import SHIFTS
    from stemscribe.pretraining.learning import learn

    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}")
    params = load_pretrain_params()
    model = YourMT3(SMALL)
    initialise(model, SHIFTS, torch.Generator().manual_seed(params.seed))
    learn(model, SHARDS, "train", params.train, params.seed, TRAINED, LOGS)


if __name__ == "__main__":
    sys.exit(run_stage(main))
