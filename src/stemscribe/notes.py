"""Notes: what every part of the house talks about, and how they are cleaned, kept and cut.

The one promise: after `clean_notes`, no note is empty, and a pitch of a program never sounds twice at once.
The clean-up rules are those under which YourMT3+ (Chang et al. 2024) was trained; files are columns of plain numbers.
"""

import io
import math
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stemscribe.atomic import atomic_file
from stemscribe.errors import DataError

DRUM_PROGRAM = 128
"""The program number that stands for the drum kit, one past General MIDI's 0-127."""

DRUM_SECONDS = 0.010
"""A drum hit has an onset and no end that matters; by convention it lasts this long."""

SHORTEST_SECONDS = 0.010
"""One tick of the token clock: a shorter pitched note could not be written as onset and offset."""

DEFAULT_VELOCITY = 100

Columns = dict[str, npt.NDArray[Any]]
"""Notes as equally long columns, see `COLUMN_TYPES`."""

COLUMN_TYPES = {"onset": "<f8", "offset": "<f8", "pitch": "<i2", "program": "<i2", "velocity": "<i2"}


@dataclass(frozen=True, slots=True)
class Note:
    """One note: `onset` and `offset` in seconds, MIDI `pitch` (C4 is 60), `program` 0-127 or 128 for drums."""

    onset: float
    offset: float
    pitch: int
    program: int = 0
    velocity: int = DEFAULT_VELOCITY

    @property
    def is_drum(self) -> bool:
        """Whether this is a hit on the drum kit; `pitch` then names the drum."""
        return self.program == DRUM_PROGRAM


def musical_order(note: Note) -> tuple[float, bool, int, int, int, float]:
    """Sort key of a score: by onset, then pitched before drums, program, velocity, pitch, offset."""
    return (note.onset, note.program == DRUM_PROGRAM, note.program, note.velocity, note.pitch, note.offset)


def clean_notes(notes: Iterable[Note]) -> list[Note]:
    """Sort notes and resolve what no instrument can play.

    Within one (pitch, program), a note ends at the latest where the next begins, so of two equal onsets only the last
    in `musical_order` stays. Notes that end where they begin, or before, are dropped; so are times that are not
    numbers. Then pitched notes shorter than 10 ms are drawn out to 10 ms (drawn out after trimming, as the reference
    does it: two strokes 3 ms apart on one key may overlap by the rest), and drum hits last exactly 10 ms.

    Args:
        notes: in any order.

    Returns:
        A new list in `musical_order`. Cleaning it again changes nothing.
    """
    cleaned: list[Note] = []
    next_onset: dict[tuple[int, int], float] = {}
    numbers = [note for note in notes if not math.isnan(note.onset + note.offset)]  # a NaN would spoil the sorting
    for note in sorted(numbers, key=musical_order, reverse=True):
        key = (note.pitch, note.program)
        limit = next_onset.get(key, math.inf)
        offset = note.onset + DRUM_SECONDS if note.is_drum else min(note.offset, limit)
        if note.onset >= min(offset, limit):
            continue
        next_onset[key] = note.onset
        if not note.is_drum:
            offset = max(offset, note.onset + SHORTEST_SECONDS)
        cleaned.append(note if offset == note.offset else replace(note, offset=offset))
    # A longer offset can only change the order of two notes that agree in all else, and of those only one is left.
    cleaned.reverse()
    return cleaned


def shift_notes(notes: Iterable[Note], seconds: float) -> list[Note]:
    """The same notes, `seconds` later (earlier when negative)."""
    return [replace(note, onset=note.onset + seconds, offset=note.offset + seconds) for note in notes]


def clip_notes(notes: Iterable[Note], end_seconds: float, start_seconds: float = 0.0) -> list[Note]:
    """What sounds in [start, end): notes are cut at both borders, and those outside are left out. Times stay."""
    return [
        replace(note, onset=max(note.onset, start_seconds), offset=min(note.offset, end_seconds))
        for note in notes
        if note.onset < end_seconds and note.offset > start_seconds
    ]


def notes_to_columns(notes: Sequence[Note]) -> Columns:
    """Notes as columns `onset`, `offset` (seconds, float64), `pitch`, `program`, `velocity` (int16), in given order."""
    return {name: np.array([getattr(note, name) for note in notes], dtype=kind) for name, kind in COLUMN_TYPES.items()}


def notes_from_columns(columns: Mapping[str, npt.NDArray[Any]]) -> list[Note]:
    """The notes of `notes_to_columns`, in the same order."""
    return [Note(*row) for row in zip(*(columns[name].tolist() for name in COLUMN_TYPES), strict=True)]


def save_notes(path: Path, tracks: Mapping[str, Sequence[Note]]) -> None:
    """Write the notes of many tracks as one `.npz`: equal notes give equal bytes, on any machine.

    Besides the columns of `notes_to_columns`, `tracks` holds the track ids (those without notes too) and `track` the
    index of each note's id. Stored uncompressed, with the zip format's earliest date, so that nothing but the notes
    decides about the bytes.
    """
    ids = list(tracks)
    parts = [notes_to_columns(tracks[track]) for track in ids]
    lengths = [len(part["onset"]) for part in parts]
    arrays: Columns = {"tracks": np.array(ids, dtype=np.str_)}
    arrays["track"] = np.repeat(np.arange(len(ids), dtype="<i4"), lengths)
    for name, kind in COLUMN_TYPES.items():
        arrays[name] = np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)])
    with atomic_file(path) as unfinished, zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue())


def load_note_columns(path: Path) -> dict[str, Columns]:
    """Read a file of `save_notes` as columns for each track; cheap, where `load_notes` makes an object of each note.

    Raises:
        DataError: if the file is missing, is no such file, or its columns contradict each other.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("tracks", "track", *COLUMN_TYPES)}
    except FileNotFoundError:
        raise DataError(f"no notes at {path}") from None
    except KeyError as error:
        raise DataError(f"{path} is not a file of notes: {error}") from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is broken: {error}; make it again") from None
    ids, owner = arrays.pop("tracks"), arrays.pop("track")
    if {array.shape for array in arrays.values()} != {owner.shape} or owner.ndim != 1 or ids.ndim != 1:
        raise DataError(f"{path} is broken: its columns differ in length; make it again")
    if len(owner) and (owner.min() < 0 or owner.max() >= len(ids) or np.any(np.diff(owner) < 0)):
        raise DataError(f"{path} is broken: its notes are not ordered by track; make it again")
    if not (np.isfinite(arrays["onset"]).all() and np.isfinite(arrays["offset"]).all()):
        raise DataError(f"{path} is broken: some times are not numbers; make it again")
    borders = np.searchsorted(owner, np.arange(len(ids) + 1)).tolist()
    return {
        track: {name: array[borders[index] : borders[index + 1]] for name, array in arrays.items()}
        for index, track in enumerate(ids.tolist())
    }


def load_notes(path: Path) -> dict[str, list[Note]]:
    """Read a file of `save_notes`: the notes of each track, in the order in which they were saved.

    Raises:
        DataError: see `load_note_columns`.
    """
    return {track: notes_from_columns(columns) for track, columns in load_note_columns(path).items()}
