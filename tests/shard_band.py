"""A small band as shards, audible as sines: what the training tests learn from."""

from pathlib import Path

import numpy as np

from music import drum
from slakh_tree import render
from stemscribe.audio import Audio
from stemscribe.config import StemAugmentParams
from stemscribe.data.sharding import PlannedSource, PlannedTrack, fitted, write_shards
from stemscribe.data.shards import ShardReader
from stemscribe.notes import Note, notes_to_columns

SECONDS = 6.0
RATE = 16000
UNVARIED = StemAugmentParams(transpose=0, gain_db=0, noise_db=-120, drop_source=0, bleed_share=0, bleed_db=-6)
"""Crops that are heard as they were recorded."""


class Sound:
    """Notes as sines, when a shard asks for them."""

    def __init__(self, notes: list[Note]) -> None:
        self._notes = notes

    def read(self, samples: int) -> Audio:
        return fitted(np.asarray(render(self._notes, SECONDS, RATE), dtype=np.float32), samples)


def walking_bass(first: int) -> list[Note]:
    """A note every half second, a fourth up and a fifth down."""
    return [Note(0.25 + 0.5 * k, 0.6 + 0.5 * k, first + 5 * (k % 2), 33) for k in range(11)]


def backbeat() -> list[Note]:
    """Kick on one and three, snare on two and four, at 120 beats a minute."""
    return [drum("kick" if k % 2 == 0 else "snare", 0.25 + 0.5 * k) for k in range(11)]


def write_mix(folder: Path) -> ShardReader:
    """The full mixes of the tracks that have both: bass and drums together."""
    tracks = []
    for number, split in enumerate(("train", "train", "validation"), start=1):
        notes = walking_bass(36 + number) + backbeat()
        source = PlannedSource("mix", None, "", notes_to_columns(notes), Sound(notes))
        tracks.append(PlannedTrack(f"Track{number:05d}", split, int(SECONDS * RATE), (source,)))
    header = {"stem": "mix", "programs": [33, 128], "channels": [4, 12], "sample_rate": RATE, "corpus": "band"}
    write_shards(folder, header, tracks, 1_000_000_000, 1, "mix")
    return ShardReader(folder)


def write_band(folder: Path, stem: str = "bass") -> ShardReader:
    """Three tracks (train, train, validation) of a bass or drum stem, and a fourth that does not have it."""
    programs, channels = ([33], [4]) if stem == "bass" else ([128], [12])
    tracks = []
    for number, split in enumerate(("train", "train", "validation"), start=1):
        notes = walking_bass(36 + number) if stem == "bass" else backbeat()
        source = PlannedSource("S01", programs[0], "sine", notes_to_columns(notes), Sound(notes))
        tracks.append(PlannedTrack(f"Track{number:05d}", split, int(SECONDS * RATE), (source,)))
    tracks.append(PlannedTrack("Track00004", "test", int(SECONDS * RATE), ()))
    header = {"stem": stem, "programs": programs, "channels": channels, "sample_rate": RATE, "corpus": "band"}
    write_shards(folder, header, tracks, 1_000_000_000, 1, "band")
    return ShardReader(folder)
