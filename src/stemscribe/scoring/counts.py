"""What was found, reported and there to be found; the three rates follow, and counts of tracks add up to pooled rates.

Conventions for nothing: nothing reported has precision 0, nothing to find has recall 0, and F1 is 0 unless
something matched. A track with nothing to find is left out of means over tracks (`defined` is false); its
false notes are counted in `silence`. mir_eval returns the same zeros; the base's own code drops such tracks
altogether.
"""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Items matched one to one between a reference and an estimate."""

    matched: int
    estimated: int
    reference: int

    @property
    def precision(self) -> float:
        """Share of the reported items that are right."""
        return self.matched / self.estimated if self.estimated else 0.0

    @property
    def recall(self) -> float:
        """Share of the items to find that were found."""
        return self.matched / self.reference if self.reference else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.matched / (self.estimated + self.reference) if self.matched else 0.0

    @property
    def defined(self) -> bool:
        """Whether there was anything to find."""
        return self.reference > 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.matched + other.matched, self.estimated + other.estimated, self.reference + other.reference)


NOTHING = Counts(0, 0, 0)


def pool(counts: Iterable[Counts]) -> Counts:
    """Counts of all tracks together: their rates are the micro averages."""
    return sum(counts, NOTHING)
