"""Notes <-> tokens, for segments of audio.

The one promise: whatever tokens come in, every onset decoded here gets exactly one offset, and nothing raises.
After MT3 (Gardner et al. 2022, ties in section 3.2) as YourMT3+ (Chang et al. 2024) trained on it;
its odder rules are kept, since the weights have learned them, and named where they stand. A segment reads

    (program pitch ...)* tie  (shift (program) (velocity) pitch ... | shift (velocity) drum ...)*  eos

first the notes already sounding, then what begins and ends, with a token only where its state changes. An example:
E2 on a bass guitar (pitch 40, program 33), begun in the segment before and ending 0.55 s into this one, is

    program-33 pitch-40 tie shift-55 velocity-0 pitch-40 eos
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stemscribe.audio import SAMPLE_RATE, SEGMENT_SAMPLES
from stemscribe.notes import DRUM_PROGRAM, DRUM_SECONDS, SHORTEST_SECONDS, Note, clean_notes, notes_to_columns
from stemscribe.vocabulary import (
    DRUM_0,
    EOS,
    MAX_SHIFT,
    PAD,
    PITCH_0,
    PROGRAM_0,
    SHIFT_0,
    TICKS_PER_SECOND,
    TIE,
    VELOCITY_0,
    VOCABULARY_SIZE,
    channel_of,
    drum_class,
    program_token_class,
)

LONGEST_SECONDS = 10.0
"""A decoded note longer than this shrinks to 10 ms. The reference takes it for a lost offset; drones suffer."""

Ticks = npt.NDArray[np.int32]
Tokens = npt.NDArray[np.int64]
Key = tuple[int, int]
"""(program, pitch): what can sound only once at a time."""


@dataclass(frozen=True, slots=True)
class _ChannelEvents:
    """The notes of one channel: when each sounds, and its events in the order in which tokens are written."""

    held_from: Ticks
    held_until: Ticks
    held_program: Ticks
    held_pitch: Ticks
    tick: Ticks
    program: Ticks
    velocity: Ticks
    pitch: Ticks


class EventTable:
    """The notes of a track, sorted once so that any crop of them is found by bisection.

    Notes are cleaned and brought onto the 10 ms clock first, as the reference's data is. Programs are kept as they
    are, because the reference orders by them and repeats a program token between two programs of one class; only the
    token itself names the class. Notes of programs without a channel are left out.

    Args:
        notes: of a whole track or stem, seconds from its beginning.

    Raises:
        ValueError: if a time is infinite.
    """

    def __init__(self, notes: Iterable[Note]) -> None:
        columns = notes_to_columns(clean_notes(notes))
        if not (np.isfinite(columns["onset"]).all() and np.isfinite(columns["offset"]).all()):
            raise ValueError("a note that never ends cannot become tokens")
        pitch = columns["pitch"].astype(np.int32)
        program = columns["program"].astype(np.int32)
        begin = np.rint(columns["onset"] * TICKS_PER_SECOND).astype(np.int32)
        end = np.maximum(np.rint(columns["offset"] * TICKS_PER_SECOND).astype(np.int32), begin + 1)
        # On the clock, neighbours on one key may meet again: trim as clean_notes does, the last of equal onsets stays.
        order = np.lexsort((begin, pitch, program))
        same_key = (np.diff(pitch[order]) == 0) & (np.diff(program[order]) == 0)
        end[order[:-1]] = np.where(same_key, np.minimum(end[order[:-1]], begin[order[1:]]), end[order[:-1]])
        sounding = end > begin
        begin, end, program, pitch = (column[sounding] for column in (begin, end, program, pitch))
        channels = np.array([-1 if (c := channel_of(p)) is None else c for p in program.tolist()], dtype=np.int32)
        self._channels = {
            int(channel): _channel_events(*(column[channels == channel] for column in (begin, end, program, pitch)))
            for channel in np.unique(channels[channels >= 0])
        }

    @property
    def channels(self) -> tuple[int, ...]:
        """The channels, ascending, that have notes."""
        return tuple(self._channels)

    def channel(self, channel: int) -> _ChannelEvents | None:
        """The events of a channel, or None if it is silent throughout."""
        return self._channels.get(channel)


def _channel_events(begin: Ticks, end: Ticks, program: Ticks, pitch: Ticks) -> _ChannelEvents:
    pitched = program != DRUM_PROGRAM  # a drum has no offset event, and never is a tie
    tick = np.concatenate([begin, end[pitched]])
    programs = np.concatenate([program, program[pitched]])
    pitches = np.concatenate([pitch, pitch[pitched]])
    velocity = np.repeat(np.array([1, 0], np.int32), [len(begin), int(pitched.sum())])
    order = np.lexsort((pitches, velocity, programs, tick))
    held = np.lexsort((pitch, program))
    held = held[pitched[held]]
    return _ChannelEvents(
        begin[held],
        end[held],
        program[held],
        pitch[held],
        tick[order],
        programs[order],
        velocity[order],
        pitches[order],
    )


@dataclass(frozen=True, slots=True)
class Decoded:
    """Notes read from tokens, and how often which rule of the grammar was broken on the way."""

    notes: list[Note]
    errors: Counter[str] = field(default_factory=Counter)


class Tokenizer:
    """Writes and reads the tokens of segments of one length.

    Args:
        segment_samples: length of a segment; at most 2.05 s, which is what the shift tokens can say.
        sample_rate: Hz.
        max_length: longest sequence of one channel; a longer one is cut and has no EOS, as in the reference.

    Raises:
        ValueError: if a segment is longer than the shift tokens reach.
    """

    def __init__(self, segment_samples: int = SEGMENT_SAMPLES, sample_rate: int = SAMPLE_RATE, max_length: int = 256) -> None:
        # The last tick of a segment is at most its rounded-up length: the start may round down, the end not up.
        longest = -(-segment_samples * TICKS_PER_SECOND // sample_rate)
        if segment_samples < 1 or longest > MAX_SHIFT:
            raise ValueError(f"a segment of {segment_samples} samples at {sample_rate} Hz does not fit {MAX_SHIFT} ticks")
        if max_length < 2:
            raise ValueError("the shortest sequence, tie and eos, has two tokens")
        self.segment_samples = segment_samples
        self.sample_rate = sample_rate
        self.max_length = max_length

    @property
    def segment_seconds(self) -> float:
        """Length of a segment, 2.0479375 s for the published model."""
        return self.segment_samples / self.sample_rate

    def segment_start(self, index: int) -> float:
        """Where segment `index` of a track begins, in seconds; segments do not overlap."""
        return index * self.segment_samples / self.sample_rate

    def segments(self, seconds: float) -> int:
        """How many segments cover a track of this length; the last one is padded."""
        return max(1, -(-round(seconds * self.sample_rate) // self.segment_samples))

    def encode_segment(self, table: EventTable, start_seconds: float, channel: int) -> list[int]:
        """The tokens of one channel for the segment that begins at `start_seconds`, anywhere on the sample grid.

        A channel without notes there is `[TIE, EOS]`. Notes held from before are ties; an event on the first border
        belongs to the segment, one on the last border to the next.

        Returns:
            At most `max_length` ids, ending in EOS unless they were cut.
        """
        events = table.channel(channel)
        if events is None:
            return [TIE, EOS]
        start_sample = round(start_seconds * self.sample_rate)
        # In whole numbers, so that segments that touch share out every event exactly once.
        first = -(-start_sample * TICKS_PER_SECOND // self.sample_rate)
        last = -(-(start_sample + self.segment_samples) * TICKS_PER_SECOND // self.sample_rate)
        origin = self._origin(start_sample)
        if channel == channel_of(DRUM_PROGRAM):
            return self._finish(_drum_tokens(events, first, last, origin))
        return self._finish(_pitched_tokens(events, first, last, origin))

    def encode(self, table: EventTable, segments: int, channels: Sequence[int]) -> Tokens:
        """The tokens of the first `segments` segments of a track, `(S, C, max_length)`, padded with PAD."""
        tokens = np.full((segments, len(channels), self.max_length), PAD, dtype=np.int64)
        for segment in range(segments):
            for row, channel in enumerate(channels):
                sequence = self.encode_segment(table, self.segment_start(segment), channel)
                tokens[segment, row, : len(sequence)] = sequence
        return tokens

    def decode_segments(self, tokens: Iterable[Sequence[int]], start_seconds: float = 0.0) -> Decoded:
        """The notes of one channel over consecutive segments.

        A note that is still sounding at the end of a segment goes on if the next segment lists it as a tie, and ends
        where that segment begins if not. After the last segment nobody asks (the reference does not): a note still
        open there lasts 10 ms.

        Args:
            tokens: the ids of each segment, in order; what follows EOS is ignored.
            start_seconds: where the first of them begins.
        """
        events: list[_Event] = []
        errors: Counter[str] = Counter()
        sounding: Counter[Key] = Counter()
        start_sample = round(start_seconds * self.sample_rate)
        for index, sequence in enumerate(tokens):
            sample = start_sample + index * self.segment_samples
            segment = _read_segment(sequence, self._origin(sample), errors)
            start = sample / self.sample_rate  # the border itself, which lies between two ticks
            events.extend((start, program, 0, pitch) for program, pitch in +sounding if (program, pitch) not in segment.ties)
            events.extend(segment.events)
            sounding = segment.sounding
        notes = clean_notes(_pair_events(events, errors))
        return Decoded(notes, +errors)  # the plus drops zero counts

    def decode(self, tokens: npt.NDArray[np.integer], start_seconds: float = 0.0) -> Decoded:
        """The notes of all channels over consecutive segments, cleaned together.

        A note has the program that its tokens name, even on a channel of other instruments; filter afterwards.

        Args:
            tokens: `(S, C, L)` ids of S consecutive segments.
            start_seconds: where the first of them begins.
        """
        notes: list[Note] = []
        errors: Counter[str] = Counter()
        for row in range(tokens.shape[1]):
            decoded = self.decode_segments(tokens[:, row].tolist(), start_seconds)
            notes.extend(decoded.notes)
            errors.update(decoded.errors)
        return Decoded(clean_notes(notes), errors)

    def _origin(self, sample: int) -> int:
        """The track's tick from which a segment counts; half ticks round as the reference's floats happen to."""
        return round(sample / self.sample_rate * TICKS_PER_SECOND)

    def _finish(self, tokens: list[int]) -> list[int]:
        tokens.append(EOS)
        return tokens[: self.max_length]


def _pitched_tokens(events: _ChannelEvents, first: int, last: int, origin: int) -> list[int]:
    tokens: list[int] = []
    program = -1
    held = np.flatnonzero((events.held_from < first) & (events.held_until >= first))
    for new_program, pitch in zip(events.held_program[held].tolist(), events.held_pitch[held].tolist(), strict=True):
        if new_program != program:
            program = new_program
            tokens.append(PROGRAM_0 + program_token_class(program))
        tokens.append(PITCH_0 + pitch)
    tokens.append(TIE)
    tick, velocity = origin, -1  # the program carries over the tie section, the velocity does not
    here = slice(*np.searchsorted(events.tick, [first, last]).tolist())
    for new_tick, new_program, new_velocity, pitch in zip(
        events.tick[here].tolist(),
        events.program[here].tolist(),
        events.velocity[here].tolist(),
        events.pitch[here].tolist(),
        strict=True,
    ):
        if new_tick != tick:
            tick = new_tick
            tokens.append(SHIFT_0 + tick - origin)
        if new_program != program:
            program = new_program
            tokens.append(PROGRAM_0 + program_token_class(program))
        if new_velocity != velocity:
            velocity = new_velocity
            tokens.append(VELOCITY_0 + velocity)
        tokens.append(PITCH_0 + pitch)
    return tokens


def _drum_tokens(events: _ChannelEvents, first: int, last: int, origin: int) -> list[int]:
    tokens = [TIE]
    tick, hit = origin, False
    here = slice(*np.searchsorted(events.tick, [first, last]).tolist())
    for new_tick, pitch in zip(events.tick[here].tolist(), events.pitch[here].tolist(), strict=True):
        if new_tick != tick:
            tick = new_tick
            tokens.append(SHIFT_0 + tick - origin)
        if not hit:
            hit = True
            tokens.append(VELOCITY_0 + 1)
        tokens.append(DRUM_0 + drum_class(pitch))
    return tokens


_Event = tuple[float, int, int, int]
"""(seconds, program, velocity, pitch); sorting puts the offset of a key before its next onset."""


@dataclass(slots=True)
class _Segment:
    events: list[_Event] = field(default_factory=list)
    ties: Counter[Key] = field(default_factory=Counter)
    sounding: Counter[Key] = field(default_factory=Counter)


def _read_segment(tokens: Sequence[int], origin: int, errors: Counter[str]) -> _Segment:
    """Read the tokens of one segment of one channel, counting what makes no sense.

    Args:
        tokens: ids, of any kind in any order.
        origin: the track's tick at which the segment begins.
        errors: counted up.
    """
    program, ties, body = _read_ties(tokens, errors)
    if body is None:  # the reference gives up the whole segment, its weights have never seen one without
        errors["segment without tie"] += 1
        return _Segment()
    # Counted, as in the reference: a key struck twice needs two offsets before it no longer sounds.
    segment = _Segment(ties=ties, sounding=ties.copy())
    time, velocity = origin / TICKS_PER_SECOND, -1
    for token in body:
        if token == EOS:
            break
        if SHIFT_0 < token < PITCH_0:
            time = (origin + token - SHIFT_0) / TICKS_PER_SECOND  # may go back: shifts are absolute
        elif PITCH_0 <= token < VELOCITY_0:
            key = (program, token - PITCH_0)
            if program < 0 or velocity < 0:
                errors["pitch without program or velocity"] += 1
            elif velocity == 0 and segment.sounding[key] == 0:
                errors["offset without onset"] += 1
            else:
                segment.events.append((time, program, velocity, key[1]))
                segment.sounding[key] += 1 if velocity else -1
        elif VELOCITY_0 <= token < TIE:
            velocity = token - VELOCITY_0
        elif PROGRAM_0 <= token < DRUM_0:
            program = token - PROGRAM_0
        elif DRUM_0 <= token < VOCABULARY_SIZE:
            segment.events.append((time, DRUM_PROGRAM, 1, token - DRUM_0))
        elif token != PAD:
            errors["second tie" if token == TIE else "unexpected token"] += 1
    return segment


def _read_ties(tokens: Sequence[int], errors: Counter[str]) -> tuple[int, Counter[Key], Sequence[int] | None]:
    """The last program named, the notes held from before, and the tokens after the tie (None if it never comes)."""
    program = -1
    ties: Counter[Key] = Counter()
    for position, token in enumerate(tokens):
        if token == TIE:
            return program, ties, tokens[position + 1 :]
        if SHIFT_0 <= token < PITCH_0:
            break
        if PROGRAM_0 <= token < DRUM_0:
            program = token - PROGRAM_0
        elif not PITCH_0 <= token < VELOCITY_0:
            errors["unexpected token"] += token != PAD
        elif program < 0:
            errors["pitch without program or velocity"] += 1
        else:
            ties[program, token - PITCH_0] += 1
    return program, ties, None


def _pair_events(events: list[_Event], errors: Counter[str]) -> list[Note]:
    """Give every onset its offset: the next offset or onset of its key, or 10 ms where there is none."""
    notes: list[Note] = []
    begun: dict[Key, float] = {}
    for time, program, velocity, pitch in sorted(events):
        key = (program, pitch)
        if program == DRUM_PROGRAM:
            notes.append(Note(time, time + DRUM_SECONDS, pitch, DRUM_PROGRAM))
            continue
        onset = begun.pop(key, None)
        if onset is not None:
            too_long = time - onset > LONGEST_SECONDS
            errors["note longer than 10 s"] += too_long
            notes.append(Note(onset, onset + SHORTEST_SECONDS if too_long else time, pitch, program))
        elif velocity == 0:
            errors["offset without onset"] += 1
        if velocity == 1:
            begun[key] = time
    errors["onset without offset"] += len(begun)
    for (program, pitch), onset in begun.items():
        notes.append(Note(onset, onset + SHORTEST_SECONDS, pitch, program))
    return notes
