"""The last step of `make base`: check the trained base and put it into the package, where git keeps it.

Its provenance then names the songs that it heard (hashes of their notes), so that nobody tests it on one of them unawares, and
tells how its scores rose, since the curves themselves are not shipped.
"""

import csv
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from stemscribe.atomic import atomic_directory, write_json
from stemscribe.checkpoint import PROVENANCE, load_model, load_provenance
from stemscribe.errors import DataError, UsageError
from stemscribe.pretraining.refine import LOGS as REFINE_LOGS
from stemscribe.pretraining.train import LOGS
from stemscribe.stages import run_stage

MODEL = Path("model")
AUDIT = Path("data/raw/audit.json")
CURVES = tuple(logs / "plots/metrics/validation" for logs in (LOGS, REFINE_LOGS))
PACKAGED = Path("../src/stemscribe/weights/small")
LARGEST_BYTES = 12_000_000  # what a clone may cost for it


def main(argv: Sequence[str]) -> None:
    """Copy model/ into the package.

    Raises:
        CheckpointError: if the model does not load.
        DataError: if it is too large to ship.
    """
    if argv:
        raise UsageError(f"this takes no argument, not {argv[0]!r}")
    load_model(MODEL)
    if not AUDIT.is_file():
        raise DataError(f"no {AUDIT}, which says what the base has heard; run `make base`")
    heard = json.loads(AUDIT.read_text(encoding="utf-8"))["songs"]["train"]
    size = sum(path.stat().st_size for path in MODEL.iterdir())
    if size > LARGEST_BYTES:
        raise DataError(
            f"the base takes {size / 1e6:.1f} MB, and at most {LARGEST_BYTES / 1e6:.0f} MB are shipped; make it smaller"
        )
    with atomic_directory(PACKAGED) as folder:
        shutil.copytree(MODEL, folder, dirs_exist_ok=True)
        write_json(folder / PROVENANCE, {**load_provenance(MODEL), "heard": heard, "curve": curve(CURVES)})


def curve(folders: Iterable[Path]) -> list[dict[str, float]]:
    """The validation scores of each step that was validated: `step`, and a key for each of DVCLive's tables.

    Args:
        folders: those of trainings that followed each other, whose steps are counted on.
    """
    points: list[dict[str, float]] = []
    for folder in folders:
        done = points[-1]["step"] if points else 0
        by_step: dict[int, dict[str, float]] = {}
        for path in sorted(folder.glob("*.tsv")):
            with path.open(encoding="utf-8", newline="") as stream:
                for row in csv.DictReader(stream, delimiter="\t"):
                    step = int(row["step"])
                    by_step.setdefault(step, {"step": done + step})[path.stem] = round(float(row[path.stem]), 4)
        points += [by_step[step] for step in sorted(by_step)]
    return points


if __name__ == "__main__":
    sys.exit(run_stage(main))
