"""Stage `poc`: does the base hear a stem better in isolation than in the mix, and is the difference worth a specialist?

Per stem, the gain in onset F1 of the true stem over the full mix, both heard by the untouched base and read by the
head that `predict.decode` names. Go means: the gain reaches `poc.minimum_gain`, and its 95 % interval lies above
zero. Everything needed is known before any training.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from stemscribe.atomic import write_json
from stemscribe.config import Params, load_params
from stemscribe.errors import UsageError
from stemscribe.scoring.conditions import BASE_CONDITIONS, BASE_STEM, heads_of, read_stem_test
from stemscribe.scoring.notes import Tolerances
from stemscribe.scoring.summary import METRIC_DIGITS, Comparison, summarise
from stemscribe.stages import STEMS, run_stage


def reads(stem: str = "") -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("seed", "predict.decode", "evaluate", "poc")


def main(argv: Sequence[str]) -> None:
    """Decide for all stems.

    Raises:
        UsageError: if `argv` asks for anything else.
    """
    if argv:
        raise UsageError(f"poc takes no argument, not {argv[0]!r}; it decides for all stems")
    params = load_params(reads())
    decisions: dict[str, float | bool] = {}
    for stem in STEMS:
        gain = gain_of_isolation(stem, params)
        go = worth_a_specialist(gain, params.poc.minimum_gain)
        decisions |= {
            f"{stem}_gain": round(gain.gain.mean, METRIC_DIGITS),
            f"{stem}_ci": round(gain.gain.half_width, METRIC_DIGITS),
            f"{stem}_go": go,
        }
        print(f"{stem}: {gain.gain.mean:+.3f} +- {gain.gain.half_width:.3f}: {'go' if go else 'no go'}", flush=True)
    write_json(Path("metrics/poc.json"), decisions)


def gain_of_isolation(stem: str, params: Params) -> Comparison:
    """Onset F1 of the base on the true stem minus on the mix, track by track.

    Raises:
        DataError: if notes or predictions are missing or broken.
        UsageError: if there are predictions, but none by the head that the headline speaks of.
    """
    head, *_ = heads_of(stem, params.predict.decode, BASE_CONDITIONS)
    test = read_stem_test(stem, head, BASE_CONDITIONS)
    tolerances = Tolerances(params.evaluate.onset_tolerance, params.evaluate.offset_ratio)
    comparison = summarise(test, params.evaluate.bootstrap_draws, params.seed, tolerances)[BASE_STEM].against_base
    assert comparison is not None
    return comparison


def worth_a_specialist(gain: Comparison, minimum: float) -> bool:
    """Whether the gain is large enough, and larger than chance."""
    return gain.gain.mean >= minimum and gain.gain.low > 0


if __name__ == "__main__":
    sys.exit(run_stage(main))
