"""Stage `prepare` of pretrain/dvc.yaml: all takes of all songs as one set of shards, every source on its own."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from stemscribe import runtime, vocabulary
from stemscribe.audio import SAMPLE_RATE
from stemscribe.corpora.inventory import read_inventory
from stemscribe.corpora.sources import read_source
from stemscribe.data.sharding import PlannedTrack, write_shards
from stemscribe.data.shards import header_of
from stemscribe.data.survey import survey
from stemscribe.errors import UsageError
from stemscribe.notes import DRUM_PROGRAM
from stemscribe.pretraining.corpus import PROJECT, corpora
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.stages import run_stage
from stemscribe.stages.prepare import plan_stem

SHARDS = Path("data/shards/all")
PROGRAMS = [program for program in range(DRUM_PROGRAM + 1) if vocabulary.channel_of(program) is not None]


def main(argv: Sequence[str]) -> None:
    """Write data/shards/all; a track is named by its take and where the song comes from."""
    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}")
    songs = load_pretrain_params().songs
    errata = read_source("demo", PROJECT / "data/sources").errata
    tracks: list[PlannedTrack] = []
    for folder in corpora():
        inventory = read_inventory(folder)
        index, _ = survey(inventory, errata, runtime.workers())
        planned = plan_stem(index, inventory.root, SAMPLE_RATE, PROGRAMS)
        tracks.extend(replace(track, track=f"{track.track}-{folder.name}") for track in planned)
    write_shards(SHARDS, header("pretrain"), tracks, songs.shard_megabytes * 1_000_000, runtime.workers(), "preparing songs")


def header(corpus: str) -> dict[str, Any]:
    """What the manifest says of shards that hold every source."""
    return header_of("all", PROGRAMS, SAMPLE_RATE, corpus)


if __name__ == "__main__":
    sys.exit(run_stage(main))
