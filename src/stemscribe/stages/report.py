"""Stage `report`: one page that shows what was measured, offline, and a model card for each specialist.

Reads metrics/, plots/, predictions/, logs/, the models' provenance and the shards; writes report/.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from stemscribe.atomic import atomic_directory
from stemscribe.config import load_params
from stemscribe.errors import UsageError
from stemscribe.report.cards import card
from stemscribe.report.evidence import read_evidence
from stemscribe.report.page import page
from stemscribe.scoring.notes import Tolerances
from stemscribe.stages import STEMS, run_stage


def reads(stem: str = "") -> tuple[str, ...]:
    """The parameters this stage depends on: what the text says about tolerances, decisions and the headline's head."""
    return ("predict.decode", "evaluate", "poc")


def main(argv: Sequence[str]) -> None:
    """Write the report of all stems.

    Raises:
        UsageError: if `argv` asks for anything else.
    """
    if argv:
        raise UsageError(f"report takes no argument, not {argv[0]!r}; it shows all stems")
    params = load_params(reads())
    tolerances = Tolerances(params.evaluate.onset_tolerance, params.evaluate.offset_ratio)
    evidence = read_evidence(STEMS, params.predict.decode, tolerances)
    with atomic_directory(Path("report")) as folder:
        index = folder / "index.html"
        index.write_text(page(evidence, params.poc.minimum_gain), encoding="utf-8")
        size = index.stat().st_size
        (folder / "cards").mkdir()
        for stem in evidence.stems:
            (folder / "cards" / f"{stem.stem}.md").write_text(card(stem, evidence), encoding="utf-8")
    print(f"report/index.html: {size / 1e6:.1f} MB, open it in a browser; model cards in report/cards", flush=True)


if __name__ == "__main__":
    sys.exit(run_stage(main))
