"""A project folder in which everything before scoring has happened: short songs, and predictions whose flaws are known.

The headline speaks of the token decoder. The frame head has found the same, but every note of the specialist on the separated
stem is there.

Four test tracks of 10 s, each a bar of eighth notes for bass, drums, a choir and a piano; the last track has no choir. Base and
specialist hear what `hearing` says: a share of the notes left out. All of it takes a few hundredths of a second to write.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from stemscribe import vocabulary
from stemscribe.audio import Audio
from stemscribe.config import HEADS
from stemscribe.data.sharding import PlannedSource, PlannedTrack, write_shards
from stemscribe.notes import Note, notes_to_columns, save_notes

PARAMS = Path(__file__).parents[1] / "params.yaml"
SECONDS = 10.0
RATE = 16000
TRACKS = ("Track00001", "Track00002", "Track00003", "Track00004")
PROGRAMS = {
    "bass": tuple(range(32, 40)),
    "drums": (128,),
    "vocals": (52, 53, 54, 85, 91, 100, 101),
    "other": (*range(32), *range(40, 52), *range(55, 85), *range(86, 91), *range(92, 96)),
}
PLAYED = {"bass": 33, "drums": 128, "vocals": 52, "other": 0}
WITHOUT_VOICE = TRACKS[-1]


@dataclass(frozen=True)
class Tone:
    """A recording of one steady tone."""

    hertz: float

    def read(self, samples: int) -> Audio:
        return (0.1 * np.sin(2 * np.pi * self.hertz * np.arange(samples) / RATE)).astype(np.float32)


def tune(stem: str, number: int) -> list[Note]:
    """What a stem plays in the track of this number: 32 eighth notes from 0.5 s on, then rest."""
    if stem == "vocals" and TRACKS[number] == WITHOUT_VOICE:
        return []
    lowest = {"bass": 36, "drums": 36, "vocals": 60, "other": 48}[stem]
    steps = (0, 2, 6, 2) if stem == "drums" else (0, 4, 7, 12)
    notes = []
    for place in range(32):
        onset = 0.5 + place / 8 + number / 100
        length = 0.01 if stem == "drums" else 0.1
        notes.append(Note(onset, onset + length, lowest + steps[place % 4], PLAYED[stem]))
    return notes


def heard(notes: Sequence[Note], left_out: int) -> list[Note]:
    """The notes as a model reports them, without every `left_out`-th one (0: all are there)."""
    kept = [note for place, note in enumerate(notes) if not left_out or place % left_out]
    return [replace(note, program=vocabulary.program_token_class(note.program)) for note in kept]


def write_project(root: Path) -> Path:
    """Write the folder: the base misses half (mix) or a third (stem) of the notes, the specialist none or a quarter."""
    choose_head(root, "tokens")
    (root / "data/sources").mkdir(parents=True)
    facts = "name: demo\ntitle: songs <of> eighth notes\nlicence: none needed\ncitation: these tests\n"
    (root / "data/sources/demo.yaml").write_text(facts)
    for stem in PROGRAMS:
        write_stem_shards(root, stem)
        save_predictions(root, f"base/{stem}", {track: heard(tune(stem, n), 3) for n, track in enumerate(TRACKS)})
        save_predictions(root, f"{stem}/stem", {track: heard(tune(stem, n), 0) for n, track in enumerate(TRACKS)})
        save_predictions(root, f"{stem}/separated", {track: heard(tune(stem, n), 4) for n, track in enumerate(TRACKS)})
        every = {track: heard(tune(stem, n), 0) for n, track in enumerate(TRACKS)}
        save_predictions(root, f"{stem}/separated", every, "frames")
        write_training(root, stem)
    mix = {track: [note for stem in PROGRAMS for note in heard(tune(stem, n), 2)] for n, track in enumerate(TRACKS)}
    save_predictions(root, "base/mix", mix)
    write_json_at(root / "models/base/provenance.json", {"source": "small", "commit": None})
    return root


def choose_head(root: Path, head: str) -> None:
    """The repository's parameters, with a headline by this head and the gain that is asked of isolation."""
    text, changed = re.subn(r"(?m)^  decode: \w+", f"  decode: {head}", PARAMS.read_text())
    text, too = re.subn(r"(?m)^  minimum_gain: [\d.]+", "  minimum_gain: 0.05", text)
    assert (changed, too) == (1, 1)
    (root / "params.yaml").write_text(text)


def save_predictions(root: Path, folder: str, notes: dict[str, list[Note]], *heads: str) -> None:
    """Write predicted notes as the predict stages do, by both heads if none is named."""
    for head in heads or HEADS:
        save_notes(root / "predictions" / folder / head / "notes.npz", notes)


def write_stem_shards(root: Path, stem: str) -> None:
    """The true stem, and the separated one, of all test tracks."""
    header = {
        "stem": stem,
        "programs": list(PROGRAMS[stem]),
        "channels": list(vocabulary.channels_of(PROGRAMS[stem])),
        "sample_rate": RATE,
        "corpus": "demo",
    }
    tracks = []
    for number, track in enumerate(TRACKS):
        notes = tune(stem, number)
        source = PlannedSource("S00", PLAYED[stem], "tone", notes_to_columns(notes), Tone(200.0))
        tracks.append(PlannedTrack(track, "test", int(SECONDS * RATE), (source,) if notes else ()))
    write_shards(root / "data/shards" / stem, header, tracks, 1 << 24, 1, "writing")
    separated = {**header, "method": "simulated bleed (-12 dB)"}
    write_shards(root / "data/separated" / stem, separated, tracks, 1 << 24, 1, "writing")


def write_training(root: Path, stem: str) -> None:
    """Learning curves and provenance as the finetune stage leaves them."""
    curves = root / "logs" / stem / "plots/metrics"
    for name, values in {
        "train/loss": (2.0, 1.0, 0.5),
        "validation/onset_f1": (0.4, 0.7),
        "train/learning_rate": (1, 1),
    }.items():
        path = curves / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"step\t{path.stem}", *(f"{step}\t{value}" for step, value in enumerate(values))]
        path.write_text("\n".join(lines) + "\n")
    facts = {"commit": "0123abc", "params": {"seed": 1}, "training": {"steps": 40, "share": 1.0, "seconds": 12.5}}
    write_json_at(root / "models" / stem / "provenance.json", facts)


def write_json_at(path: Path, content: object) -> None:
    """Write JSON and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
