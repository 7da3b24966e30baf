"""What the shipped base loses from a stem to a mix, on songs that it was taught and on the demo's validation songs.

    python benchmarks/mixes.py              # four minutes on two cores, after `cd pretrain && dvc repro prepare`
    python benchmarks/mixes.py --songs 2    # a quick look

A part is heard alone, then with the rest of the song behind it at rising levels. "Told" is alone, with the channels of the part
only; everywhere else the base listens for everything, and a note counts for the part that it is given to. Onset F1 by frames,
mean over the first 30 s of takes; the last two columns are the recall in the full mix, by the right name and by any. A gap
between the two kinds of songs is what more songs could close; a low score on both is what the model cannot do, or has not
learned yet. The second table asks the same of each voice-like program: how many of its notes are found, and how many as voices.
It prints Markdown for docs/base.md.
"""

import argparse
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from stemscribe import runtime, vocabulary
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.checkpoint import load_model
from stemscribe.config import FRAMES
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, StemscribeError
from stemscribe.executor import map_in_processes
from stemscribe.notes import Note, clip_notes
from stemscribe.pretraining.crops import stem_group
from stemscribe.pretraining.generalist import group_programs
from stemscribe.report.markdown import table
from stemscribe.scoring.counts import Counts, pool
from stemscribe.scoring.scorecard import onset_counts
from stemscribe.stages import STEMS
from stemscribe.stages.base import SHIPPED
from stemscribe.transcriber import Transcriber

SHARDS = Path("pretrain/data/shards/all")
SPLITS = {"train": "taught", "validation": "not taught"}
SECONDS = 30
LEVELS = (-18.0, -12.0, -6.0, 0.0)  # dB of the rest of the song, against its level in the mix, which is the last
COLUMNS = (
    "told",
    "alone",
    *(f"rest at {level:g} dB" for level in LEVELS),
    "found in the mix, by its name",
    "found, by any name",
)
SEED = 1
VOICE_COLUMNS = ("alone, found", "alone, as a voice", "in the mix, found", "in the mix, as a voice")


@dataclass(frozen=True)
class Take:
    """What the base made of a take."""

    scores: dict[str, list[float]]  # group -> a value for each of COLUMNS
    voices: dict[int, list[Counts]]  # voice-like program -> what was found of it, for each of VOICE_COLUMNS


def main() -> None:
    """Listen, print."""
    parser = argparse.ArgumentParser(description="Say what the base loses from stems to mixes.")
    parser.add_argument("--songs", type=int, default=12, help="takes of each kind, at most (default: %(default)s)")
    count = parser.parse_args().songs
    if count < 1:
        parser.error("--songs must be at least 1")
    if not SHARDS.exists():
        raise DataError(f"no songs in {SHARDS}; make them: cd pretrain && dvc repro prepare")
    shards = ShardReader(SHARDS)
    rows, voices = [], []
    for split, title in SPLITS.items():
        numbers = list(range(len(shards.tracks(split))))
        random.Random(SEED).shuffle(numbers)
        work = [(split, number) for number in numbers[:count]]
        found = map_in_processes(listen, work, runtime.workers(), f"listening to songs {title}", unit="takes")
        for group in STEMS:
            values = [take.scores[group] for take in found if group in take.scores]
            if values:
                rows.append([group, title, str(len(values)), *(f"{mean:.3f}" for mean in np.mean(values, axis=0))])
        for program in sorted(vocabulary.VOICE_LIKE):
            takes = [take.voices[program] for take in found if program in take.voices]
            if takes:
                recalls = [pool(column) for column in zip(*takes, strict=True)]
                cells = [str(program), title, str(recalls[0].reference), *(f"{each.recall:.3f}" for each in recalls)]
                voices.append(cells)
    print(table(["part", "songs", "takes", *COLUMNS], sorted(rows, key=lambda row: STEMS.index(row[0]))))
    print()
    print(table(["program", "songs", "notes", *VOICE_COLUMNS], sorted(voices, key=lambda row: int(row[0]))))


def listen(work: tuple[str, int]) -> Take:
    """One take: each part that plays in it."""
    split, number = work
    runtime.settle_torch(runtime.workers())
    shards = ShardReader(SHARDS)
    track = shards.tracks(split)[number]
    samples = min(SECONDS * SAMPLE_RATE, track.samples)
    by_source = shards.notes_by_source(track)
    groups = [stem_group(source.program) for source in track.sources]

    def audio(group: str, wanted: bool) -> Audio:
        """The sources that are of the group, or those that are not."""
        members = [index for index, each in enumerate(groups) if (each == group) == wanted]
        return shards.audio(track, 0, samples, members) if members else np.zeros(samples, np.float32)

    mix = _read(shards.audio(track, 0, samples, list(range(len(groups)))))
    found, voices = dict[str, list[float]](), dict[int, list[Counts]]()
    for group in STEMS:
        notes = [note for each, played in zip(groups, by_source, strict=True) if each == group for note in played]
        truth = clip_notes(notes, samples / SAMPLE_RATE)
        if not truth:
            continue
        drums = group == "drums"
        alone, rest = audio(group, True), audio(group, False)
        told = _read(alone, tuple(group_programs(group)))
        behind = [_read(np.asarray(alone + 10 ** (level / 20) * rest, np.float32)) for level in LEVELS[:-1]]
        heard = [_read(alone), *behind, mix]
        named = [onset_counts(truth, [note for note in each if stem_group(note.program) == group], drums) for each in heard]
        anything = [note for note in mix if note.is_drum == drums]
        recalls = [named[-1].recall, onset_counts(truth, anything, drums).recall]
        found[group] = [onset_counts(truth, told, drums).f1, *(each.f1 for each in named), *recalls]
        if group == "vocals":
            readings = [heard[0], as_voices(heard[0]), anything, as_voices(mix)]
            for program in {note.program for note in truth}:
                own = [note for note in truth if note.program == program]
                voices[program] = [onset_counts(own, reading) for reading in readings]
    return Take(found, voices)


def as_voices(notes: Iterable[Note]) -> list[Note]:
    """Those that the base calls voices."""
    return [note for note in notes if stem_group(note.program) == "vocals"]


def _read(audio: Audio, programs: Sequence[int] | None = None) -> list[Note]:
    return list(_listener(None if programs is None else tuple(programs)).transcribe(audio).notes)


@cache
def _listener(programs: tuple[int, ...] | None) -> Transcriber:
    return Transcriber(load_model(SHIPPED["small"]), programs, FRAMES)


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        sys.exit(f"mixes: {error}")
