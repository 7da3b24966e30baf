"""What everybody hears, and what is really played in it: test tracks as .wav files, one folder a part.

A part is a true stem (bass, drums, vocals, other) or the full mix. Samples are those of our shards, float32 at 16 kHz, so
peers and models of ours read the same files. Without `make repro`, a folder of tracks in the layout of Slakh2100 is indexed
and prepared here by the code of the stages `index` and `prepare_<stem>`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from stemscribe import runtime
from stemscribe.atomic import atomic_directory
from stemscribe.config import load_params
from stemscribe.corpora.inventory import Inventory, describe_track
from stemscribe.corpora.sources import read_source
from stemscribe.data.shards import ShardReader
from stemscribe.data.survey import survey
from stemscribe.errors import UsageError
from stemscribe.notes import Note
from stemscribe.stages import STEMS
from stemscribe.stages.prepare import MIX, write_part

SHARDS = Path("data/shards")
SPLIT = "test"


@dataclass(frozen=True)
class Recorded:
    """One track of a part."""

    track: str
    seconds: float
    notes: tuple[Note, ...]  # what is played; of a mix, the pitched notes


@dataclass(frozen=True)
class Part:
    """A stem of all test tracks, or their mixes."""

    name: str
    programs: tuple[int, ...]
    audio: Path  # folder of <track>.wav
    tracks: tuple[Recorded, ...]  # those in which something is played

    @property
    def drums(self) -> bool:
        """Whether pitches name drums."""
        return self.name == "drums"


def record(shards: Path, folder: Path, parts: Sequence[str] = (*STEMS, MIX)) -> dict[str, Part]:
    """Write the test tracks of each part to `folder/<part>/<track>.wav`; tracks without a note of the part are left out.

    Raises:
        UsageError: if the shards are not there.
        DataError: if they are broken.
    """
    return {part: _record_part(_shards(shards / part), part, folder / part) for part in parts}


def corpus_of(shards: Path) -> str:
    """Name of the corpus that shards were made of; errors as in `record`."""
    return str(_shards(shards / MIX).manifest["corpus"])


def _shards(folder: Path) -> ShardReader:
    if not (folder / "manifest.json").is_file():
        raise UsageError(f"no {folder}: everybody hears the songs that `make repro` leaves there; run it first")
    return ShardReader(folder)


def _record_part(reader: ShardReader, name: str, folder: Path) -> Part:
    recorded = []
    with atomic_directory(folder) as partial:
        for track in reader.tracks(SPLIT):
            notes = tuple(note for note in reader.notes(track) if name != MIX or not note.is_drum)
            if notes:
                audio = reader.audio(track, 0, track.samples)
                soundfile.write(partial / f"{track.track}.wav", audio, reader.sample_rate, subtype="FLOAT")
                recorded.append(Recorded(track.track, track.samples / reader.sample_rate, notes))
    return Part(name, tuple(reader.manifest["programs"]), folder, tuple(recorded))


def shards_of_tracks(tracks: Path, source: str, folder: Path) -> Path:
    """Shards of all parts of any tracks in the layout of Slakh2100, all of them for testing.

    Args:
        tracks: folder below which every folder with a metadata.yaml is a track.
        source: a name in data/sources, whose errata apply: `slakh2100` for its tracks, `demo` where there are none.
        folder: where to write; replaced.
    Raises:
        UsageError: if there is no track.
        DataError: if a file is missing or broken.
    """
    found = sorted(path.parent for path in tracks.rglob("metadata.yaml"))
    if not found:
        raise UsageError(f"no track in {tracks}: a track is a folder with metadata.yaml, mix, stems/ and MIDI/; check the path")
    params = load_params(("prepare", "stems"))
    inventory = Inventory(tracks.name, tracks, tuple(describe_track(tracks, each, SPLIT) for each in found))
    index, _ = survey(inventory, read_source(source).errata, runtime.workers())
    for part in (*STEMS, MIX):
        programs = None if part == MIX else params.stems[part].programs
        write_part(folder / part, part, programs, index, tracks, tracks.name, params.prepare)
    return folder
