"""Drum onset F1: the pitch of a hit is its drum class, the onset must lie within 50 ms, there is no offset.

Three ways to class drums, from fine to coarse:

    general_midi      the groups of `vocabulary.DRUM_CLASSES`; a drum in none (tambourine, conga) is a class of its own
    five              kick, snare, tom, hi-hat, cymbal; other drums are left out on both sides
    kick_snare_hihat  those three; other drums are left out on both sides

The base's own evaluation also deletes, in the first, the drums that are in no group. Here they must be found,
and reporting them wrongly costs, which moves the score down.

Hits of one class that begin together (`LAYERED`) are one hit, on both sides. Songs layer two snares (38 and 40), or a closed
and a pedalled hi-hat (42 and 44); as classes, and so in the tokens and frames that a model learns from, that is one event, and
nobody could find two. The base's evaluation counts it as two, one of them missed.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from stemscribe import vocabulary
from stemscribe.notes import Note
from stemscribe.scoring import notes as note_scores
from stemscribe.scoring.counts import Counts
from stemscribe.scoring.frames import HOP, frame_counts

Classing = Callable[[int], int | None]
"""Drum pitch -> the pitch that stands for its class, or None where the drum is left out."""

CLASSINGS: Mapping[str, Classing] = MappingProxyType(
    {
        "general_midi": vocabulary.drum_class,
        "five": vocabulary.FIVE_DRUMS.get,
        "kick_snare_hihat": vocabulary.KICK_SNARE_HIHAT.get,
    }
)

LAYERED = 0.015
"""Seconds within which two hits of a class are one: a tick and a half, less than any flam."""

COARSE_NAMES: Mapping[int, str] = MappingProxyType({36: "Kick", 38: "Snare", 42: "Hi-hat", 47: "Tom", 49: "Cymbal"})
"""Names of the five classes, by the pitch that stands for each."""


def drum_counts(
    reference: Iterable[Note],
    estimate: Iterable[Note],
    classing: str = "general_midi",
    tolerances: note_scores.Tolerances = note_scores.STANDARD,
) -> Counts:
    """Hits whose class and onset are right.

    Args:
        reference: hits; `pitch` names the drum.
        estimate: hits.
        classing: a name in `CLASSINGS`.
        tolerances: how far an onset may be off.
    """
    return note_scores.onset_counts(classed(reference, classing), classed(estimate, classing), tolerances)


def classed(hits: Iterable[Note], classing: str) -> list[Note]:
    """The hits by onset, with the pitch that stands for their class; hits in no class are left out, layered ones are one."""
    class_of = CLASSINGS[classing]
    latest: dict[int, float] = {}
    found = []
    for hit in sorted(hits, key=lambda hit: hit.onset):
        pitch = class_of(hit.pitch)
        if pitch is not None and hit.onset - latest.get(pitch, -math.inf) > LAYERED:
            latest[pitch] = hit.onset
            found.append(replace(hit, pitch=pitch))
    return found


def drum_frame_counts(reference: Iterable[Note], estimate: Iterable[Note]) -> Counts:
    """Frame counts of General MIDI classes, each hit lasting one frame hop.

    A hit has no length of its own. One hop long, it falls on exactly one frame, so this asks which classes
    are hit in each 62.5 ms of a fixed grid. Hits 60 ms apart may count as the same here, and hits 10 ms apart
    as different: onset F1 is the fairer score.
    """
    return frame_counts(_one_frame_each(reference), _one_frame_each(estimate))


def _one_frame_each(hits: Iterable[Note]) -> list[Note]:
    return [replace(hit, offset=hit.onset + HOP) for hit in classed(hits, "general_midi")]


def drum_class_name(pitch: int, classing: str = "general_midi") -> str:
    """What a musician calls the class that `pitch` stands for."""
    if classing != "general_midi":
        return COARSE_NAMES[pitch]
    if pitch in vocabulary.DRUM_NAMES:
        return vocabulary.DRUM_NAMES[pitch]
    import pretty_midi  # knows the names of percussion that the vocabulary has no group for

    return pretty_midi.note_number_to_drum_name(pitch) or f"Drum {pitch}"


def counts_by_class(
    reference: Sequence[Note],
    estimate: Sequence[Note],
    classing: str,
    tolerances: note_scores.Tolerances = note_scores.STANDARD,
) -> dict[str, Counts]:
    """Onset counts of each class that either side uses, by the class's name, in the order of its pitch."""
    by_pitch = drum_counts_by_pitch(reference, estimate, classing, tolerances)
    return {drum_class_name(pitch, classing): counts for pitch, counts in by_pitch.items()}


def drum_counts_by_pitch(
    reference: Sequence[Note],
    estimate: Sequence[Note],
    classing: str = "general_midi",
    tolerances: note_scores.Tolerances = note_scores.STANDARD,
) -> dict[int, Counts]:
    """The same by the pitch that stands for the class."""
    expected, found = classed(reference, classing), classed(estimate, classing)
    return {
        pitch: note_scores.onset_counts(
            [hit for hit in expected if hit.pitch == pitch], [hit for hit in found if hit.pitch == pitch], tolerances
        )
        for pitch in sorted({hit.pitch for hit in expected + found})
    }
