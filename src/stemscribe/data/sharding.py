"""Writing shards: first the layout, from lengths alone, then the samples, by as many workers as there are.

Where each source goes is decided before anything is decoded, so every worker writes its own region and the bytes are
the same for any number of workers. A folder of shards appears whole or not at all.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from stemscribe.atomic import atomic_directory, sha256_file, write_json
from stemscribe.audio import Audio, read_audio, recording_length
from stemscribe.data.index import NotesByName
from stemscribe.data.shards import (
    BYTES_PER_SAMPLE,
    FULL_SCALE,
    MANIFEST,
    NOTES,
    ShardFile,
    ShardSource,
    ShardTrack,
    manifest_of,
)
from stemscribe.errors import DataError
from stemscribe.executor import map_in_processes
from stemscribe.notes import Columns, save_notes

LONGEST_DISAGREEMENT = 0.5  # seconds by which a recording may be shorter than its track


class Recording(Protocol):
    """Something that can be heard; workers receive it pickled."""

    def read(self, samples: int) -> Audio:
        """The first `(samples,)` of it, silence after its end."""
        ...


@dataclass(frozen=True)
class FileRecording:
    """An audio file of a corpus, brought to the rate of the shards."""

    path: Path
    sample_rate: int  # Hz

    def read(self, samples: int) -> Audio:
        """Decode, check and resample the file; `(samples,)`.

        Raises:
            DataError: if the file is broken or truncated, or its length is more than half a second off.
        """
        length = recording_length(self.path)
        difference = length.seconds - samples / self.sample_rate
        if abs(difference) > LONGEST_DISAGREEMENT:
            raise DataError(
                f"{self.path} lasts {length.seconds:.2f} s, but its track {samples / self.sample_rate:.2f} s; "
                "restore it from the corpus archive"
            )
        if length.rate != self.sample_rate:
            import torch

            torch.set_num_threads(1)  # a resampler split over several threads may round differently
        return fitted(read_audio(self.path, self.sample_rate), samples)


@dataclass(frozen=True)
class PlannedSource:
    """A source before it has a place."""

    stem: str
    program: int | None
    plugin: str
    notes: Columns
    recording: Recording


@dataclass(frozen=True)
class PlannedTrack:
    """A track before it has a place."""

    track: str
    split: str
    samples: int
    sources: tuple[PlannedSource, ...]


def fitted(audio: Audio, samples: int) -> Audio:
    """The first `(samples,)` of `audio`, zeros after its end."""
    return audio[:samples] if len(audio) >= samples else np.pad(audio, (0, samples - len(audio)))


def to_int16(audio: Audio) -> npt.NDArray[np.int16]:
    """Samples in steps of 1/32768, limited to full scale; exact for 16-bit audio."""
    return np.clip(np.rint(audio * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2")


def lay_out(tracks: Iterable[PlannedTrack], shard_bytes: int) -> tuple[list[ShardTrack], dict[str, int]]:
    """Give every source its place: tracks in order, none across two files, a new file where one would grow too large.

    Args:
        tracks: in the order they shall have.
        shard_bytes: largest file; only a single track larger than that exceeds it.

    Returns:
        The placed tracks, and the bytes of each file by name.
    """
    placed: list[ShardTrack] = []
    used = [0]  # samples of each file so far
    for track in tracks:
        size = track.samples * len(track.sources)
        if used[-1] and (used[-1] + size) * BYTES_PER_SAMPLE > shard_bytes:
            used.append(0)
        sources = tuple(
            ShardSource(
                stem=source.stem,
                program=source.program,
                plugin=source.plugin,
                offset_samples=used[-1] + number * track.samples,
                notes=len(source.notes["onset"]),
            )
            for number, source in enumerate(track.sources)
        )
        shard = _file_name(len(used) - 1) if sources else None
        placed.append(ShardTrack(track.track, track.split, track.samples, shard, sources))
        used[-1] += size
    return placed, {_file_name(n): samples * BYTES_PER_SAMPLE for n, samples in enumerate(used) if samples}


def _file_name(number: int) -> str:
    return f"shard-{number:05d}.i16"


def write_shards(
    folder: Path,
    header: dict[str, Any],
    tracks: Sequence[PlannedTrack],
    shard_bytes: int,
    workers: int,
    description: str,
) -> None:
    """Write a shards folder in the place of `folder`.

    Args:
        folder: what it shall be.
        header: the manifest's facts: stem, programs, channels, sample_rate, corpus, and more where useful.
        tracks: in the order they shall have.
        shard_bytes: see `lay_out`.
        workers: processes to use; the bytes do not depend on it.
        description: what progress calls the work.

    Raises:
        DataError: naming the first recording that is broken; nothing is left behind.
    """
    placed, sizes = lay_out(tracks, shard_bytes)
    with atomic_directory(folder) as partial:
        for name, size in sizes.items():
            with (partial / name).open("wb") as stream:
                stream.truncate(size)
        jobs = [
            _WriteTrack(partial / place.shard, place, tuple(source.recording for source in track.sources))
            for place, track in zip(placed, tracks, strict=True)
            if place.shard
        ]
        map_in_processes(_write_track, jobs, workers, description, "tracks")
        paths = [partial / name for name in sizes]
        files = map_in_processes(_describe, paths, workers, f"{description}: hashing", "files")
        write_json(partial / MANIFEST, manifest_of(header, files, placed))
        save_notes(partial / NOTES, NotesByName({t.track: [source.notes for source in t.sources] for t in tracks}))


@dataclass(frozen=True)
class _WriteTrack:
    file: Path
    place: ShardTrack
    recordings: tuple[Recording, ...]


def _write_track(job: _WriteTrack) -> None:
    with job.file.open("r+b") as stream:
        for source, recording in zip(job.place.sources, job.recordings, strict=True):
            samples = to_int16(recording.read(job.place.samples))
            stream.seek(source.offset_samples * BYTES_PER_SAMPLE)
            stream.write(samples.tobytes())


def _describe(path: Path) -> ShardFile:
    return ShardFile(path.name, path.stat().st_size, sha256_file(path))
