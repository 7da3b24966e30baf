"""Stages `prepare_<stem>` and `prepare_mix`: lay a stem of the whole corpus out as shards for random access.

Reads `corpus:`, `prepare:` and the stem's programs, the corpus and its index; writes data/shards/<stem>. Every
recording is decoded and checked on the way. A track without the stem stays in the manifest without sources: there,
every note that a model hears is a false one.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from stemscribe import runtime, vocabulary
from stemscribe.config import Params, PrepareParams, load_params
from stemscribe.corpora.inventory import read_inventory
from stemscribe.data.index import Index, IndexedTrack, load_index
from stemscribe.data.sharding import FileRecording, PlannedSource, PlannedTrack, write_shards
from stemscribe.data.shards import header_of
from stemscribe.data.slakh import find_audio
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import Columns, notes_to_columns
from stemscribe.stages import run_stage

MIX = "mix"
RAW = Path("data/raw")
INDEX = Path("data/index")
SHARDS = Path("data/shards")


def reads(stem: str) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("corpus", "prepare") if stem == MIX else ("corpus", "prepare", f"stems.{stem}.programs")


def main(argv: Sequence[str]) -> None:
    """Prepare the stem that `argv` names, or the mix.

    Raises:
        DataError: naming the first file that is missing or broken.
    """
    if len(argv) != 1:
        raise UsageError(f"name one stem, or mix, not {len(argv)}; params.yaml lists the stems")
    prepare(argv[0], load_params(reads(argv[0])), SHARDS / argv[0])


def prepare(stem: str, params: Params, folder: Path) -> None:
    """Write the shards of one stem, or of the mix, to `folder`."""
    index = load_index(INDEX)
    root = read_inventory(RAW / params.corpus.name).root
    programs = None if stem == MIX else params.stems[stem].programs
    tracks = write_part(folder, stem, programs, index, root, params.corpus.name, params.prepare)
    without = sum(not track.sources for track in tracks)
    sources = sum(len(track.sources) for track in tracks)
    print(f"{stem}: {sources} sources in {len(tracks)} tracks, {without} tracks without it", flush=True)


def write_part(
    folder: Path, part: str, programs: Iterable[int] | None, index: Index, root: Path, corpus: str, params: PrepareParams
) -> list[PlannedTrack]:
    """Write the shards of a stem, or of the mix.

    Args:
        folder: where to; replaced.
        part: name of the stem, or MIX.
        programs: of the stem; None for the mix.
        index: of the corpus.
        root: folder of its tracks.
        corpus: its name.
        params: how the audio is laid out.
    Returns:
        what was written.
    Raises:
        UsageError: if the model has no channel for any of the programs.
        DataError: naming the first file that is missing or broken.
    """
    rate = params.sample_rate
    if programs is None:
        programs = sorted({each.program for each in index.stems if each.usable})
        tracks = plan_mix(index, root, rate)
    else:
        programs = sorted(programs)
        if not vocabulary.channels_of(programs):
            raise UsageError(
                f"params.yaml: stems.{part}.programs: the model has a channel for none of {programs}; choose others"
            )
        tracks = plan_stem(index, root, rate, programs)
    header = header_of(part, programs, rate, corpus)
    write_shards(folder, header, tracks, params.shard_megabytes * 1_000_000, runtime.workers(), f"preparing {part}")
    return tracks


def plan_stem(index: Index, root: Path, sample_rate: int, programs: Iterable[int]) -> list[PlannedTrack]:
    """Every track with the usable stems that play one of `programs`, perhaps none."""
    wanted = frozenset(programs)
    return [_planned(track, sample_rate, _stem_sources(index, root, track, sample_rate, wanted)) for track in index.tracks]


def plan_mix(index: Index, root: Path, sample_rate: int) -> list[PlannedTrack]:
    """The mix of every track, with the notes of all its usable stems.

    Raises:
        DataError: if a track has no mix.
    """
    return [_planned(track, sample_rate, [_mix_source(index, root, track, sample_rate)]) for track in index.tracks]


def _planned(track: IndexedTrack, sample_rate: int, sources: Iterable[PlannedSource]) -> PlannedTrack:
    return PlannedTrack(track.track, track.split, round(track.seconds * sample_rate), tuple(sources))


def _stem_sources(
    index: Index, root: Path, track: IndexedTrack, sample_rate: int, programs: frozenset[int]
) -> Iterable[PlannedSource]:
    for stem in index.stems_of(track.track, programs):
        audio = _existing(root / track.folder / "stems", stem.stem)
        notes = index.note_columns(track.track, stem.stem)
        yield PlannedSource(stem.stem, stem.program, stem.plugin, notes, FileRecording(audio, sample_rate))


def _mix_source(index: Index, root: Path, track: IndexedTrack, sample_rate: int) -> PlannedSource:
    audio = _existing(root / track.folder, MIX)
    parts = [index.note_columns(track.track, stem.stem) for stem in index.stems_of(track.track)]
    return PlannedSource(MIX, None, "", merged(parts), FileRecording(audio, sample_rate))


def merged(parts: Iterable[Columns]) -> Columns:
    """The notes of several stems as one, by onset."""
    parts = [notes_to_columns([]), *parts]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["onset"], kind="stable")
    return {name: column[order] for name, column in columns.items()}


def _existing(folder: Path, name: str) -> Path:
    audio = find_audio(folder, name)
    if audio is None:
        raise DataError(f"no {name}.flac or {name}.wav in {folder}; restore it from the corpus archive")
    return audio


if __name__ == "__main__":
    sys.exit(run_stage(main))
