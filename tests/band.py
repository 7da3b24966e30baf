"""Builds small band songs as standard MIDI files, 120 beats a minute, 96 ticks a beat.

midi(Line(0, 33, walk(36, 8)), Line(9, 0, beat(8)))      # eight beats of bass and drums
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import mido

from stemscribe.corpora.songs import Song, read_song

TICKS = 96
BEAT_SECONDS = 0.5
DRUMS = 9


@dataclass(frozen=True)
class Line:
    """What one channel plays: (beat, beats long, pitch) notes with one program, then any other messages at their beats."""

    channel: int
    program: int
    notes: Sequence[tuple[float, float, int]]
    others: Sequence[tuple[float, mido.Message]] = ()
    name: str = ""


def midi(*lines: Line, title: str = "A Song", tempo: int = 500_000) -> bytes:
    """A type 1 file: a conductor track with the title and the tempo, then one track for each line."""
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    conductor = mido.MidiTrack([mido.MetaMessage("track_name", name=title), mido.MetaMessage("set_tempo", tempo=tempo)])
    file.tracks.append(conductor)
    for line in lines:
        events: list[tuple[float, int, mido.Message]] = [
            (0, 0, mido.Message("program_change", channel=line.channel, program=line.program))
        ]
        events += [(beat, 1, message) for beat, message in line.others]
        for beat, length, pitch in line.notes:
            events.append((beat, 3, mido.Message("note_on", channel=line.channel, note=pitch, velocity=90)))
            events.append((beat + length, 2, mido.Message("note_off", channel=line.channel, note=pitch)))
        file.tracks.append(_track(line.name, events))
    stream = io.BytesIO()
    file.save(file=stream)
    return stream.getvalue()


def _track(name: str, events: list[tuple[float, int, mido.Message]]) -> mido.MidiTrack:
    track, here = mido.MidiTrack([mido.MetaMessage("track_name", name=name)]), 0
    for beat, _, message in sorted(events, key=lambda event: event[:2]):
        track.append(message.copy(time=round(beat * TICKS) - here))
        here = round(beat * TICKS)
    return track


def walk(lowest: int, beats: int, first: float = 0.0) -> list[tuple[float, float, int]]:
    """A line of quarter notes that wanders over an octave and a half and does not repeat soon."""
    return [(first + beat, 0.9, lowest + (beat * beat + 3 * beat) % 19) for beat in range(beats)]


def beat(beats: int, first: float = 0.0) -> list[tuple[float, float, int]]:
    """Kick, snare and hi-hat."""
    hits = [(first + b, 0.1, 36 if b % 2 == 0 else 38) for b in range(beats)]
    return hits + [(first + b / 2, 0.1, 42) for b in range(2 * beats)]


def band(lowest: int = 60, beats: int = 48, lead: int = 81, name: str = "SONG") -> Song:
    """A band song of `beats` half-seconds: bass, lead, strings, guitar and drums; `lowest` makes the tunes differ."""
    return read_song(band_midi(lowest, beats, lead), name, "tests")


def band_midi(lowest: int = 60, beats: int = 48, lead: int = 81) -> bytes:
    """The file of `band`; another `lowest` is another tune, not the same one transposed."""
    turn = lowest % 7 + 2
    tune = [(b, 0.9, lowest + (b * b * turn + b) % 17) for b in range(beats)]
    chords = [(b, 3.5, lowest - 12 + (b * turn) % 11 + third) for b in range(0, beats, 4) for third in (0, 4)]
    return midi(
        Line(0, 33, [(b, 0.9, 36 + (b * turn) % 12) for b in range(beats)]),
        Line(1, lead, tune),
        Line(2, 48, chords),
        Line(3, 29, [(b + 0.5, 0.4, lowest + (b * turn) % 13) for b in range(beats)]),
        Line(DRUMS, 0, beat(beats)),
    )
