"""Standard MIDI files <-> notes.

The one promise: a file is read as a synthesiser would play it, or refused in one line; nothing in between.
Files may come from anywhere, so sizes and clocks are checked before anything is built from them. mido takes the bytes
apart; which note sounds when is decided here, on the merged events of all tracks, since tracks may share a channel:
a note-off ends the oldest note of its key (as YourMT3+ reads Slakh), the sustain pedal holds pitched notes, "all notes
off" is obeyed, and what nobody ends lasts until the last event. Pitch bends are ignored, as in the reference.
"""

from bisect import bisect_right
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mido

from stemscribe.atomic import atomic_file
from stemscribe.errors import DataError
from stemscribe.notes import DRUM_PROGRAM, DRUM_SECONDS, Note, clean_notes
from stemscribe.vocabulary import class_name

LARGEST_BYTES = 4 * 2**20
LONGEST_SECONDS = 4 * 3600.0

DRUM_CHANNEL = 9
"""MIDI channel 10, counted from 0."""

SINGING_PROGRAMS = {100: 65, 101: 53}
"""General MIDI has no singing: a voice is written as alto sax, a chorus as voice oohs, as the reference does."""

TICKS_PER_BEAT = 1000
BEAT_MICROSECONDS = 500_000
"""120 beats a minute, so that a written tick is half a millisecond."""
TICKS_PER_SECOND = TICKS_PER_BEAT * 1_000_000 // BEAT_MICROSECONDS

SUSTAIN, ALL_SOUND_OFF, RESET_CONTROLLERS, ALL_NOTES_OFF = 64, 120, 121, 123


def read_midi(path: Path, program: int | None = None, is_drum: bool | None = None) -> list[Note]:
    """Read the notes of a MIDI file, of type 0 or 1.

    Args:
        path: the file.
        program: the program of all notes, whatever the file says; by default each note has its channel's program at
            its onset, and those of channel 10 are drums.
        is_drum: True if all notes are drums, False if none is (not even on channel 10).

    Returns:
        Notes as `clean_notes` leaves them, seconds from the beginning of the file.

    Raises:
        DataError: if the file is missing, broken, truncated, absurdly large or long, or has no single musical clock.
    """
    midi = _parse(path)
    strokes = _strokes(midi)
    seconds = _clock(path, midi)
    notes: list[Note] = []
    for stroke in strokes:
        drum = stroke.channel == DRUM_CHANNEL and program is None if is_drum is None else is_drum
        instrument = DRUM_PROGRAM if drum else stroke.program if program is None else program
        onset = seconds(stroke.begin)
        if instrument == DRUM_PROGRAM:
            notes.append(Note(onset, onset + DRUM_SECONDS, stroke.pitch, DRUM_PROGRAM, stroke.velocity))
        else:
            notes.append(Note(onset, seconds(stroke.end), stroke.pitch, instrument, stroke.velocity))
    if any(note.offset > LONGEST_SECONDS for note in notes):
        raise DataError(f"{path} plays for more than {LONGEST_SECONDS / 3600:.0f} hours; its tempo must be wrong")
    return clean_notes(notes)


def _parse(path: Path) -> mido.MidiFile:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}; check the path") from None
    if size > LARGEST_BYTES:
        raise DataError(f"{path} has {size} bytes, which no song needs; more than {LARGEST_BYTES} are not read")
    try:
        midi = mido.MidiFile(str(path), clip=True)
    except Exception as error:  # mido lets through whatever its parsing of foreign bytes runs into
        if isinstance(error, OSError) and error.strerror:  # the system's; mido's own have no number
            raise DataError(f"cannot read {path}: {error.strerror}; check the path") from None
        reason = str(error).strip() or "it ends too early"
        raise DataError(f"{path} is no readable MIDI file: {reason}; replace the file") from None
    if midi.type not in (0, 1):
        raise DataError(f"{path} is MIDI of type {midi.type}, songs that do not share a clock; save it as type 1")
    if midi.ticks_per_beat <= 0:
        raise DataError(f"{path} counts no ticks in a beat (film time code?); save it with a musical clock")
    if not midi.tracks:
        raise DataError(f"{path} is no readable MIDI file: it has no tracks; replace the file")
    return midi


@dataclass(slots=True)
class _Stroke:
    """One note; `begin` and `end`, pedal included, in ticks."""

    begin: int
    end: int
    channel: int
    program: int
    pitch: int
    velocity: int


@dataclass(slots=True)
class _Channel:
    program: int = 0
    pedal: bool = False
    keys: dict[int, deque[_Stroke]] = field(default_factory=lambda: defaultdict(deque))
    sustained: list[_Stroke] = field(default_factory=list)

    def release(self, pitch: int, tick: int) -> None:
        if self.keys[pitch]:
            stroke = self.keys[pitch].popleft()
            stroke.end = tick
            if self.pedal:
                self.sustained.append(stroke)

    def lift_pedal(self, tick: int) -> None:
        for stroke in self.sustained:
            stroke.end = tick
        self.sustained.clear()
        self.pedal = False

    def release_all(self, tick: int) -> None:
        for pitch, strokes in self.keys.items():
            for _ in range(len(strokes)):
                self.release(pitch, tick)


def _merged(midi: mido.MidiFile) -> list[tuple[int, int, Any]]:
    """All events as (tick, port, message), by tick; at one tick in the order of the tracks."""
    merged: list[tuple[int, int, Any]] = []
    for track in midi.tracks:
        tick = port = 0
        for message in track:
            tick += message.time
            if message.type == "midi_port":
                port = message.port
            merged.append((tick, port, message))
    merged.sort(key=lambda event: event[0])
    return merged


