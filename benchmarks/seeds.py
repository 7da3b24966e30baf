"""What a specialist owes to its seed: the trainings again with other seeds, and each specialist beside its base.

    python benchmarks/seeds.py             # seeds 1 and 2: a quarter of an hour on two cores, after `make repro`
    python benchmarks/seeds.py --seeds 1 2 3

The working tree is copied with its cache to a temporary folder, and there `seed` in params.yaml is changed: songs, splits and
base stay as they are, and crops and dropout of the fine-tuning are drawn anew. Shown is onset F1 of the specialist on the true
stem less that of its base, paired by test track; the last column takes each track's mean over the seeds. It prints Markdown for
docs/evaluation.md.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from repro import copy_repository

from stemscribe.config import HEADS, load_params
from stemscribe.errors import DataError, StemscribeError
from stemscribe.report import markdown
from stemscribe.scoring.conditions import BASE_STEM, SPECIALIST_STEM, StemTest, read_stem_test
from stemscribe.scoring.scorecard import onset_counts
from stemscribe.scoring.statistics import bootstrap_interval
from stemscribe.stages import STEMS

ROOT = Path(__file__).resolve().parents[1]
Differences = dict[tuple[str, str], list[float]]
"""Stem and head -> specialist less base, one a test track in which the stem plays."""


def main() -> None:
    """Train with each seed, compare, print."""
    parser = argparse.ArgumentParser(description="Train the specialists with several seeds and compare each with its base.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="default: 1 2")
    seeds = parser.parse_args().seeds
    settings = load_params(("seed", "evaluate"), ROOT / "params.yaml")
    draws = settings.evaluate.bootstrap_draws
    predictions = [f"predict_{part}" for part in ("base", *STEMS)]
    status = subprocess.run(
        ["dvc", "status", "--with-deps", *predictions], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    if "changed" in status:  # the other seeds are trained with the code and the parameters that are here now
        raise DataError("the predictions here are of another state of the project; run `dvc repro` first")
    found = [differences(ROOT) if seed == settings.seed else trained_anew(seed) for seed in seeds]
    rows = [
        [stem, head, *(shown(each, draws) for each in (*own, np.mean(own, axis=0)))]
        for stem in STEMS
        for head in HEADS
        for own in [[each[stem, head] for each in found]]
    ]
    print(markdown.table(["stem", "read by", *(f"seed {seed}" for seed in seeds), "mean of the seeds"], rows))


def trained_anew(seed: int) -> Differences:
    """The differences with another seed.

    Raises:
        DataError: if there is no cache in the working tree, or it lies elsewhere.
        StemscribeError: if the graph fails.
    """
    cache = ROOT / ".dvc/cache"
    if not cache.is_dir():
        raise DataError(f"no cache in {cache}; run `make repro` first, with the cache where DVC puts it by default")
    with tempfile.TemporaryDirectory(prefix="stemscribe-seed-") as name:
        folder = Path(name)
        profile = folder / "seed.yaml"
        profile.write_text(f"seed: {seed}\n", encoding="utf-8")
        environment = os.environ | {"PYTHONPATH": str(folder / "src")}
        copy_repository(ROOT, folder, environment, str(profile))
        shutil.copytree(cache, folder / ".dvc/cache", copy_function=_linked)
        predictions = [f"predict_{part}" for part in ("base", *STEMS)]
        for command in (
            ["dvc", "checkout", "--quiet", "--allow-missing"],
            [sys.executable, "tools/side_by_side.py"],
            ["dvc", "repro", *predictions],
        ):
            if subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr, check=False).returncode:
                raise StemscribeError(f"`{' '.join(command)}` failed with seed {seed}; see above")
        return differences(folder)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def differences(folder: Path) -> Differences:
    """Specialist less base on the true stem, of the predictions in a project's folder."""
    conditions = (BASE_STEM, SPECIALIST_STEM)
    tests = {
        (stem, head): read_stem_test(stem, head, conditions, folder / "data/shards", folder / "predictions")
        for stem in STEMS
        for head in HEADS
    }
    return {which: _by_track(test) for which, test in tests.items()}


def _by_track(test: StemTest) -> list[float]:
    def f1(condition: str) -> list[float]:
        heard = test.predictions[condition]
        return [onset_counts(track.notes, heard[track.track], test.drums).f1 for track in test.with_notes]

    return [after - before for before, after in zip(f1(BASE_STEM), f1(SPECIALIST_STEM), strict=True)]


def shown(values: Sequence[float], draws: int) -> str:
    """Mean and 95 % interval over tracks, bold where it lies above zero."""
    found = bootstrap_interval(values, draws, np.random.default_rng(1))
    return markdown.difference(found.mean, found.low, found.high)


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"stemscribe: {error}")
