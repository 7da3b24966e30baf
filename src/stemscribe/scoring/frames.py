"""Frame F1: every 62.5 ms, which of the pitches 16 to 109 sound? Counts equal mir_eval.multipitch on the same frames.

Frame k stands at k x 62.5 ms, and a note sounds from its onset up to, not including, its offset. The hop and
the range are those of the base's own evaluation. Two notes of one pitch that sound together are one pitch.
Pitches are whole semitones, so mir_eval's half-semitone window asks for equality, and set intersection
replaces its matching.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from stemscribe.notes import Note
from stemscribe.scoring.counts import Counts

HOP = 0.0625  # seconds; a power of two, so frame times are exact
LOWEST, HIGHEST = 16, 109  # MIDI pitches, both included


def frame_counts(reference: Iterable[Note], estimate: Iterable[Note]) -> Counts:
    """Sounding pitches, summed over frames; the last frame is the last in which either side sounds."""
    expected, found = _spans(reference), _spans(estimate)
    frames = max((last for _, _, last in expected + found), default=0)
    reference_roll, estimate_roll = _roll(expected, frames), _roll(found, frames)
    return Counts(
        int(np.count_nonzero(reference_roll & estimate_roll)),
        int(np.count_nonzero(estimate_roll)),
        int(np.count_nonzero(reference_roll)),
    )


def _spans(notes: Iterable[Note]) -> list[tuple[int, int, int]]:
    """Pitch, first frame, and the frame after the last, of each note in range."""
    return [
        (note.pitch, max(0, int(np.ceil(note.onset / HOP))), max(0, int(np.ceil(note.offset / HOP))))
        for note in notes
        if LOWEST <= note.pitch <= HIGHEST
    ]


def _roll(spans: list[tuple[int, int, int]], frames: int) -> npt.NDArray[np.bool_]:
    """What sounds when, `(pitches, frames)`."""
    roll = np.zeros((HIGHEST - LOWEST + 1, frames), dtype=np.bool_)
    for pitch, first, end in spans:
        roll[pitch - LOWEST, first:end] = True
    return roll
