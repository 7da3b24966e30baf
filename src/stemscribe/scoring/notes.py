"""Onset F1 and onset-with-offset F1 of notes, as mir_eval.transcription defines them, fast enough for long tracks.

A note is right if its pitch is right and its onset within 50 ms; with offsets, its end must also lie within
max(50 ms, 20 % of the reference duration). Each note counts once, and the matching is the largest there is.
mir_eval compares every reference note with every estimated one. Notes of different semitones are 100 cents
apart and can never match, so asking it pitch by pitch finds the same counts in a small part of the time; the
tests compare the two. Instruments are not told apart, and two instruments in unison are two notes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from mir_eval import transcription

from stemscribe.notes import Note
from stemscribe.scoring.counts import Counts


@dataclass(frozen=True)
class Tolerances:
    """How far a note may be off; the defaults are those of MIREX and of mir_eval."""

    onset: float = 0.05  # seconds, also the least tolerance of an offset
    offset_ratio: float = 0.2  # of the reference duration


STANDARD = Tolerances()


def onset_counts(reference: Sequence[Note], estimate: Sequence[Note], tolerances: Tolerances = STANDARD) -> Counts:
    """Notes whose pitch and onset are right."""
    return Counts(len(matched_notes(reference, estimate, tolerances)), len(estimate), len(reference))


def onset_offset_counts(reference: Sequence[Note], estimate: Sequence[Note], tolerances: Tolerances = STANDARD) -> Counts:
    """Notes whose pitch, onset and end are right."""
    pairs = matched_notes(reference, estimate, tolerances, tolerances.offset_ratio)
    return Counts(len(pairs), len(estimate), len(reference))


def pitch_class_counts(reference: Sequence[Note], estimate: Sequence[Note], tolerances: Tolerances = STANDARD) -> Counts:
    """Notes whose pitch class and onset are right: above `onset_counts` by the octave errors."""
    return onset_counts(_in_one_octave(reference), _in_one_octave(estimate), tolerances)


def _in_one_octave(notes: Iterable[Note]) -> list[Note]:
    return [replace(note, pitch=note.pitch % 12) for note in notes]


def matched_notes(
    reference: Sequence[Note],
    estimate: Sequence[Note],
    tolerances: Tolerances = STANDARD,
    offset_ratio: float | None = None,
) -> list[tuple[Note, Note]]:
    """Which note was found as which: pairs of a true and an estimated note, by pitch and time.

    Args:
        reference: true notes, in any order.
        estimate: reported notes, in any order.
        tolerances: how far notes may be off.
        offset_ratio: share of the true duration by which an end may be off; None where ends do not matter.
    """
    expected, found = _by_pitch(reference), _by_pitch(estimate)
    pairs = []
    for pitch in sorted(expected.keys() & found.keys()):
        matching = transcription.match_notes(
            _intervals(expected[pitch]),
            np.ones(len(expected[pitch])),  # one frequency for all: only times decide here
            _intervals(found[pitch]),
            np.ones(len(found[pitch])),
            onset_tolerance=tolerances.onset,
            offset_ratio=offset_ratio,
            offset_min_tolerance=tolerances.onset,
        )
        pairs += [(expected[pitch][true], found[pitch][heard]) for true, heard in matching]
    return pairs


def _by_pitch(notes: Iterable[Note]) -> dict[int, list[Note]]:
    """The notes of each pitch, in order of time.

    Sorted, because mir_eval's first guess at a matching is then almost always the largest one already.
    """
    groups: dict[int, list[Note]] = {}
    for note in sorted(notes, key=lambda note: (note.onset, note.offset)):
        groups.setdefault(note.pitch, []).append(note)
    return groups


def _intervals(notes: Iterable[Note]) -> npt.NDArray[np.float64]:
    """Onset and offset, `(n, 2)` seconds."""
    return np.array([(note.onset, note.offset) for note in notes], dtype=np.float64)


def without_unisons(notes: Sequence[Note], tolerance: float = STANDARD.onset) -> list[Note]:
    """Of notes of one pitch that begin together the longest: what a perfect ear that knows no instruments could report.

    Args:
        notes: in any order.
        tolerance: seconds from a note that is kept, within which others of its pitch count as the same.
    """
    kept: list[Note] = []
    last: dict[int, float] = {}
    for note in sorted(notes, key=lambda each: (each.onset, -each.offset)):
        if note.onset - last.get(note.pitch, -np.inf) > tolerance:
            kept.append(note)
            last[note.pitch] = note.onset
    return kept
