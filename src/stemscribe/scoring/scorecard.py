"""All scores of one track: what was matched, kept as counts, so that tracks can be averaged and pooled alike.

card = score_track(reference, estimate)                      # pitched
card["onset"].f1, card["onset_offset"].f1, card["frame"].f1, card["pitch_class"].f1
card = score_track(hits, found_hits, drums=True)
card["onset"].f1, card["five_class"].f1, card["kick_snare_hihat"].f1, card["frame"].f1
"""

from collections.abc import Mapping, Sequence

from stemscribe import vocabulary
from stemscribe.notes import Note
from stemscribe.scoring import drums as drum_scores
from stemscribe.scoring import notes as note_scores
from stemscribe.scoring.counts import Counts
from stemscribe.scoring.frames import frame_counts
from stemscribe.scoring.notes import STANDARD, Tolerances

Scorecard = Mapping[str, Counts]
PITCHED_SCORES = ("onset", "onset_offset", "frame", "pitch_class")
DRUM_SCORES = ("onset", "frame", "five_class", "kick_snare_hihat")


def onset_counts(
    reference: Sequence[Note], estimate: Sequence[Note], drums: bool = False, tolerances: Tolerances = STANDARD
) -> Counts:
    """What the headline onset F1 is made of: notes, or hits by General MIDI drum class."""
    count = drum_scores.drum_counts if drums else note_scores.onset_counts
    return count(reference, estimate, tolerances=tolerances)


def score_track(
    reference: Sequence[Note], estimate: Sequence[Note], drums: bool = False, tolerances: Tolerances = STANDARD
) -> Scorecard:
    """Counts under every score that applies, named as in `PITCHED_SCORES` or `DRUM_SCORES`."""
    if drums:
        return {
            "onset": drum_scores.drum_counts(reference, estimate, "general_midi", tolerances),
            "frame": drum_scores.drum_frame_counts(reference, estimate),
            "five_class": drum_scores.drum_counts(reference, estimate, "five", tolerances),
            "kick_snare_hihat": drum_scores.drum_counts(reference, estimate, "kick_snare_hihat", tolerances),
        }
    return {
        "onset": note_scores.onset_counts(reference, estimate, tolerances),
        "onset_offset": note_scores.onset_offset_counts(reference, estimate, tolerances),
        "frame": frame_counts(reference, estimate),
        "pitch_class": note_scores.pitch_class_counts(reference, estimate, tolerances),
    }


def score_by_class(
    reference: Sequence[Note], estimate: Sequence[Note], drums: bool = False, tolerances: Tolerances = STANDARD
) -> dict[tuple[str, str], Counts]:
    """Onset counts of the parts of a stem, by (grouping, class name).

    Drums are grouped in the three ways of `scoring.drums`. Pitched notes are grouped by the model's channels
    (`instrument`), and a note counts only if it was also given to the right instrument, so these scores lie
    at or below the stem's own.
    """
    if drums:
        return {
            (classing, name): counts
            for classing in drum_scores.CLASSINGS
            for name, counts in drum_scores.counts_by_class(reference, estimate, classing, tolerances).items()
        }
    channels = sorted(
        {channel for note in (*reference, *estimate) if (channel := vocabulary.channel_of(note.program)) is not None}
    )
    return {
        ("instrument", vocabulary.CHANNEL_NAMES[channel]): note_scores.onset_counts(
            [note for note in reference if vocabulary.channel_of(note.program) == channel],
            [note for note in estimate if vocabulary.channel_of(note.program) == channel],
            tolerances,
        )
        for channel in channels
    }
