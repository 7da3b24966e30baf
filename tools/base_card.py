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
HEADS = {"tokens": "tokens (the decoder)", "frames": "frames (the frame head)"}


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
    """Facts and validation scores as two Markdown tables."""
    model, facts = load_model(folder), load_provenance(folder)
    trainable = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    training, recipe = _get(facts, "training"), _get(facts, "params", "train")
    resumed = " by its last process; it was resumed" if _get(training, "resumed") else ""
    rows = {
        "input": f"{model.config.sample_rate / 1000:g} kHz mono, segments of {model.config.segment_samples} samples",
        "output": f"notes on {len(model.channels)} channels; loudness is not told apart",
        "trainable parameters": f"{trainable:,}",
        "file": f"{(folder / WEIGHTS).stat().st_size / 1e6:.1f} MB, fp32",
        "songs heard": str(len(_get(facts, "heard"))),
        "steps": f"{_get(training, 'steps')} of {_get(recipe, 'batch_size')} segments, seed {_get(facts, 'params', 'seed')}",
        "time": f"{_get(training, 'seconds') / 60:.0f} minutes{resumed}",
        "commit": f"{_get(facts, 'commit')}{', with uncommitted changes' if _get(facts, 'uncommitted_changes') else ''}",
        "PyTorch": str(_get(facts, "versions", "torch")),
    }
    scores = _get(facts, "validation")
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""]
    lines += ["Onset F1 on isolated stems of the demo's validation songs, at the last validation:", ""]
    lines += [f"| | {' | '.join(GROUPS.values())} |", "|---|---|---|---|---|"]
    for head, title in HEADS.items():
        cells = [f"{_get(scores, f'validation/{group}_{head}'):.3f}" for group in GROUPS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", "How they rose, with the threshold .4 for all:", ""]
    columns = [(group, head) for head in reversed(HEADS) for group in GROUPS]
    lines += [f"| steps | {' | '.join(f'{group}, {head}' for group, head in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for point in _get(facts, "curve"):
        cells = [f"{point[f'{group}_{head}']:.3f}" if f"{group}_{head}" in point else "" for group, head in columns]
        lines.append(f"| {point['step']:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


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
