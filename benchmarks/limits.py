"""What keeps a score from 1: late onsets, octaves, too many notes or too few, and notes that nobody could tell apart.

    python benchmarks/limits.py                 # seconds, after `make repro`
    python benchmarks/limits.py --head tokens

Reads the predictions of the true stems of the demo's test songs. Onset F1 with wider and narrower tolerances says how much is
lost to time; with octaves forgiven, to octaves; precision and recall, which way the threshold leans; the last column, how much
nobody can reach who does not tell two instruments in unison apart. It prints Markdown for docs/base.md.
"""

import argparse
import sys
from collections.abc import Callable, Sequence

import numpy as np

from stemscribe.config import FRAMES, HEADS
from stemscribe.errors import StemscribeError
from stemscribe.notes import Note
from stemscribe.report.markdown import table
from stemscribe.scoring.conditions import BASE_STEM, SPECIALIST_STEM, StemTest, read_stem_test
from stemscribe.scoring.counts import Counts
from stemscribe.scoring.notes import Tolerances, pitch_class_counts, without_unisons
from stemscribe.scoring.scorecard import onset_counts
from stemscribe.stages import STEMS

TOLERANCES = (0.025, 0.05, 0.1, 0.2)  # seconds
READERS = {BASE_STEM: "base", SPECIALIST_STEM: "specialist"}

Score = Callable[[Sequence[Note], Sequence[Note]], Counts]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Say what keeps the scores on true stems from 1.")
    parser.add_argument("--head", choices=HEADS, default=FRAMES, help="by which the models were read (default frames)")
    head = parser.parse_args().head
    rows = []
    for stem in STEMS:
        test = read_stem_test(stem, head, READERS)
        rows += [[stem, reader, *cells(test, condition)] for condition, reader in READERS.items()]
    columns = [*(f"within {1000 * tolerance:g} ms" for tolerance in TOLERANCES), "octaves forgiven", "precision", "recall"]
    print(table(["stem", "read by", *columns, "unisons once"], rows))


def cells(test: StemTest, condition: str) -> list[str]:
    """Means over the test tracks in which the stem plays."""
    heard = test.predictions[condition]

    def counts(score: Score) -> list[Counts]:
        return [score(track.notes, heard[track.track]) for track in test.with_notes]

    def within(seconds: float) -> float:
        return f1(counts(lambda true, found: onset_counts(true, found, test.drums, Tolerances(onset=seconds))))

    usual = counts(lambda true, found: onset_counts(true, found, test.drums))
    octaves = "" if test.drums else f"{f1(counts(pitch_class_counts)):.3f}"
    ceiling = f1([onset_counts(track.notes, without_unisons(track.notes), test.drums) for track in test.with_notes])
    means = [np.mean([each.precision for each in usual]), np.mean([each.recall for each in usual]), ceiling]
    return [*(f"{within(seconds):.3f}" for seconds in TOLERANCES), octaves, *(f"{mean:.3f}" for mean in means)]


def f1(counts: Sequence[Counts]) -> float:
    """Mean F1."""
    return float(np.mean([each.f1 for each in counts]))


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"stemscribe: {error}")
