"""How fast and how well each head reads a stem: specialists on their test tracks, token decoder and frame head side by side.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/heads.py                # four stems, two tracks each, one thread
    python benchmarks/heads.py --stems bass --tracks 12 --seconds 60 --threads 2
    python benchmarks/heads.py --full --tracks 1 --seconds 16         # the full model with a frame head, random weights

Needs what `dvc repro` makes: models/<stem> and data/shards/<stem>. Every track is read by both heads, one right after the other
and in turn first, so both meet the same machine; the frame head also reads segments that do not overlap. Speeds are seconds of
audio per second of CPU time, medians over tracks and repeats. The encoder's share is the time inside `encode`; the rest is the
head with everything that makes notes of its answers. Onset F1 is that of the parts that were read, mean over the tracks. With
`--full` the token decoder stops when the longest true row of a group of segments is written, as a perfect one would. It prints
Markdown for docs/benchmarks.md.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from torch import Tensor

from stemscribe.audio import Audio
from stemscribe.checkpoint import load_model, load_programs
from stemscribe.config import FRAMES, TOKENS
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.errors import DataError, StemscribeError
from stemscribe.model import FULL, YourMT3
from stemscribe.model.config import WITH_EARS
from stemscribe.notes import clip_notes
from stemscribe.scoring.scorecard import onset_counts
from stemscribe.stages import STEMS
from stemscribe.tokenizer import EventTable, Tokenizer
from stemscribe.transcriber import Transcriber

COLUMNS = ("stem", "channels", "read by", "x real time", "over the token decoder", "encoder's share", "onset F1")
APART, BOTH = "frames, no overlap", "both at once"
TITLES = {TOKENS: "token decoder", FRAMES: "frame head", APART: "frame head, segments apart", BOTH: "both heads at once"}


@dataclass(frozen=True)
class Reading:
    """One recording read once."""

    seconds: float  # of audio
    cpu: float  # seconds
    encoder: float  # seconds of `cpu`
    found: Any  # what the way of reading returned

    @property
    def speed(self) -> float:
        """Seconds of audio per second of CPU time."""
        return self.seconds / self.cpu


class EncoderClock:
    """Sums the CPU time that a model spends in `encode`."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.seconds = 0.0
        encode: Callable[..., torch.Tensor] = model.encode

        def timed(*arguments: Any) -> torch.Tensor:
            before = time.process_time()
            memory = encode(*arguments)
            self.seconds += time.process_time() - before
            return memory

        model.encode = timed


def read(transcribe: Callable[[Audio], Any], audio: Audio, seconds: float, clock: EncoderClock) -> Reading:
    """Read a recording of `seconds` once."""
    before, encoded = time.process_time(), clock.seconds
    found = transcribe(audio)
    return Reading(seconds, time.process_time() - before, clock.seconds - encoded, found)


class Untaught(YourMT3):
    """The full model with a frame head and random weights, whose decoder writes as much as there is to write."""

    def __init__(self, channels: Sequence[int], length: int) -> None:
        super().__init__(replace(FULL, frame_head=WITH_EARS), channels)  # what `base.frame_head: add` gives
        self._length = length

    def generate_from_memory(self, memory: Tensor, max_length: int | None = None, stop: bool = True) -> Tensor:
        """Tokens `(B, C, length)`; none of them ends a stream."""
        return super().generate_from_memory(memory, self._length, stop=False)


def full_model(shards: ShardReader) -> Untaught:
    """A full model for a stem; its rows are as long as the median over test tracks of a track's longest true row."""
    channels = shards.manifest["channels"]
    longest = []
    for track in shards.tracks("test"):
        table, count = EventTable(shards.notes(track)), -(-track.samples // FULL.segment_samples)
        starts = [segment * FULL.segment_samples / FULL.sample_rate for segment in range(count)]
        longest.append(max(len(Tokenizer().encode_segment(table, start, channel)) for start in starts for channel in channels))
    torch.manual_seed(0)
    return Untaught(channels, int(median(longest))).eval()


def measure(stem: str, tracks: int, seconds: float, repeats: int, full: bool) -> list[list[str]]:
    """The rows of a stem.

    Raises:
        CheckpointError: if the model is missing or broken.
        DataError: if the shards are, or no test track plays the stem.
        UsageError: if the model has no frame head.
    """
    shards = ShardReader(Path("data/shards") / stem)
    if full:
        model, programs = full_model(shards), shards.manifest["programs"]
    else:
        folder = Path("models") / stem
        model, programs = load_model(folder), load_programs(folder)
    clock = EncoderClock(model)
    by_tokens, by_frames = (Transcriber(model, programs, head) for head in (TOKENS, FRAMES))
    apart = Transcriber(model, programs, FRAMES, overlap=False)
    ways: dict[str, Callable[[Audio], Any]] = {
        TOKENS: by_tokens.transcribe,
        FRAMES: by_frames.transcribe,
        APART: apart.transcribe,
        BOTH: by_tokens.transcribe_by_head,
    }
    sounding = [track for track in shards.tracks("test") if track.sources][:tracks]
    if not sounding:
        raise DataError(f"no test track plays {stem}; choose a larger corpus")
    recordings = [shards.audio(track, 0, min(track.samples, int(seconds * shards.sample_rate))) for track in sounding]
    for transcribe in ways.values():  # warm: allocator, threads, FFT plans
        transcribe(recordings[0][: 4 * shards.sample_rate])
    readings: dict[str, list[Reading]] = {way: [] for way in ways}
    order = list(ways)
    for audio in recordings * repeats:
        for way in order:
            readings[way].append(read(ways[way], audio, len(audio) / shards.sample_rate, clock))
        order = [*order[1:], order[0]]
    rows = []
    for way, each in readings.items():
        ratio = median(one.speed / other.speed for one, other in zip(each, readings[TOKENS], strict=True))
        speed, share = median(reading.speed for reading in each), median(reading.encoder / reading.cpu for reading in each)
        accuracy = "" if full or way == BOTH else f"{onset_f1(shards, sounding, each, stem == 'drums'):.3f}"
        channels = str(len(by_tokens.channels))
        rows.append([stem, channels, TITLES[way], f"{speed:.1f}", f"{ratio:.1f}", f"{share:.0%}", accuracy])
    return rows


def onset_f1(shards: ShardReader, tracks: Sequence[ShardTrack], readings: Sequence[Reading], drums: bool) -> float:
    """Mean over the tracks, of which each was read once before any was read again."""
    scores = []
    for track, reading in zip(tracks, readings, strict=False):
        truth = clip_notes(shards.notes(track), reading.seconds)
        scores.append(onset_counts(truth, list(reading.found.notes), drums).f1)
    return mean(scores)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stems", nargs="+", choices=STEMS, default=list(STEMS), help="which specialists")
    parser.add_argument("--tracks", type=int, default=2, help="test tracks of each stem (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each track, at most (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="times each track is read (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="the full size with random weights instead of models/<stem>")
    parser.add_argument("--threads", type=int, default=1, help="threads for tensor work (default: %(default)s)")
    chosen = parser.parse_args(argv)
    if min(chosen.tracks, chosen.seconds, chosen.repeats, chosen.threads) < 1:
        parser.error("--tracks, --seconds, --repeats and --threads are at least 1")
    torch.set_num_threads(chosen.threads)
    for row in (COLUMNS, ["---"] * len(COLUMNS)):
        print(f"| {' | '.join(row)} |", flush=True)
    for stem in chosen.stems:
        for row in measure(stem, chosen.tracks, chosen.seconds, chosen.repeats, chosen.full):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"benchmark: {error}")
