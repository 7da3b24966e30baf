"""The part of a song that is rendered: a window of whole bars in which bass and drums play and most instruments are heard.

An excerpt is a song again, in the same ticks and tempo. A note belongs to it if it begins in it; one that is still sounding
from before is left out, so the audio and the notes of an excerpt both start from silence.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from stemscribe.corpora.songs import Part, Song, Stroke

RELEASE_SECONDS = 1.5  # what is left for the last note of a whole song to die away
DEAF_SECONDS = 0.1  # a note that begins this close to the end could not be heard
FEWEST_STROKES = 4  # from which a part counts as heard

State = TypeVar("State", bound=tuple[int, ...])


def excerpt(song: Song, seconds: float, taken: Sequence[float] = ()) -> Song:
    """The best window of `song`, or all of it if it is no longer than `seconds`.

    The window is the first of those, one for each bar, in which bass and drums play together for most of the time and the most
    instruments are heard.

    Args:
        song: a whole song.
        seconds: length of the window.
        taken: seconds at which windows begin that were taken before; the new one overlaps each by half at most, if the song is
            long enough for that.
    """
    if song.seconds <= seconds:
        return cut(song, 0, seconds)
    bars = [tick for tick in _bars(song) if song.seconds_at(tick) + seconds <= song.seconds] or [0]
    starts = [bar for bar in bars if all(abs(song.seconds_at(bar) - other) >= seconds / 2 for other in taken)] or bars
    onsets = [np.array([song.seconds_at(stroke.start) for stroke in part.strokes]) for part in song.parts]
    rhythm = _seconds_with(song, "is_bass") & _seconds_with(song, "is_drum")

    def merit(tick: int) -> float:
        start = song.seconds_at(tick)
        together = rhythm[round(start) : round(start + seconds)].sum() / seconds
        heard = sum(np.sum((start <= each) & (each < start + seconds)) >= FEWEST_STROKES for each in onsets)
        return float(round(together + heard / len(onsets), 6))

    return cut(song, max(starts, key=merit), seconds)  # of equal ones, max() gives the first


def _bars(song: Song) -> list[int]:
    """The ticks at which bars begin."""
    metres = song.metres or ((0, 4, 4),)
    bars: list[int] = []
    here = 0
    for place, (_, numerator, denominator) in enumerate(metres):
        end = metres[place + 1][0] if place + 1 < len(metres) else song.end_tick
        bar = max(1, song.ticks_per_beat * 4 * numerator // denominator)
        bars.extend(range(here, end, bar))
        here = max(here, end)
    return bars


def _seconds_with(song: Song, kind: str) -> npt.NDArray[np.bool_]:
    """For each second of the song, whether a part of this kind plays in it."""
    heard = np.zeros(int(song.seconds) + 2, dtype=bool)
    for part in song.parts:
        if getattr(part, kind):
            for stroke in part.strokes:
                heard[int(song.seconds_at(stroke.start)) : int(song.seconds_at(stroke.end)) + 1] = True
    return heard


def cut(song: Song, start: int, seconds: float) -> Song:
    """The excerpt that begins at tick `start` and lasts at most `seconds`; parts that are silent in it are left out."""
    begin = song.seconds_at(start)
    end = song.tick_at(begin + seconds)
    last = song.tick_at(begin + seconds - DEAF_SECONDS)
    parts = (_cut_part(part, start, end, last) for part in song.parts)
    return replace(
        song,
        tempi=_from(song.tempi, start, end),
        metres=_from(song.metres, start, end),
        parts=tuple(part for part in parts if part.strokes),
        start_seconds=round(song.start_seconds + begin, 6),
    )


def _cut_part(part: Part, start: int, end: int, last: int) -> Part:
    strokes = tuple(
        Stroke(stroke.start - start, min(stroke.end, end) - start, stroke.pitch, stroke.velocity)
        for stroke in part.strokes
        if start <= stroke.start < last
    )
    return replace(part, strokes=strokes, bends=_from(part.bends, start, end))


def _from(states: tuple[State, ...], start: int, end: int) -> tuple[State, ...]:
    """States that hold from their first number (a tick) on, counted from `start`; the one in force there moves to 0."""
    before = [state for state in states if state[0] <= start]
    after = [state for state in states if start < state[0] < end]
    moved = [(max(state[0] - start, 0), *state[1:]) for state in (*before[-1:], *after)]
    return tuple(moved)  # type: ignore[arg-type]


def length_seconds(song: Song, seconds: float) -> float:
    """How long the audio of an excerpt lasts: `seconds`, or less if the whole song is over before."""
    return min(seconds, song.seconds + RELEASE_SECONDS)
