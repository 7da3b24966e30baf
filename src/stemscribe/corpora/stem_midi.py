"""One part of a song as a MIDI file of its own: what `MIDI/SNN.mid` holds and what the stem is rendered from.

Two tracks as in Slakh2100: tempo and metre, then program, pitch wheel and notes. Writing the same part gives the same bytes.
"""

from collections.abc import Iterator
from pathlib import Path

import mido

from stemscribe.corpora.songs import DRUM_CHANNEL, Part, Song

RELEASE, SETTING, STROKE = range(3)  # order of what happens at one tick


def write_part(path: Path, song: Song, part: Part) -> None:
    """Write `part` in the tempo of `song`; drums go to channel 10 and everything else to channel 1."""
    file = mido.MidiFile(type=1, ticks_per_beat=song.ticks_per_beat, charset="utf-8")
    tempi = [(tick, SETTING, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in song.tempi]
    metres = [
        (tick, SETTING, mido.MetaMessage("time_signature", numerator=numerator, denominator=denominator))
        for tick, numerator, denominator in song.metres
    ]
    file.tracks.append(_track([*tempi, *metres]))
    file.tracks.append(_track([(0, SETTING, mido.MetaMessage("track_name", name=song.title)), *_messages(part)]))
    file.save(path)


def _messages(part: Part) -> Iterator[tuple[int, int, mido.Message]]:
    channel = DRUM_CHANNEL if part.is_drum else 0
    program = part.kit if part.is_drum else part.program
    yield 0, SETTING, mido.Message("program_change", channel=channel, program=program)
    if part.bends:
        # Registered parameter 0 is the range of the wheel; 127, 127 closes it again.
        for control, value in ((101, 0), (100, 0), (6, int(part.bend_range)), (38, 0), (101, 127), (100, 127)):
            yield 0, SETTING, mido.Message("control_change", channel=channel, control=control, value=value)
    for tick, wheel in part.bends:
        yield tick, SETTING, mido.Message("pitchwheel", channel=channel, pitch=wheel)
    for stroke in part.strokes:
        key = {"channel": channel, "note": stroke.pitch}
        yield stroke.start, STROKE, mido.Message("note_on", velocity=stroke.velocity, **key)
        yield stroke.end, RELEASE, mido.Message("note_off", velocity=0, **key)


def _track(messages: list[tuple[int, int, mido.Message]]) -> mido.MidiTrack:
    track, here = mido.MidiTrack(), 0
    for tick, _, message in sorted(messages, key=lambda each: each[:2]):
        track.append(message.copy(time=tick - here))
        here = tick
    return track
