"""Stages `predict_base` and `predict_<stem>`: read the test tracks with every head of the model, and keep notes and MIDI.

The base hears each full mix, and each true stem restricted to the stem's channels; a specialist hears the true stem and the
separated one. Which programs belong to a stem stands in the manifest of its shards. One encoding serves both heads, whose
notes lie side by side: predictions/<who>/<condition>/<head>/.
"""

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, write_json
from stemscribe.audio import SAMPLE_RATE
from stemscribe.checkpoint import load_model
from stemscribe.config import PredictParams, load_params
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError
from stemscribe.executor import map_in_processes
from stemscribe.midi import write_midi
from stemscribe.notes import save_notes
from stemscribe.stages import STEMS, one_stem, run_stage
from stemscribe.transcriber import Transcriber, Transcription

SPLIT = "test"
SMALL_BYTES = 50_000_000  # weights up to which several processes work side by side
WORKER_SECONDS = 100.0  # of recordings for each of them at least; a process starts in the time in which some 20 s are read


@dataclass(frozen=True)
class Condition:
    """A model that hears the test tracks of some shards; plain names, so that it can be told to another process."""

    model: Path
    shards: Path
    programs: tuple[int, ...] | None  # which to listen for, all if None
    out: Path  # folder in which each head gets notes.npz, midi/<track>.mid and summary.json


def reads(who: str) -> tuple[str, ...]:
    """The parameters this stage depends on."""
    return ("predict",)


def main(argv: Sequence[str]) -> None:
    """Predict with the model that `argv` names."""
    who = one_stem(argv, ("base", *STEMS))
    predict(conditions(who), load_params(reads(who)).predict)


def conditions(who: str) -> list[Condition]:
    """What the base or a specialist hears."""
    model, out = Path("models") / who, Path("predictions") / who
    if who == "base":
        stems = [(Path("data/shards") / stem, out / stem) for stem in STEMS]
        return [
            Condition(model, Path("data/shards/mix"), None, out / "mix"),
            *(Condition(model, shards, _programs(shards), place) for shards, place in stems),
        ]
    heard = {"stem": Path("data/shards") / who, "separated": Path("data/separated") / who}
    return [Condition(model, shards, _programs(shards), out / name) for name, shards in heard.items()]


def _programs(shards: Path) -> tuple[int, ...]:
    return tuple(ShardReader(shards).manifest["programs"])


def predict(heard: Sequence[Condition], params: PredictParams) -> None:
    """Transcribe every test track with each head that the model has.

    Args:
        heard: the conditions, all with the same model.
        params: the head that the headline speaks of, and how the frame head hears.

    Raises:
        UsageError: before any work, if the model lacks the head `decode` or a channel of the programs.
        DataError: if there is no test track.
    """
    _shards.cache_clear()
    _transcriber.cache_clear()
    model = load_model(heard[0].model)
    for condition in heard:
        Transcriber(model, condition.programs, params.decode)  # refuses what cannot be
    recordings = [(condition, track) for condition in heard for track in ShardReader(condition.shards).tracks(SPLIT)]
    if not recordings:
        raise DataError(f"no track of the split {SPLIT} in {heard[0].shards}; put songs into that split of the corpus")
    workers = _workers(heard[0].model, sum(track.samples for _, track in recordings) / SAMPLE_RATE)
    work = [(condition, track.track, params, workers) for condition, track in recordings]
    started = time.monotonic()
    read = map_in_processes(_read, work, workers, f"transcribing with {heard[0].model}", unit="recordings")
    elapsed = max(time.monotonic() - started, 1e-9)
    by_condition: dict[Condition, dict[str, dict[str, Transcription]]] = {condition: {} for condition in heard}
    for (condition, track, _, _), transcriptions in zip(work, read, strict=True):
        for head, transcription in transcriptions.items():
            by_condition[condition].setdefault(head, {})[track] = transcription
    for condition, found in by_condition.items():
        counts = ", ".join(f"{sum(len(each.notes) for each in tracks.values())} by {head}" for head, tracks in found.items())
        print(f"{condition.out}: notes in {len(found[params.decode])} tracks: {counts}", flush=True)
        with atomic_directory(condition.out) as folder:
            for head, transcriptions in found.items():
                _write(folder / head, head, transcriptions)
    seconds = sum(transcriptions[params.decode].seconds for transcriptions in read)
    print(f"{heard[0].model}: {seconds / elapsed:.1f} x real time", flush=True)


def _workers(model: Path, seconds: float) -> int:
    """Processes for so much audio. A large model keeps all processors busy by itself, and several would not fit memory."""
    if not is_small(model) or runtime.device() != "cpu":
        return 1
    return max(1, min(runtime.workers(), int(seconds / WORKER_SECONDS)))


def is_small(model: Path) -> bool:
    """Whether the model in a folder is so small that several fit into memory, and one does not keep all processors busy."""
    return sum(path.stat().st_size for path in model.glob("*.safetensors")) <= SMALL_BYTES


def _read(work: tuple[Condition, str, PredictParams, int]) -> dict[str, Transcription]:
    """One track, read by every head of the model."""
    condition, track, params, workers = work
    shards = _shards(condition.shards)
    audio = shards.audio(track, 0, shards.track(track).samples)
    return _transcriber(condition, params, workers).transcribe_by_head(audio)


@lru_cache(maxsize=1)
def _shards(folder: Path) -> ShardReader:
    return ShardReader(folder)


@lru_cache(maxsize=1)
def _transcriber(condition: Condition, params: PredictParams, workers: int) -> Transcriber:
    """A transcriber of this process; loaded anew for each condition, which takes less than a second."""
    runtime.settle_torch(workers)
    model = load_model(condition.model)
    return Transcriber(model, condition.programs, params.decode, runtime.device(), overlap=params.overlap)


def _write(folder: Path, head: str, transcriptions: Mapping[str, Transcription]) -> None:
    """One head's notes. No times in here: the folder's hash must depend on the notes alone."""
    (folder / "midi").mkdir(parents=True)
    notes = {track: transcription.notes for track, transcription in transcriptions.items()}
    save_notes(folder / "notes.npz", notes)
    for track, track_notes in notes.items():
        write_midi(folder / "midi" / f"{track}.mid", track_notes)
    problems: Counter[str] = Counter()
    for transcription in transcriptions.values():
        problems.update(transcription.problems)
    seconds = sum(transcription.seconds for transcription in transcriptions.values())
    summary = {"decode": head, "split": SPLIT, "tracks": len(notes), "seconds": round(seconds, 3)}
    write_json(folder / "summary.json", {**summary, "problems": dict(sorted(problems.items()))})


if __name__ == "__main__":
    sys.exit(run_stage(main))
