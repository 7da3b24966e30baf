"""A few seconds of one test track to look at and listen to: chosen by rule, so that nobody can pick the nicest.

The track is the one in the middle when test tracks are ordered by the specialist's score on separated stems
(the lower of two middles); the window is the one, out of windows half their length apart, in which the stem
plays most notes.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import soundfile

from stemscribe.audio import Audio
from stemscribe.data.shards import ShardReader
from stemscribe.notes import Note
from stemscribe.scoring.drums import classed
from stemscribe.scoring.notes import STANDARD, Tolerances, matched_notes

SECONDS = 10.0
LOUDEST = 0.7  # peak of the excerpt, so that quiet stems can be heard


@dataclass(frozen=True)
class Excerpt:
    """What the window shows; times of notes count from its beginning."""

    track: str
    start: float  # seconds into the track
    seconds: float
    found: tuple[tuple[Note, Note], ...]  # true note, and the note it was found as
    missed: tuple[Note, ...]  # true notes that were not found
    false: tuple[Note, ...]  # notes that are not there
    flac: bytes  # mono, what the specialist heard

    @property
    def notes(self) -> list[Note]:
        """All notes, true and false."""
        return [note for pair in self.found for note in pair] + [*self.missed, *self.false]


def choose_track(scores: Mapping[str, float]) -> str:
    """The track in the middle, by score and then by name."""
    ordered = sorted(scores, key=lambda track: (scores[track], track))
    return ordered[(len(ordered) - 1) // 2]


def choose_start(notes: Sequence[Note], track_seconds: float, seconds: float = SECONDS) -> float:
    """The beginning of the window in which most notes begin; the earliest of equals."""
    last = max(track_seconds - seconds, 0.0)
    starts = [*(step * seconds / 2 for step in range(int(2 * last / seconds) + 1)), last]
    return max(starts, key=lambda start: (sum(start <= note.onset < start + seconds for note in notes), -start))


def cut_excerpt(
    track: str,
    reference: Sequence[Note],
    estimate: Sequence[Note],
    audio: ShardReader,
    drums: bool,
    tolerances: Tolerances = STANDARD,
) -> Excerpt:
    """Match the whole track, then show the window.

    Args:
        track: which track.
        reference: its true notes.
        estimate: the specialist's notes.
        audio: the shards that the specialist heard.
        drums: whether pitches are drums; they are shown by General MIDI class.
        tolerances: how far an onset may be off.
    """
    length = audio.track(track).samples / audio.sample_rate
    seconds = min(SECONDS, length)
    start = choose_start(reference, length, seconds)
    if drums:
        reference, estimate = classed(reference, "general_midi"), classed(estimate, "general_midi")
    pairs = matched_notes(reference, estimate, tolerances)
    true, heard = {id(a) for a, _ in pairs}, {id(b) for _, b in pairs}

    def shown(note: Note) -> bool:
        return note.onset < start + seconds and note.offset > start

    def local(note: Note) -> Note:
        return replace(note, onset=note.onset - start, offset=note.offset - start)

    samples = audio.audio(track, round(start * audio.sample_rate), round(seconds * audio.sample_rate))
    return Excerpt(
        track,
        start,
        seconds,
        tuple((local(a), local(b)) for a, b in pairs if shown(a) or shown(b)),
        tuple(local(note) for note in reference if id(note) not in true and shown(note)),
        tuple(local(note) for note in estimate if id(note) not in heard and shown(note)),
        as_flac(samples, audio.sample_rate),
    )


def as_flac(audio: Audio, sample_rate: int) -> bytes:
    """16-bit mono FLAC of `(N,)`, brought to a comfortable level."""
    peak = float(np.abs(audio).max(initial=0.0))
    level = audio * (LOUDEST / peak) if peak > 0 else audio
    stream = io.BytesIO()
    soundfile.write(stream, level, sample_rate, format="FLAC", subtype="PCM_16")
    return stream.getvalue()
