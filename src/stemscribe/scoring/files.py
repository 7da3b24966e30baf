"""The verb `score`: two MIDI files in, every score out.

    scores = score_files(Path("bass.mid"), Path("heard.mid"))
    scores["onset"].f1

MIDI files place notes on ticks, so scores of files can differ a little from scores of the notes they were
written from.
"""

from pathlib import Path

from stemscribe.errors import UsageError
from stemscribe.midi import read_midi
from stemscribe.notes import Note
from stemscribe.scoring.notes import STANDARD, Tolerances
from stemscribe.scoring.scorecard import Scorecard, score_track

LABELS = {
    "onset": "onset",
    "onset_offset": "onset and offset",
    "frame": "frame",
    "pitch_class": "pitch class, onset",
    "five_class": "five drum classes",
    "kick_snare_hihat": "kick, snare, hi-hat",
}


def score_files(reference: Path, estimate: Path, drums: bool = False, tolerances: Tolerances = STANDARD) -> Scorecard:
    """Score a transcription against the true notes.

    Args:
        reference: MIDI file with the true notes.
        estimate: MIDI file with the transcription.
        drums: score the drum kit of both files; otherwise their pitched notes, instruments not told apart.
        tolerances: how far notes may be off.

    Raises:
        DataError: if a file is missing or no MIDI.
        UsageError: if the reference has no such notes.
    """
    expected, found = _notes(reference, drums), _notes(estimate, drums)
    if not expected:
        kind, other = ("drum hit", "leave out --drums") if drums else ("pitched note", "add --drums to score drums")
        raise UsageError(f"{reference} has no {kind}: nothing to score; {other}")
    return score_track(expected, found, drums, tolerances)


def _notes(path: Path, drums: bool) -> list[Note]:
    return [note for note in read_midi(path) if note.is_drum == drums]


def as_json(card: Scorecard) -> dict[str, dict[str, float]]:
    """A scorecard for programs: rates rounded to 4 digits, and the counts they follow from."""
    return {
        name: {
            "f1": round(counts.f1, 4),
            "precision": round(counts.precision, 4),
            "recall": round(counts.recall, 4),
            "matched": counts.matched,
            "estimated": counts.estimated,
            "reference": counts.reference,
        }
        for name, counts in card.items()
    }


def as_text(card: Scorecard) -> str:
    """A scorecard for people, a line for each score."""
    lines = [f"{'':22}{'F1':>7}{'precision':>11}{'recall':>9}{'right':>9}{'reported':>10}{'true':>8}"]
    lines += [
        f"{LABELS[name]:22}{counts.f1:7.3f}{counts.precision:11.3f}{counts.recall:9.3f}"
        f"{counts.matched:9d}{counts.estimated:10d}{counts.reference:8d}"
        for name, counts in card.items()
    ]
    return "\n".join(lines)
