"""Shards: the audio of one stem of a whole corpus, laid out so that any two seconds of it are one short copy away.

Every source of a track has the track's length, and the sources of a track stand one after another in one file of
little-endian int16 without header. manifest.json says where everything is and carries each file's sha256; notes.npz
holds the stem's notes, those of a track in the order of its sources.

    bass = ShardReader(Path("data/shards/bass"))
    bass.audio("Track00001", start=16000, samples=32767)      # (32767,), the sum of the track's bass stems
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from stemscribe import vocabulary
from stemscribe.atomic import sha256_file
from stemscribe.audio import Audio
from stemscribe.errors import DataError
from stemscribe.notes import Columns, Note, load_note_columns, musical_order, notes_from_columns

FORMAT = "stemscribe-shards-1"
MANIFEST = "manifest.json"
NOTES = "notes.npz"
FULL_SCALE = 32768  # int16 steps from 0 to 1
BYTES_PER_SAMPLE = 2

_WAY_OUT = "run `dvc checkout`, or make the shards again"

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class ShardSource:
    """One stem of a track inside a shard."""

    stem: str
    program: int | None  # None where several programs sound together
    plugin: str
    offset_samples: int  # from the beginning of the shard file
    notes: int


@dataclass(frozen=True, slots=True)
class ShardTrack:
    """A track with as many sources as it has stems of this kind, perhaps none."""

    track: str
    split: str
    samples: int
    shard: str | None  # file name; None without sources
    sources: tuple[ShardSource, ...]


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file of samples."""

    file: str
    bytes: int
    sha256: str


class ShardReader:
    """Random access to a shards folder; a file is mapped when first touched, a copy in another process maps its own."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest: dict[str, Any] = _read_manifest(self.folder / MANIFEST)
        self.sample_rate: int = self.manifest["sample_rate"]
        self.files = {row.file: row for row in (_row(ShardFile, row, self.folder) for row in self.manifest["shards"])}
        self._tracks = {track.track: track for track in (_track(row, self.folder) for row in self.manifest["tracks"])}
        self._maps: dict[str, npt.NDArray[np.int16]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: no open maps and no notes, it reads its own."""
        return {**{key: value for key, value in self.__dict__.items() if key != "_columns"}, "_maps": {}}

    def tracks(self, split: str | None = None) -> list[ShardTrack]:
        """The tracks of a split in the manifest's order; all of them when None."""
        return [track for track in self._tracks.values() if split in (None, track.split)]

    def track(self, track: str | ShardTrack) -> ShardTrack:
        """The track of this name.

        Raises:
            DataError: if there is none.
        """
        name = track if isinstance(track, str) else track.track
        try:
            return self._tracks[name]
        except KeyError:
            raise DataError(f"no track {name!r} in {self.folder}; {_WAY_OUT}") from None

    def audio(self, track: str | ShardTrack, start: int, samples: int, sources: Sequence[int] | None = None) -> Audio:
        """The sum of a track's sources.

        Args:
            track: the track or its name.
            start: first sample; may lie before the beginning.
            samples: how many; what lies outside the track is silence.
            sources: indices into the track's sources; all of them when None.

        Returns:
            `(samples,)`; a sum of several sources can exceed [-1, 1].
        """
        pieces, before = self._pieces(track, start, samples, sources)
        heard = np.zeros(samples, np.float32)
        for piece in pieces:
            heard[before : before + len(piece)] += piece
        heard *= np.float32(1 / FULL_SCALE)
        return heard

    def source_audio(self, track: str | ShardTrack, start: int, samples: int, sources: Sequence[int] | None = None) -> Audio:
        """Like `audio`, each source by itself: `(sources, samples)`."""
        pieces, before = self._pieces(track, start, samples, sources)
        heard = np.zeros((len(pieces), samples), np.float32)
        for row, piece in zip(heard, pieces, strict=True):
            row[before : before + len(piece)] = piece
        heard *= np.float32(1 / FULL_SCALE)
        return heard

    def notes(self, track: str | ShardTrack) -> list[Note]:
        """All notes of the stem in this track, in musical order."""
        return sorted((note for part in self.notes_by_source(track) for note in part), key=musical_order)

    def notes_by_source(self, track: str | ShardTrack) -> list[list[Note]]:
        """The notes of each source of this track."""
        return [notes_from_columns(columns) for columns in self._columns_by_source(track)]

    def notes_between(self, track: str | ShardTrack, start: float, end: float) -> list[list[Note]]:
        """Of each source, the notes that sound at some time in [start, end) seconds, uncut; cheap for a short time."""
        heard = []
        for columns in self._columns_by_source(track):
            wanted = np.flatnonzero((columns["onset"] < end) & (columns["offset"] > start))
            heard.append(notes_from_columns({name: column[wanted] for name, column in columns.items()}))
        return heard

    def _columns_by_source(self, track: str | ShardTrack) -> list[Columns]:
        place = self.track(track)
        columns = self._columns.get(place.track)
        if columns is None or len(columns["onset"]) != sum(source.notes for source in place.sources):
            raise DataError(f"{self.folder / NOTES} and {MANIFEST} disagree about {place.track}; {_WAY_OUT}")
        parts, begin = [], 0
        for source in place.sources:
            parts.append({name: column[begin : begin + source.notes] for name, column in columns.items()})
            begin += source.notes
        return parts

    @cached_property
    def _columns(self) -> dict[str, Columns]:
        return load_note_columns(self.folder / NOTES)

    def _pieces(
        self, name: str | ShardTrack, start: int, samples: int, wanted: Sequence[int] | None
    ) -> tuple[list[npt.NDArray[np.int16]], int]:
        """What each wanted source holds of [start, start + samples), and how many samples before it are silence."""
        track = self.track(name)
        first, end = max(start, 0), min(start + samples, track.samples)
        sources = track.sources if wanted is None else [track.sources[index] for index in wanted]
        if not sources or track.shard is None:
            return [], 0
        shard = self._maps.get(track.shard)
        if shard is None:
            shard = self._maps[track.shard] = self._map(track.shard)
        length = max(end - first, 0)
        pieces = [shard[source.offset_samples + first : source.offset_samples + first + length] for source in sources]
        return pieces, min(first - start, samples)

    def _map(self, name: str) -> npt.NDArray[np.int16]:
        path, expected = self.folder / name, self.files[name].bytes
        try:
            size = path.stat().st_size
            if size != expected:
                raise DataError(f"{path} has {size} bytes instead of {expected}; {_WAY_OUT}")
            # The plain array over the map slices several times faster than np.memmap itself.
            return np.asarray(np.memmap(path, dtype="<i2", mode="r"))
        except OSError as error:
            raise DataError(f"cannot read {path}: {error.strerror or error}; {_WAY_OUT}") from error


