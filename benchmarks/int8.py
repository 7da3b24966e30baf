"""What int8 decoding gains and costs: time, tokens and onset F1 beside fp32, on the stems of test tracks.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/int8.py                       # the shipped base, 3 tracks of each stem, 20 s
    python benchmarks/int8.py --models models --tracks 12 --seconds 60      # the specialists in models/
    python benchmarks/int8.py --full                                        # time only: random weights of the full size

Needs the shards that `dvc repro` makes (--shards names others). Both ways of decoding start from one encoding and take turns;
time is CPU time of the token decoder alone, medians of the ratios over tracks. Tokens agree by place: one token more or less
puts all that follow in a stream out of place, so the share of equal streams stands beside it. It prints Markdown for
docs/benchmarks.md.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from stemscribe.audio import Audio
from stemscribe.checkpoint import load_model, load_programs
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, StemscribeError
from stemscribe.model import FULL, YourMT3
from stemscribe.notes import Note
from stemscribe.scoring.counts import pool
from stemscribe.scoring.scorecard import onset_counts
from stemscribe.stages import STEMS
from stemscribe.stages.base import SHIPPED
from stemscribe.transcriber import Transcriber

COLUMNS = ("stem", "decoder, int8 / fp32", "equal tokens", "equal streams", "onset F1, fp32", "onset F1, int8")
WAYS = (False, True)


def decode(model: YourMT3, memory: Tensor, int8: bool, steps: int | None = None) -> tuple[Tensor, float]:
    """Tokens, and CPU seconds of the steps without laying out the weights."""
    with model.decoding(int8):
        before = time.process_time()
        return model.generate_from_memory(memory, steps), time.process_time() - before


def agreement(one: Tensor, other: Tensor) -> tuple[int, int, int, int]:
    """Equal tokens and all (padding left out), equal streams and all, of `(B, C, L)`."""
    length = max(one.shape[-1], other.shape[-1])
    one, other = (torch.nn.functional.pad(each, (0, length - each.shape[-1])).flatten(0, 1) for each in (one, other))
    spoken = (one != 0) | (other != 0)
    equal = one == other
    return int((equal & spoken).sum()), int(spoken.sum()), int(equal.all(dim=1).sum()), len(one)


def measure(model: YourMT3, programs: Sequence[int], shards: ShardReader, tracks: int, seconds: float) -> list[str]:
    """One row of the table, without the stem's name."""
    sounding = [track for track in shards.tracks("test") if track.sources][:tracks]
    if not sounding:
        raise DataError("no test track plays this stem; choose a larger corpus")
    transcribers = [Transcriber(model, programs, int8=int8) for int8 in WAYS]
    channels, size = transcribers[0].channels, model.config.segment_samples
    ratios, agreed = [], []
    scores: list[list[object]] = [[], []]
    for turn, track in enumerate(sounding):
        length = min(track.samples, int(seconds * shards.sample_rate))
        audio = shards.audio(track, 0, length)
        truth = [note for note in shards.notes(track) if note.onset < length / shards.sample_rate]
        memory = encoded(model, audio, channels, size)
        if turn == 0:
            for way in WAYS:
                decode(model, memory, way, 4)  # warm up
        in_turn = {way: decode(model, memory, way) for way in (WAYS if turn % 2 == 0 else reversed(WAYS))}
        (fp32, slow), (int8, fast) = (in_turn[way] for way in WAYS)
        ratios.append(fast / slow)
        agreed.append(agreement(fp32, int8))
        for counts, transcriber in zip(scores, transcribers, strict=True):
            found: Sequence[Note] = transcriber.transcribe(audio).notes
            counts.append(onset_counts(truth, found, drums=128 in programs))
    tokens, all_tokens, streams, all_streams = (sum(column) for column in zip(*agreed, strict=True))
    rates = (f"{pool(counts).f1:.3f}" for counts in scores)  # type: ignore[arg-type]
    return [f"{median(ratios):.2f}", f"{tokens / all_tokens:.1%}", f"{streams / all_streams:.1%}", *rates]


@torch.inference_mode()
def encoded(model: YourMT3, audio: Audio, channels: Sequence[int], size: int) -> Tensor:
    """What the decoder reads of all whole segments of a recording."""
    whole = torch.from_numpy(audio[: len(audio) // size * size].reshape(-1, size))
    memory = model.encode(whole, channels)
    return model.informed(memory, model.frames(memory, whole, channels) if model.config.memory_frames else None)


def full_size(repeats: int) -> None:
    """Time of the full decoder for some numbers of streams."""
    model = YourMT3(FULL).eval()
    print("| streams | int8 / fp32, 128 steps |\n| --- | --- |")
    for streams in (8, 104):
        memory = torch.randn(streams, 1, FULL.frames, FULL.d_model, generator=torch.Generator().manual_seed(0))
        for way in WAYS:
            decode(model, memory, way, 4)  # warm up
        times = [[decode(model, memory, way, 128)[1] for way in WAYS] for _ in range(repeats)]
        print(f"| {streams} | {median(fast / slow for slow, fast in times):.2f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="folder of the specialists (default: the shipped base for every stem)")
    parser.add_argument("--shards", type=Path, default=Path("data/shards"), help="folder of the stems' shards")
    parser.add_argument("--tracks", type=int, default=3, help="test tracks of each stem (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each track, at most (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="threads for tensor work (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="only the time of the full size")
    chosen = parser.parse_args(argv)
    if min(chosen.tracks, chosen.threads) < 1 or chosen.seconds < 3:  # a whole segment lasts two
        parser.error("--tracks and --threads are at least 1, --seconds is at least 3")
    torch.set_num_threads(chosen.threads)
    if chosen.full:
        full_size(repeats=3)
        return
    for row in (COLUMNS, ["---"] * len(COLUMNS)):
        print(f"| {' | '.join(row)} |", flush=True)
    for stem in STEMS:
        shards = ShardReader(chosen.shards / stem)
        folder = chosen.models / stem if chosen.models else SHIPPED["small"]
        programs = load_programs(folder) if chosen.models else shards.manifest["programs"]
        row = measure(load_model(folder), programs, shards, chosen.tracks, chosen.seconds)
        print(f"| {' | '.join([stem, *row])} |", flush=True)


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"benchmark: {error}")
