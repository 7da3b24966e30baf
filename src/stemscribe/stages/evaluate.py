"""Stage `evaluate_<stem>`: score what was predicted, in seconds.

Reads the stem's reference notes and the predictions of base and specialist by every head; writes the headline, of the head that
`predict.decode` names, to metrics/<stem>.json, and everything behind it, of all heads, to plots/<stem>/.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path

from stemscribe.atomic import atomic_directory, write_json
from stemscribe.config import EvaluateParams, load_params
from stemscribe.scoring import summary, tables
from stemscribe.scoring.conditions import HEADLINE, heads_of, read_stem_test
from stemscribe.scoring.notes import Tolerances
from stemscribe.stages import one_stem, run_stage


def reads(stem: str) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("seed", "predict.decode", "evaluate")


def main(argv: Sequence[str]) -> None:
    """Evaluate the stem that `argv` names."""
    stem = one_stem(argv)
    params = load_params(reads(stem))
    evaluate(stem, params.predict.decode, params.evaluate, params.seed)


def evaluate(stem: str, decode: str, params: EvaluateParams, seed: int) -> None:
    """Evaluate one stem in the current project folder.

    Args:
        stem: which.
        decode: the head that the headline speaks of.
        params: tolerances and statistics.
        seed: of the resampling.

    Raises:
        DataError: if notes or predictions are missing or broken, or there is nothing to score.
        UsageError: if there are predictions, but none by the head `decode`.
    """
    tests = [read_stem_test(stem, head) for head in heads_of(stem, decode)]
    tolerances = Tolerances(params.onset_tolerance, params.offset_ratio)
    draws, drums = params.bootstrap_draws, tests[0].drums
    summaries = summary.compare_heads([summary.summarise(test, draws, seed, tolerances) for test in tests], draws, seed)
    metrics = summary.headline(summaries[0], drums)
    classes = [(test.head, summary.classes(test, tolerances)) for test in tests]
    with atomic_directory(Path("plots") / stem) as folder:
        tables.write_table(folder / "tracks.csv", _joined(tables.track_rows(stem, each, drums) for each in summaries))
        tables.write_table(folder / "conditions.csv", _joined(tables.condition_rows(stem, each, drums) for each in summaries))
        tables.write_table(folder / "classes.csv", _joined(tables.class_rows(stem, *each) for each in classes))
        silence = _joined(tables.silence_rows(stem, each) for each in summaries)
        tables.write_table(folder / "silence.csv", silence, tables.SILENCE_COLUMNS)
    write_json(Path("metrics") / f"{stem}.json", metrics)
    print(_said(stem, summaries), flush=True)


def _joined(rows: Iterable[list[tables.Row]]) -> list[tables.Row]:
    return list(chain.from_iterable(rows))


def _said(stem: str, summaries: Sequence[Mapping[str, summary.Summary]]) -> str:
    """The outcome in a line: the headline, then the other heads."""
    first, *others = (each[HEADLINE] for each in summaries)
    gain = first.against_base
    assert gain is not None
    return (
        f"{stem}: onset F1 {first.onset.mean:.3f} +- {first.onset.half_width:.3f} on separated stems by {first.head}, "
        f"{gain.gain.mean:+.3f} +- {gain.gain.half_width:.3f} against the base on the mix, "
        f"better on {gain.improved} of {len(first.scored)} tracks"
        + "".join(f"; {other.onset.mean:.3f} by {other.head}" for other in others)
    )


if __name__ == "__main__":
    sys.exit(run_stage(main))
