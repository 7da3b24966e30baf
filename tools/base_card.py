"""Write what the shipped base knows about itself between the markers `<!-- card -->` and `<!-- /card -->` of docs/base.md.

    python tools/base_card.py

Every value comes from src/stemscribe/weights/small: its config, its weights and the provenance that its training wrote.
"""

import sys
from pathlib import Path
from typing import Any

from stemscribe.atomic import atomic_file
from stemscribe.checkpoint import WEIGHTS, load_model, load_provenance
from stemscribe.errors import DataError, StemscribeError
from stemscribe.stages.base import SHIPPED

PAGE = Path("docs/base.md")
BEGIN, END = "<!-- card -->", "<!-- /card -->"
GROUPS = {"bass": "bass", "drums": "drums", "vocals": "vocals (voice-like programs, no singing)", "other": "other"}
HEARD = {"tokens": "stem, tokens", "frames": "stem, frames", "mix": "mix, frames"}


def main() -> None:
    """Fill in the card.

    Raises:
        DataError: if docs/base.md lacks the markers, or the provenance lacks a fact.
    """
    text = PAGE.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise DataError(f"{PAGE} lacks {BEGIN} or {END}; restore it with `git checkout {PAGE}`")
    with atomic_file(PAGE) as partial:
        partial.write_text(f"{before}{BEGIN}\n{card(SHIPPED['small'])}\n{END}{after}", encoding="utf-8")


def card(folder: Path) -> str:
    """Facts, validation scores and how they rose, as Markdown tables."""
    model, facts = load_model(folder), load_provenance(folder)
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    trainings = _trainings(facts)
    steps = [f"{_get(each, 'training', 'steps'):,} of {_batch(each)} segments" for each in trainings]
    seconds = sum(_get(each, "training", "seconds") for each in trainings)
    resumed = any(_get(each, "training", "resumed") for each in trainings)
    changed = any(_get(each, "uncommitted_changes") for each in trainings)
    rows = {
        "input": f"{model.config.sample_rate / 1000:g} kHz mono, segments of {model.config.segment_samples} samples",
        "output": f"notes on {len(model.channels)} channels; loudness is not told apart",
        "trainable parameters": f"{trainable:,}",
        "file": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB, fp32",
        "songs heard": str(len(_get(facts, "heard"))),
        "steps": ", then ".join(steps),
        "seeds": ", then ".join(str(_get(each, "params", "seed")) for each in trainings),
        "time": f"{seconds / 60:.0f} minutes{' by the last processes; a training was resumed' if resumed else ''}",
        "commits": ", ".join(_get(each, "commit") for each in trainings) + (", with uncommitted changes" if changed else ""),
        "PyTorch": str(_get(facts, "versions", "torch")),
    }
    scores = _get(facts, "validation")
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["Onset F1 on the demo's validation songs, in its timbres and in mixed ones, at the last validation:", ""]
    lines += [f"| | {' | '.join(GROUPS.values())} |", "|---|---|---|---|---|"]
    for heard, title in HEARD.items():
        cells = [f"{_get(scores, f'validation/{group}_{heard}'):.3f}" for group in GROUPS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    for heard, title in reversed(HEARD.items()):
        lines += ["", f"How it rose: {title}, with the threshold .4 for all.", ""]
        lines += [f"| steps | {' | '.join(GROUPS)} |", "|---" * (len(GROUPS) + 1) + "|"]
        for point in _get(facts, "curve"):
            if f"bass_{heard}" in point:
                cells = [f"{point[f'{group}_{heard}']:.3f}" for group in GROUPS]
                lines.append(f"| {point['step']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _trainings(facts: Any) -> list[Any]:
    """The provenances of the trainings that followed each other, the first one first."""
    return [*(_trainings(facts["before"]) if "before" in facts else []), facts]


def _batch(facts: Any) -> int:
    """Segments of a step, from the only recipe among the parameters."""
    recipes = [value for value in _get(facts, "params").values() if isinstance(value, dict) and "batch_size" in value]
    if len(recipes) != 1:
        raise DataError("the provenance of the shipped base names no recipe; make the base anew with `make base`")
    return int(recipes[0]["batch_size"])


def _get(facts: Any, *path: str) -> Any:
    for key in path:
        if not isinstance(facts, dict) or key not in facts:
            raise DataError(f"the provenance of the shipped base lacks {key!r}; make the base anew with `make base`")
        facts = facts[key]
    return facts


if __name__ == "__main__":
    try:
        main()
    except (StemscribeError, OSError) as error:
        sys.exit(f"base_card: {error}")