def _strokes(midi: mido.MidiFile) -> list[_Stroke]:
    """Play the file: every note with its end, in ticks."""
    merged = _merged(midi)
    channels: dict[tuple[int, int], _Channel] = defaultdict(_Channel)
    strokes: list[_Stroke] = []
    for tick, port, message in merged:
        kind = message.type
        if kind == "note_on" and message.velocity > 0:
            channel = channels[port, message.channel]
            pitch, velocity = message.note, message.velocity
            stroke = _Stroke(tick, tick, message.channel, channel.program, pitch, velocity)
            channel.keys[pitch].append(stroke)
            strokes.append(stroke)
        elif kind in ("note_on", "note_off"):
            channels[port, message.channel].release(message.note, tick)
        elif kind == "program_change":
            channels[port, message.channel].program = message.program
        elif kind == "control_change":
            _control(channels[port, message.channel], message.control, message.value, tick)
    last = merged[-1][0] if merged else 0
    for channel in channels.values():
        channel.release_all(last)
        channel.lift_pedal(last)
    return strokes


def _control(channel: _Channel, control: int, value: int, tick: int) -> None:
    if control == SUSTAIN:
        if value >= 64:
            channel.pedal = True
        else:
            channel.lift_pedal(tick)
    elif control == RESET_CONTROLLERS:
        channel.lift_pedal(tick)
    elif control == ALL_NOTES_OFF:
        channel.release_all(tick)
    elif control == ALL_SOUND_OFF:
        channel.release_all(tick)
        channel.lift_pedal(tick)


class _Clock:
    """Ticks -> seconds under the tempo changes of all tracks.

    Args:
        ticks_per_beat: of the file.
        tempos: (tick, microseconds a beat), by tick.
    """

    def __init__(self, ticks_per_beat: int, tempos: Iterable[tuple[int, int]]) -> None:
        self._ticks, self._seconds = [0], [0.0]
        self._tick_seconds = [BEAT_MICROSECONDS / 1e6 / ticks_per_beat]
        for tick, tempo in tempos:
            self._seconds.append(self(tick))
            self._ticks.append(tick)
            self._tick_seconds.append(tempo / 1e6 / ticks_per_beat)

    def __call__(self, tick: int) -> float:
        piece = bisect_right(self._ticks, tick) - 1
        return self._seconds[piece] + (tick - self._ticks[piece]) * self._tick_seconds[piece]


def _clock(path: Path, midi: mido.MidiFile) -> _Clock:
    tempos: list[tuple[int, int]] = []
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "set_tempo":
                if message.tempo == 0:
                    raise DataError(f"{path} asks for an infinite tempo at tick {tick}; replace the file")
                tempos.append((tick, message.tempo))
    tempos.sort(key=lambda change: change[0])
    return _Clock(midi.ticks_per_beat, tempos)


def write_midi(path: Path, notes: Iterable[Note]) -> None:
    """Write notes as a General MIDI file of type 1, a track for each program, drums on channel 10.

    Singing is written as `SINGING_PROGRAMS`. Times are kept to a quarter of a millisecond. Where there are more than
    15 pitched programs, further MIDI ports carry them. Equal notes give equal bytes.

    Args:
        path: the file, replaced as a whole.
        notes: in any order; `clean_notes` is applied.

    Raises:
        ValueError: if a note begins before zero or its pitch or program does not exist.
    """
    parts: dict[int, list[Note]] = defaultdict(list)
    for note in clean_notes(notes):
        if note.onset < 0 or not 0 <= note.pitch <= 127 or not 0 <= note.program <= DRUM_PROGRAM:
            raise ValueError(f"MIDI cannot hold {note}")
        parts[note.program].append(note)
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    midi.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=BEAT_MICROSECONDS)]))
    pitched = [program for program in sorted(parts) if program != DRUM_PROGRAM]
    for index, program in enumerate(pitched):
        port, channel = divmod(index, 15)
        midi.tracks.append(_track(parts[program], program, channel + (channel >= DRUM_CHANNEL), port))
    if DRUM_PROGRAM in parts:
        midi.tracks.append(_track(parts[DRUM_PROGRAM], DRUM_PROGRAM, DRUM_CHANNEL, 0))
    with atomic_file(path) as unfinished:
        midi.save(str(unfinished))


def _track(notes: list[Note], program: int, channel: int, port: int) -> mido.MidiTrack:
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=class_name(program))])
    if port:
        track.append(mido.MetaMessage("midi_port", port=port))
    general_program = 0 if program == DRUM_PROGRAM else SINGING_PROGRAMS.get(program, program)
    track.append(mido.Message("program_change", channel=channel, program=general_program))
    events: list[tuple[int, int, int]] = []  # (tick, velocity, pitch): sorted, ends come before beginnings
    for note in notes:
        begin = round(note.onset * TICKS_PER_SECOND)
        end = max(begin + 1, round(note.offset * TICKS_PER_SECOND))
        events.append((begin, min(max(note.velocity, 1), 127), note.pitch))
        events.append((end, 0, note.pitch))
    now = 0
    for tick, velocity, pitch in sorted(events):
        track.append(mido.Message("note_on", channel=channel, note=pitch, velocity=velocity, time=tick - now))
        now = tick
    return track
