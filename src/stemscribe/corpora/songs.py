"""A song as its parts: what each instrument of a MIDI file plays, in ticks, before anything is cut or rendered.

A part is one program on one channel, or the drum kit; that is what Slakh2100 calls a stem. Time stays in the song's own ticks
and tempo map, so that a stem written to disk is the same music, bar for bar. Within a part, a key is never struck again while
it still sounds: what is written is what can be heard.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import mido

from stemscribe.errors import DataError
from stemscribe.notes import DRUM_PROGRAM

DRUM_CHANNEL = 9
DRUM_KEYS = range(35, 82)  # General MIDI level 1: what every kit has
DEFAULT_TEMPO = 500_000  # microseconds per quarter, where the file says nothing
DEFAULT_BEND_RANGE = 2.0  # semitones up and down
LONGEST_SECONDS = 3600.0
BASS_PROGRAMS = range(32, 40)
UNRENDERED_PROGRAMS = frozenset((*range(96, 104), *range(112, 128)))  # effects and percussive sounds, as in Slakh2100
_SKIPPED_RPN = (127, 127)


@dataclass(frozen=True, slots=True)
class Stroke:
    """One key pressed and released, in ticks."""

    start: int
    end: int
    pitch: int
    velocity: int


@dataclass(frozen=True, slots=True)
class Part:
    """What one instrument plays."""

    channel: int
    program: int  # General MIDI 0-127, 128 for the drum kit
    strokes: tuple[Stroke, ...]  # by start, then pitch
    bends: tuple[tuple[int, int], ...] = ()  # (tick, pitch wheel from -8192 to 8191)
    bend_range: float = DEFAULT_BEND_RANGE  # semitones at full wheel
    kit: int = 0  # the drum kit's own program
    revoiced_from: int | None = None  # the program that the composer wrote

    @property
    def is_drum(self) -> bool:
        """Whether this is the drum kit."""
        return self.program == DRUM_PROGRAM

    @property
    def is_bass(self) -> bool:
        """Whether this is a bass of General MIDI."""
        return self.program in BASS_PROGRAMS

    @property
    def is_rendered(self) -> bool:
        """Whether Slakh's recipe renders it; effects are named in the metadata and not rendered."""
        return self.program not in UNRENDERED_PROGRAMS


@dataclass(frozen=True, slots=True)
class Song:
    """A piece of music and where it comes from."""

    name: str  # "D_RUNNIN"
    title: str  # as the file names itself, else the name
    collection: str  # "freedoom2.wad"
    midi: bytes  # the file as it was found
    ticks_per_beat: int
    tempi: tuple[tuple[int, int], ...]  # (tick, microseconds per quarter), the first at tick 0
    metres: tuple[tuple[int, int, int], ...]  # (tick, numerator, denominator)
    parts: tuple[Part, ...]  # by channel, then program; the drum kit last
    start_seconds: float = 0.0  # where an excerpt begins in the whole song

    @property
    def end_tick(self) -> int:
        """When the last key is released."""
        return max((stroke.end for part in self.parts for stroke in part.strokes), default=0)

    @property
    def seconds(self) -> float:
        """How long the song lasts."""
        return self.seconds_at(self.end_tick)

    def seconds_at(self, tick: float) -> float:
        """The time of a tick."""
        seconds, (here, tempo) = 0.0, self.tempi[0]
        for place, next_tempo in self.tempi[1:]:
            if place >= tick:
                break
            seconds += (place - here) * tempo / 1e6 / self.ticks_per_beat
            here, tempo = place, next_tempo
        return seconds + (tick - here) * tempo / 1e6 / self.ticks_per_beat

    def tick_at(self, seconds: float) -> int:
        """The nearest tick to a time."""
        passed, (here, tempo) = 0.0, self.tempi[0]
        for place, next_tempo in self.tempi[1:]:
            until = passed + (place - here) * tempo / 1e6 / self.ticks_per_beat
            if until >= seconds:
                break
            passed, here, tempo = until, place, next_tempo
        return here + round((seconds - passed) * 1e6 * self.ticks_per_beat / tempo)


def is_band(song: Song, shortest_seconds: float = 20.0) -> bool:
    """Whether drums and at least three pitched instruments that are rendered, a bass among them, play for long enough."""
    pitched = [part for part in song.parts if part.is_rendered and not part.is_drum]
    return (
        len(pitched) >= 3
        and any(part.is_bass for part in pitched)
        and any(part.is_drum for part in song.parts)
        and song.seconds >= shortest_seconds
    )


