"""What twelve tracks can tell about all tracks: intervals by resampling tracks, and paired tests.

Tracks, not notes, are resampled, because the notes of one song share its timbre and its mistakes. The
interval is the percentile bootstrap (Efron 1979), the test is Wilcoxon's signed-rank test, and several stems
are tested together by Holm (1979).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVEL = 0.95
CHUNK_VALUES = 4_000_000  # resampled values held at a time, 32 MB


@dataclass(frozen=True)
class Interval:
    """A mean over tracks and the range that 95 % of the resampled means fall into."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the range; the range itself need not be symmetric about the mean."""
        return (self.high - self.low) / 2


def bootstrap_interval(values: Sequence[float], draws: int, generator: np.random.Generator) -> Interval:
    """Mean and interval of one score per track, or of one paired difference per track.

    Args:
        values: scores or differences of scores, one a track, at least one.
        draws: resamplings.
        generator: source of randomness. Generators of one seed resample the same tracks, so intervals of several
            conditions over the same tracks are comparable draw by draw.

    Returns:
        The interval. A single track says nothing about others: its range is the mean +- 1, all that a score
        can differ.
    """
    sample = np.asarray(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, mean - 1.0, mean + 1.0)
    means = _resampled_means(sample, draws, generator)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(mean, float(low), float(high))


def _resampled_means(sample: npt.NDArray[np.float64], draws: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    chunk = max(1, CHUNK_VALUES // len(sample))
    parts = []
    for first in range(0, draws, chunk):
        picks = generator.integers(len(sample), size=(min(chunk, draws - first), len(sample)))
        parts.append(sample[picks].mean(axis=1))
    return np.concatenate(parts)


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test; 1 where no track differs."""
    from scipy.stats import wilcoxon

    changed = [difference for difference in differences if difference != 0]
    return float(wilcoxon(changed).pvalue) if changed else 1.0


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted p-values of a family of tests (Holm's step-down): below 0.05 is a claim that survives the family.

    The smallest is multiplied by the number of tests, the next by one less, and so on; none falls below the
    one before it, and none exceeds 1.
    """
    adjusted: dict[str, float] = {}
    highest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = highest
    return {name: adjusted[name] for name in p_values}