def verify_shards(folder: str | Path) -> int:
    """Compare every file of a shards folder with its sha256 in the manifest.

    Returns:
        Bytes that were compared.

    Raises:
        DataError: naming the first file that is missing or differs.
    """
    reader = ShardReader(folder)
    for shard in reader.files.values():
        path = reader.folder / shard.file
        if not path.is_file():
            raise DataError(f"{path} is missing; {_WAY_OUT}")
        if path.stat().st_size != shard.bytes or sha256_file(path) != shard.sha256:
            raise DataError(f"{path} differs from its manifest; remove it from the DVC cache, then pull or make it again")
    return sum(shard.bytes for shard in reader.files.values())


def header_of(stem: str, programs: Iterable[int], sample_rate: int, corpus: str) -> dict[str, Any]:
    """What a manifest says of its shards as a whole.

    Args:
        stem: a name for what is in them.
        programs: those of its sources; the model's channels for them are `channels`.
        sample_rate: Hz.
        corpus: name of where the tracks come from.
    """
    known = list(programs)
    channels = list(vocabulary.channels_of(known))
    return {"stem": stem, "programs": known, "channels": channels, "sample_rate": sample_rate, "corpus": corpus}


def manifest_of(header: dict[str, Any], shards: Iterable[ShardFile], tracks: Iterable[ShardTrack]) -> dict[str, Any]:
    """The content of manifest.json: the header's facts, then files and tracks."""
    return {
        "format": FORMAT,
        **header,
        "shards": [asdict(shard) for shard in shards],
        "tracks": [asdict(track) for track in tracks],
    }


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no shards at {path.parent}; run `dvc repro` or `dvc pull` for them") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; {_WAY_OUT}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{path} is not in the format {FORMAT}; {_WAY_OUT}")
    missing = {"stem", "programs", "channels", "sample_rate", "corpus", "shards", "tracks"} - set(content)
    if missing:
        raise DataError(f"{path} lacks {sorted(missing)[0]!r}; {_WAY_OUT}")
    return content


def _row(kind: type[Row], content: dict[str, Any], folder: Path) -> Row:
    try:
        return kind(**{field.name: content[field.name] for field in fields(kind)})  # type: ignore[arg-type]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST} lacks {error} in an entry; {_WAY_OUT}") from error


def _track(content: dict[str, Any], folder: Path) -> ShardTrack:
    sources = tuple(_row(ShardSource, source, folder) for source in content.get("sources", ()))
    return _row(ShardTrack, {**content, "sources": sources}, folder)