def read_song(midi: bytes, name: str, collection: str) -> Song:
    """Read a standard MIDI file as parts.

    Sustain, volume, pan and expression are left out, so that a note ends where its key is released; the pitch wheel and its
    range stay. Notes on keys that General MIDI's drum kit does not have are left out, and so are keys that nobody releases.

    Args:
        midi: the bytes of the file.
        name: what to call the song.
        collection: where it comes from.
    Raises:
        DataError: if this is no MIDI file that can be read, or it lasts longer than an hour.
    """
    where = f"{name} in {collection}"
    try:
        file = mido.MidiFile(file=io.BytesIO(midi), clip=True)
        events = _timed(file)
    except (OSError, ValueError, EOFError, KeyError, IndexError, TypeError, mido.KeySignatureError) as error:
        raise DataError(f"{where} is no readable MIDI file ({error or type(error).__name__}); leave it out") from error
    if not 1 <= file.ticks_per_beat < 0x8000:
        raise DataError(f"{where} counts frames instead of beats; leave it out")
    tempi = tuple(sorted({0: DEFAULT_TEMPO, **{tick: m.tempo for tick, _, m in events if m.type == "set_tempo"}}.items()))
    metres = {tick: (m.numerator, m.denominator) for tick, _, m in events if m.type == "time_signature"}
    conductor = file.tracks[0] if file.type == 1 and file.tracks else None  # its name is the song's, if it plays nothing
    title = conductor.name.strip() if conductor and all(m.type != "note_on" for m in conductor) else ""
    song = Song(
        name=name,
        title=title or name,
        collection=collection,
        midi=midi,
        ticks_per_beat=file.ticks_per_beat,
        tempi=tempi,
        metres=tuple((tick, *metre) for tick, metre in sorted(metres.items())),
        parts=_parts(events),
    )
    if song.seconds > LONGEST_SECONDS:
        raise DataError(f"{where} lasts {song.seconds:.0f} s, more than an hour; leave it out")
    return song


_Event = tuple[int, int, mido.Message]  # tick, index of the track, message


def _timed(file: mido.MidiFile) -> list[_Event]:
    """All messages in order; at one tick, releases come before settings and settings before strokes."""
    events: list[_Event] = []
    for index, track in enumerate(file.tracks):
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, index, message))
    return sorted(events, key=lambda event: (event[0], _rank(event[2])))


def _rank(message: mido.Message) -> int:
    if message.type == "note_on":
        return 2 if message.velocity else 0
    return 0 if message.type == "note_off" else 1


def _parts(events: Iterable[_Event]) -> tuple[Part, ...]:
    program: dict[int, int] = defaultdict(int)
    held: dict[tuple[int, int, int], list[tuple[int, int, int]]] = defaultdict(list)
    strokes: dict[tuple[int, int], list[Stroke]] = defaultdict(list)
    bends: dict[int, dict[int, int]] = defaultdict(dict)
    ranges: dict[int, Counter[float]] = defaultdict(Counter)
    parameter: dict[int, tuple[int, int]] = defaultdict(lambda: _SKIPPED_RPN)
    kits: Counter[int] = Counter()
    for tick, track, message in events:
        channel: int = getattr(message, "channel", -1)  # -1: messages without a channel, which nothing below takes
        if message.type == "program_change":
            program[channel] = message.program
        elif message.type == "pitchwheel":
            bends[channel][tick] = message.pitch
        elif message.type == "control_change":
            _follow_range(message, parameter, ranges)
        elif message.type == "note_on" and message.velocity:
            held[track, channel, message.note].append((tick, message.velocity, program[channel]))
        elif message.type in ("note_on", "note_off") and held[track, channel, message.note]:
            start, velocity, played = held[track, channel, message.note].pop(0)
            if channel == DRUM_CHANNEL:
                kits[played] += 1
            key = (channel, DRUM_PROGRAM if channel == DRUM_CHANNEL else played)
            strokes[key].append(Stroke(start, tick, message.note, velocity))
    parts = []
    for (channel, played), raw in strokes.items():
        is_drum = played == DRUM_PROGRAM
        clean = separate_strokes(stroke for stroke in raw if not is_drum or stroke.pitch in DRUM_KEYS)
        if clean:
            parts.append(
                Part(
                    channel=channel,
                    program=played,
                    strokes=clean,
                    bends=() if is_drum else tuple(sorted(bends[channel].items())),
                    bend_range=ranges[channel].most_common(1)[0][0] if ranges[channel] else DEFAULT_BEND_RANGE,
                    kit=kits.most_common(1)[0][0] if is_drum else 0,
                )
            )
    return tuple(sorted(parts, key=lambda part: (part.is_drum, part.channel, part.program)))


def _follow_range(message: mido.Message, parameter: dict[int, tuple[int, int]], ranges: dict[int, Counter[float]]) -> None:
    """Follow registered parameter 0, the range of the pitch wheel; all others (tuning) are left out."""
    high, low = parameter[message.channel]
    if message.control == 101:
        parameter[message.channel] = (message.value, low)
    elif message.control == 100:
        parameter[message.channel] = (high, message.value)
    elif message.control == 6 and (high, low) == (0, 0):
        ranges[message.channel][float(message.value)] += 1


def separate_strokes(strokes: Iterable[Stroke]) -> tuple[Stroke, ...]:
    """Strokes of one instrument such that no key is struck again before its release.

    Of strokes of a key that start together, the longest stays with the loudest velocity; a stroke ends at the latest where the
    next one of its key starts; empty strokes are dropped.
    """
    by_key: dict[int, dict[int, Stroke]] = defaultdict(dict)
    for stroke in strokes:
        if stroke.end > stroke.start:
            other = by_key[stroke.pitch].get(stroke.start, stroke)
            together = Stroke(stroke.start, max(stroke.end, other.end), stroke.pitch, max(stroke.velocity, other.velocity))
            by_key[stroke.pitch][stroke.start] = together
    result = []
    for by_start in by_key.values():
        ordered = [by_start[start] for start in sorted(by_start)]
        for here, after in pairwise(ordered):
            result.append(Stroke(here.start, min(here.end, after.start), here.pitch, here.velocity))
        result.append(ordered[-1])
    return tuple(sorted(result, key=lambda stroke: (stroke.start, stroke.pitch)))
