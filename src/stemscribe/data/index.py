"""The index of a corpus: which tracks and stems there are, in which split, and what each stem plays.

Four files in one folder: tracks.csv, stems.csv, notes.npz (columns, no pickle; an entry `Track00001/S03` for each
usable stem) and audit.json (what was found to be odd). Notes are corrected for the corpus's errata and end with
their audio.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from stemscribe.atomic import atomic_directory, write_json
from stemscribe.errors import DataError
from stemscribe.notes import Columns, Note, load_note_columns, notes_from_columns, save_notes

Row = TypeVar("Row")
_CELLS: dict[Any, Callable[[str], Any]] = {str: str, int: int, float: float, bool: {"0": False, "1": True}.__getitem__}


@dataclass(frozen=True, slots=True)
class IndexedTrack:
    """A song of the corpus."""

    track: str
    split: str  # train, validation or test
    seconds: float  # of its longest recording
    folder: str  # relative to the root of the corpus


@dataclass(frozen=True, slots=True)
class IndexedStem:
    """A stem with at least one file; its `notes` are counted after all corrections."""

    track: str
    stem: str
    program: int  # 0-127, 128 for drums
    is_drum: bool
    inst_class: str
    plugin: str
    rendered: bool  # its audio exists
    labelled: bool  # its MIDI exists
    notes: int
    excluded: str  # why it must not be used; empty when it may

    @property
    def usable(self) -> bool:
        """Whether audio and truth exist and belong together."""
        return self.rendered and self.labelled and not self.excluded


class NotesByName(Mapping[str, list[Note]]):
    """Notes made from columns when they are asked for, so that a large corpus never stands in memory as objects."""

    def __init__(self, columns: Mapping[str, Iterable[Columns]]) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> list[Note]:
        return [note for part in self._columns[name] for note in notes_from_columns(part)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


class Index:
    """Tables of a corpus, sorted by split and track, and the notes behind them."""

    def __init__(self, tracks: list[IndexedTrack], stems: list[IndexedStem], notes: Mapping[str, Columns]) -> None:
        self.tracks = tracks
        self.stems = stems
        self._notes = notes

    @cached_property
    def _stems_of(self) -> dict[str, list[IndexedStem]]:
        by_track: dict[str, list[IndexedStem]] = {track.track: [] for track in self.tracks}
        for stem in self.stems:
            by_track[stem.track].append(stem)
        return by_track

    def stems_of(self, track: str, programs: Iterable[int] | None = None) -> list[IndexedStem]:
        """The usable stems of a track that play one of `programs` (any program when None)."""
        wanted = None if programs is None else frozenset(programs)
        return [stem for stem in self._stems_of[track] if stem.usable and (wanted is None or stem.program in wanted)]

    def note_columns(self, track: str, stem: str) -> Columns:
        """Note columns of a usable stem, see `stemscribe.notes.notes_to_columns`.

        Raises:
            DataError: if there is no such usable stem.
        """
        try:
            return self._notes[f"{track}/{stem}"]
        except KeyError:
            raise DataError(f"the index holds no notes of {track}/{stem}; run `dvc repro index`") from None

    def notes(self, track: str, stem: str) -> list[Note]:
        """The notes of a usable stem, by onset."""
        return notes_from_columns(self.note_columns(track, stem))


def save_index(folder: Path, index: Index, audit: Mapping[str, Any]) -> None:
    """Write the four files of an index in the place of `folder`, whole or not at all."""
    usable = [(stem.track, stem.stem) for stem in index.stems if stem.usable]
    notes = {f"{track}/{stem}": [index.note_columns(track, stem)] for track, stem in usable}
    with atomic_directory(folder) as partial:
        _write_table(partial / "tracks.csv", IndexedTrack, index.tracks)
        _write_table(partial / "stems.csv", IndexedStem, index.stems)
        save_notes(partial / "notes.npz", NotesByName(notes))
        write_json(partial / "audit.json", audit)


def load_index(folder: Path) -> Index:
    """Read what `save_index` wrote.

    Raises:
        DataError: if a file is missing or broken.
    """
    return Index(
        _read_table(folder / "tracks.csv", IndexedTrack),
        _read_table(folder / "stems.csv", IndexedStem),
        load_note_columns(folder / "notes.npz"),
    )


def _write_table(path: Path, kind: type[Any], rows: Iterable[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, [field.name for field in fields(kind)], lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow({name: int(cell) if isinstance(cell, bool) else cell for name, cell in asdict(row).items()})


def _read_table(path: Path, kind: type[Row]) -> list[Row]:
    columns = {field.name: _CELLS[field.type] for field in fields(kind)}  # type: ignore[arg-type]
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, strict=True)
            if table.fieldnames != list(columns):
                raise DataError(f"{path} does not have the columns {', '.join(columns)}; run `dvc repro index`")
            return [kind(**{name: cell(row[name]) for name, cell in columns.items()}) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error, ValueError, KeyError, TypeError) as error:
        raise DataError(f"cannot read {path}: {error}; run `dvc repro index`") from error
