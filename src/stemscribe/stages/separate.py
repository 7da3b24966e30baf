"""Stage `separate`: what a source separator would hand to the specialists, for the test tracks.

Reads `separate:`, the shards of the mix and of each stem; writes data/separated/<stem> in the format of shards.
There are two methods, named for what they are: `oracle` is the true stem, a separator without error; `bleed` is
simulated bleed, the true stem plus everything else in the mix at `separate.bleed_db`, a separator that leaks but
distorts nothing. In a track without the stem, oracle gives silence and simulated bleed the faint rest of the band.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemscribe import runtime
from stemscribe.audio import Audio
from stemscribe.config import SeparateParams, load_params
from stemscribe.data.sharding import PlannedSource, PlannedTrack, fitted, write_shards
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import notes_to_columns
from stemscribe.stages import STEMS, run_stage

SPLIT = "test"
MIX = Path("data/shards/mix")
SHARDS = Path("data/shards")
SEPARATED = Path("data/separated")
SHARD_BYTES = 512_000_000


def reads(stem: str | None = None) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("separate",)


def main(argv: Sequence[str]) -> None:
    """Separate every stem of the test tracks.

    Raises:
        DataError: if the shards of the mix or of a stem are missing, or do not belong together.
    """
    if argv:
        raise UsageError(f"separate takes no argument, not {argv[0]!r}; it makes all stems")
    params = load_params(reads()).separate
    for stem in STEMS:
        separate(ShardReader(SHARDS / stem), ShardReader(MIX), params, SEPARATED / stem)


def separate(stem: ShardReader, mix: ShardReader, params: SeparateParams, folder: Path) -> None:
    """Write what the chosen method makes of one stem to `folder`."""
    tracks = [_planned(track, stem, mix, params) for track in stem.tracks(SPLIT)]
    header: Mapping[str, Any] = {
        **{fact: stem.manifest[fact] for fact in ("stem", "programs", "channels", "sample_rate", "corpus")},
        **method_facts(params),
    }
    write_shards(folder, dict(header), tracks, SHARD_BYTES, runtime.workers(), f"separating {stem.manifest['stem']}")


def method_facts(params: SeparateParams) -> dict[str, Any]:
    """How the manifest names the method, so that no table can call it a real separation."""
    if params.method == "oracle":
        return {"method": "oracle (the true stem)"}
    return {"method": f"simulated bleed ({params.bleed_db:g} dB)"}


@dataclass(frozen=True)
class SimulatedStem:
    """The true stem of a track plus the rest of its mix at `gain`."""

    stem: Path  # shards folder
    mix: Path  # shards folder
    track: str
    gain: float  # linear; 0 is the true stem

    def read(self, samples: int) -> Audio:
        """`(samples,)`."""
        stem = ShardReader(self.stem).audio(self.track, 0, samples)
        if not self.gain:
            return stem
        mix = ShardReader(self.mix).audio(self.track, 0, samples)
        return fitted(stem + np.float32(self.gain) * (mix - stem), samples)


def _planned(track: ShardTrack, stem: ShardReader, mix: ShardReader, params: SeparateParams) -> PlannedTrack:
    if mix.track(track).samples != track.samples:
        raise DataError(f"{track.track} is not equally long in {mix.folder} and {stem.folder}; make both again")
    gain = 0.0 if params.method == "oracle" else 10 ** (params.bleed_db / 20)
    recording = SimulatedStem(stem.folder, mix.folder, track.track, gain)
    source = PlannedSource("separated", None, "", notes_to_columns(stem.notes(track)), recording)
    silent = not gain and not track.sources
    return PlannedTrack(track.track, track.split, track.samples, () if silent else (source,))


if __name__ == "__main__":
    sys.exit(run_stage(main))
