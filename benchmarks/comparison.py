"""Two sides of one measurement: timed in turns in one process, compared by the medians of their CPU time, shown as a table.

The promise: a ratio stands between two figures of one run, taken in turns, so that what else the machine does meets both sides
alike. CPU time counts all threads of this process.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from reference import Reference

from stemscribe.model import YourMT3

WARM_UP = 1  # calls of each side before the first that counts


@dataclass(frozen=True)
class Ratio:
    """What both sides needed for the same work."""

    what: str
    ours: float
    reference: float
    unit: str = "s of CPU"
    target: float | None = None  # of ours / reference, at most
    note: str = ""

    @property
    def value(self) -> float:
        """Ours, as a share of the reference's."""
        return self.ours / self.reference

    @property
    def verdict(self) -> str:
        """Whether the target is met."""
        if self.target is None:
            return ""
        return f"{self.target:g}" if self.value <= self.target else f"{self.target:g}, missed"


@dataclass(frozen=True)
class Sides:
    """Both models with the same weights, and the music they are given."""

    ours: YourMT3  # all 13 channels, evaluation mode, sliced (not pruned)
    reference: Reference
    stem: torch.Tensor  # segments of one stem, (S, N)
    mix: torch.Tensor  # the same segments of the whole mix, (S, N)
    channel: int  # of the stem
    tokens: torch.Tensor  # what the mix's channels should say, (S, 13, 256), padded with PAD
    repeats: int
    stems: Mapping[str, tuple[torch.Tensor, tuple[int, ...]]]  # each stem's segments (S, N) and channels


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call, all threads."""
    before = time.process_time()
    work()
    return time.process_time() - before


def medians(sides: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Median CPU seconds of each, called in turns."""
    for _ in range(WARM_UP):
        for work in sides:
            work()
    times = [[cpu_seconds(work) for work in sides] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def compare(
    what: str,
    ours: Callable[[], object],
    reference: Callable[[], object],
    repeats: int,
    target: float | None = None,
    note: str = "",
) -> Ratio:
    """Time both sides in turns."""
    mine, theirs = medians((ours, reference), repeats)
    return said(Ratio(what, mine, theirs, target=target, note=note))


def said(ratio: Ratio) -> Ratio:
    """The ratio, printed as soon as it is known."""
    print(f"  {ratio.what}: {ratio.ours:.3f} / {ratio.reference:.3f} = {ratio.value:.3f}", flush=True)
    return ratio


def table(ratios: Iterable[Ratio]) -> str:
    """Markdown for docs/benchmarks.md."""
    lines = ["| what | ours | reference | ratio | target |", "| --- | --- | --- | --- | --- |"]
    for row in ratios:
        what = f"{row.what} ({row.note})" if row.note else row.what
        lines.append(f"| {what} | {row.ours:.3g} {row.unit} | {row.reference:.3g} | {row.value:.2f} | {row.verdict} |")
    return "\n".join(lines)
