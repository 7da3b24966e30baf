"""What the runners share: a folder of recordings in, notes and times out, the same for every model and every environment.

    OUT/notes.csv        recording, onset, offset (seconds), pitch, velocity, program (0 where a model hears no instruments)
    OUT/recordings.csv   recording, wall, cpu (seconds to read and transcribe it; loading the model is not counted)

This file and the runners of the peers need the standard library and the peer, and nothing of ours. Notes are written as the
model decodes them, with microseconds: no MIDI file stands in between, whose ticks would move them.
"""

import argparse
import contextlib
import csv
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

NOTE_COLUMNS = ("recording", "onset", "offset", "pitch", "velocity", "program")
RECORDING_COLUMNS = ("recording", "wall", "cpu")
NOTES, RECORDINGS = "notes.csv", "recordings.csv"

HeardNote = tuple[float, float, int, int, int]
"""Onset and offset in seconds, MIDI pitch, velocity, program."""


def arguments(description: str) -> argparse.ArgumentParser:
    """The parser of a runner: every one takes a folder of .wav files and a folder to write to."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("audio", type=Path, help="folder of .wav files")
    parser.add_argument("out", type=Path, help=f"folder for {NOTES} and {RECORDINGS}")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for those that can")
    return parser


def threads() -> int:
    """How many threads a runner may use; libraries that do not ask OMP_NUM_THREADS themselves have to be told."""
    return int(os.environ.get("OMP_NUM_THREADS", "1"))


def run(transcribe: Callable[[Path], Iterable[HeardNote]], audio: Path, out: Path) -> None:
    """Transcribe every .wav file of a folder, in order of name; `out` is complete once `recordings.csv` is there.

    Args:
        transcribe: from a file to its notes; what it prints is kept from the terminal.
        audio: folder of recordings; a recording is called as its file, without ending.
        out: folder to write to.
    """
    notes: list[tuple[str, str, str, int, int, int]] = []
    times: list[tuple[str, str, str]] = []
    for path in sorted(audio.glob("*.wav")):
        with contextlib.redirect_stdout(sys.stderr):
            wall, cpu = time.perf_counter(), time.process_time()
            heard = list(transcribe(path))
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        times.append((path.stem, f"{wall:.6f}", f"{cpu:.6f}"))
        notes += [(path.stem, f"{onset:.6f}", f"{offset:.6f}", *rest) for onset, offset, *rest in heard]  # type: ignore[misc]
    out.mkdir(parents=True, exist_ok=True)
    _write(out / NOTES, NOTE_COLUMNS, notes)
    _write(out / RECORDINGS, RECORDING_COLUMNS, times)


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    partial.replace(path)
