"""Stage `index`: read a corpus once and keep as tables who plays which notes where.

Reads `corpus:`, data/raw/<corpus> and data/sources/<corpus>.yaml; writes data/index. What is odd about the corpus is
said here and kept in data/index/audit.json.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stemscribe import runtime
from stemscribe.config import load_params
from stemscribe.corpora.inventory import read_inventory
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.data.index import save_index
from stemscribe.data.survey import survey
from stemscribe.errors import DataError, UsageError
from stemscribe.stages import run_stage

RAW = Path("data/raw")
INDEX = Path("data/index")


def reads(stem: str | None = None) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("corpus",)


def main(argv: Sequence[str]) -> None:
    """Index the corpus that params.yaml names.

    Raises:
        DataError: if a file is missing or broken, or a song of a corpus that is made here stands in two splits.
    """
    if argv:
        raise UsageError(f"index takes no argument, not {argv[0]!r}; params.yaml names the corpus")
    name = load_params(reads()).corpus.name
    source = read_source(name)
    index, audit = survey(read_inventory(RAW / name), source.errata, runtime.workers())
    if isinstance(source, WheelSource):  # the splits are our own; those of a published corpus are reported as they are
        _refuse_leaks(audit)
    save_index(INDEX, index, audit)
    print(summary(name, audit), flush=True)


def _refuse_leaks(audit: Mapping[str, Any]) -> None:
    leaks = audit["duplicate_tracks_across_splits"]
    if leaks:
        more = f" ({len(leaks) - 1} more such groups)" if len(leaks) > 1 else ""
        first, second = leaks[0][:2]
        raise DataError(f"{first} and {second} are the same song in different splits{more}; remove one, then run again")


def summary(name: str, audit: Mapping[str, Any]) -> str:
    """The audit for people: totals, then every finding that is not empty."""
    splits = ", ".join(f"{count} {split}" for split, count in audit["tracks"].items())
    stems, hours = audit["stems"]["usable"], audit["seconds"] / 3600
    lines = [f"{name}: {splits} tracks, {hours:.2f} h, {stems} usable stems, {audit['notes']} notes"]
    for finding, value in audit.items():
        if finding in ("tracks", "seconds", "stems", "notes", "pitch_bends") or not value:
            continue
        lines.append(f"  {finding.replace('_', ' ')}: {value if isinstance(value, int) else _some(value)}")
    return "\n".join(lines)


def _some(findings: Sequence[Any], shown: int = 3) -> str:
    """How many, and the first few by name."""
    named = [_name(finding) for finding in findings[:shown]]
    return f"{len(findings)} ({', '.join(named)}{', ...' if len(findings) > shown else ''})"


def _name(finding: Any) -> str:
    if isinstance(finding, list):
        return " = ".join(finding)
    return str(finding["stem"] if isinstance(finding, dict) else finding)


if __name__ == "__main__":
    sys.exit(run_stage(main))
