"""Stage `refine` of pretrain/dvc.yaml: further steps for the base that `train` left, with another mixture.

What the second recipe changes, and what came of it, stands in docs/base.md and docs/log.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from stemscribe.checkpoint import CONFIG, WEIGHTS, load_model, load_provenance
from stemscribe.errors import UsageError
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.pretraining.train import SHARDS, TRAINED
from stemscribe.stages import run_stage

REFINED = Path("refined")
LOGS = Path("logs_refine")
OTHER_CROPS = 1  # added to the seed, so that no crop of `train` comes again


def main(argv: Sequence[str]) -> None:
    """Train the base in the current folder, pretrain/, further."""
    from stemscribe.pretraining.learning import learn

    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}")
    params = load_pretrain_params()
    model = load_model(TRAINED)
    before = load_provenance(TRAINED)
    started_from = [TRAINED / CONFIG, TRAINED / WEIGHTS]
    seed = params.seed + OTHER_CROPS
    learn(model, SHARDS, "refine", params.refine, seed, REFINED, LOGS, started_from, {"before": before})


if __name__ == "__main__":
    sys.exit(run_stage(main))
