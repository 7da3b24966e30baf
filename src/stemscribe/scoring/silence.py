"""Notes reported where the stem is silent, per minute of silence: what F1 over tracks with notes never sees.

Time is cut into the published model's segments of 2.048 s. A segment is silent if no reference note sounds in it or
within the onset tolerance of it; a note reported in a silent segment is false whatever its pitch. Tracks
without the stem are silent throughout.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stemscribe.audio import SAMPLE_RATE, SEGMENT_SAMPLES
from stemscribe.notes import Note

SEGMENT = SEGMENT_SAMPLES / SAMPLE_RATE  # seconds


@dataclass(frozen=True, slots=True)
class FalseNotes:
    """Notes in silence, and how much silence there was."""

    notes: int
    silent_seconds: float

    @property
    def per_minute(self) -> float:
        """Notes per minute of silence; 0 where there was none."""
        return 60 * self.notes / self.silent_seconds if self.silent_seconds > 0 else 0.0

    def __add__(self, other: "FalseNotes") -> "FalseNotes":
        return FalseNotes(self.notes + other.notes, self.silent_seconds + other.silent_seconds)


def false_notes(reference: Sequence[Note], estimate: Sequence[Note], seconds: float, tolerance: float = 0.05) -> FalseNotes:
    """Count the notes of `estimate` that begin in silent segments.

    Args:
        reference: what the stem plays.
        estimate: what was reported.
        seconds: length of the track; the last segment counts for as long as the track lasts.
        tolerance: seconds by which a reference note reaches into the silence before and after it.
    """
    silent = _silent_segments(reference, seconds, tolerance)
    segments = np.array([note.onset for note in estimate if 0 <= note.onset < seconds], dtype=np.float64) // SEGMENT
    starts = np.arange(len(silent)) * SEGMENT
    lengths = np.minimum(starts + SEGMENT, seconds) - starts
    return FalseNotes(int(np.count_nonzero(silent[segments.astype(int)])), float(lengths[silent].sum()))


def _silent_segments(reference: Sequence[Note], seconds: float, tolerance: float) -> npt.NDArray[np.bool_]:
    """For each segment of the track, whether the stem is silent in it."""
    silent = np.ones(max(0, int(np.ceil(seconds / SEGMENT))), dtype=np.bool_)
    for note in reference:
        first = max(0, int((note.onset - tolerance) // SEGMENT))
        last = int((note.offset + tolerance) // SEGMENT)
        silent[first : last + 1] = False
    return silent
