"""Everybody's notes under our scorer: the same clean-up, the same tracks, differences paired by track.

Notes are cut at the end of the recording and cleaned as our own decoder's are, then scored as docs/evaluation.md says:
instruments inside a part are not told apart, and a unison of two instruments is two notes to find.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from recordings import Part
from runner import NOTE_COLUMNS, NOTES, RECORDING_COLUMNS, RECORDINGS

from stemscribe.errors import DataError
from stemscribe.notes import Note, clean_notes, clip_notes
from stemscribe.scoring.notes import STANDARD, Tolerances, without_unisons
from stemscribe.scoring.scorecard import score_track
from stemscribe.scoring.statistics import Interval, bootstrap_interval

PITCHED_SCORES = ("onset", "onset_offset")
DRUM_SCORES = ("onset", "five_class")


@dataclass(frozen=True)
class Heard:
    """What one transcriber made of one part."""

    notes: Mapping[str, Sequence[Note]]  # by track, cleaned
    wall: float  # times real time: the median over tracks of seconds heard a second
    cpu: float  # the same a second of processor time, all threads added up


@dataclass(frozen=True)
class Result:
    """One transcriber on one part, in scores."""

    f1: Mapping[str, tuple[float, ...]]  # score -> a value for each track
    heard: Heard


def read_heard(folder: Path, part: Part) -> Heard:
    """Read what a runner wrote about a part.

    Raises:
        DataError: if a file is missing or broken, or a track was not transcribed.
    """
    times = {row["recording"]: row for row in _rows(folder / RECORDINGS, RECORDING_COLUMNS)}
    missing = [track.track for track in part.tracks if track.track not in times]
    if missing:
        raise DataError(f"{folder / RECORDINGS} lacks {missing[0]} ({len(missing)} of {len(part.tracks)} tracks); run it again")
    notes: dict[str, list[Note]] = {track.track: [] for track in part.tracks}
    for line, row in enumerate(_rows(folder / NOTES, NOTE_COLUMNS), start=2):
        try:
            notes[row["recording"]].append(_note(row))
        except (TypeError, ValueError, KeyError) as error:
            raise DataError(f"{folder / NOTES}, line {line}: {error}; run it again") from None
    cleaned = {track.track: clean_notes(clip_notes(notes[track.track], track.seconds)) for track in part.tracks}
    rates: dict[str, list[float]] = {"wall": [], "cpu": []}
    for track in part.tracks:
        for clock, values in rates.items():
            try:
                values.append(track.seconds / max(float(times[track.track][clock]), 1e-9))
            except (TypeError, ValueError) as error:
                raise DataError(f"{folder / RECORDINGS}, {track.track}: {error}; run it again") from None
    return Heard(cleaned, median(rates["wall"]), median(rates["cpu"]))


def _note(row: Mapping[str, str]) -> Note:
    onset, offset, pitch = float(row["onset"]), float(row["offset"]), int(row["pitch"])
    if not (np.isfinite((onset, offset)).all() and 0 <= pitch <= 127):
        raise ValueError(f"a note from {onset} to {offset} s with pitch {pitch} is none")
    return Note(onset, offset, pitch, int(row["program"]), int(row["velocity"]))


def _rows(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, strict=True)
            if tuple(table.fieldnames or ()) != columns:
                raise DataError(f"{path} does not have the columns {', '.join(columns)}; run it again")
            return list(table)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path} ({error}); run it again") from None


def scored(part: Part, heard: Mapping[str, Sequence[Note]], tolerances: Tolerances = STANDARD) -> dict[str, tuple[float, ...]]:
    """Each score's F1 of every track of a part; of a mix, the pitched notes that were heard count."""
    values: dict[str, list[float]] = {name: [] for name in (DRUM_SCORES if part.drums else PITCHED_SCORES)}
    for track in part.tracks:
        found = [note for note in heard[track.track] if note.is_drum == part.drums]
        card = score_track(track.notes, found, part.drums, tolerances)
        for name, f1 in values.items():
            f1.append(card[name].f1)
    return {name: tuple(f1) for name, f1 in values.items()}


def heard_once(part: Part, tolerance: float = STANDARD.onset) -> dict[str, list[Note]]:
    """The true notes of each track, of unisons one each."""
    return {track.track: without_unisons(track.notes, tolerance) for track in part.tracks}


def interval(values: Sequence[float], draws: int, seed: int) -> Interval:
    """Mean over tracks and its 95 % interval; every call with one seed draws the same tracks."""
    return bootstrap_interval(values, draws, np.random.default_rng(seed))


def difference(one: Result, other: Result, score: str, draws: int, seed: int) -> Interval:
    """`one` minus `other`, paired by track."""
    return interval([a - b for a, b in zip(one.f1[score], other.f1[score], strict=True)], draws, seed)
