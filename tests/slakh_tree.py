"""Builds small trees in the layout of Slakh2100 and babyslakh: real FLAC or WAV, real MIDI, real metadata.

    write_track(root / "train/Track00001", {"S00": Part(33, [note("E1", 0.5, 1.0)])})

Each note is audible as a sine at its written pitch, each drum as a click; the mix is the sum of the rendered parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mido
import numpy as np
import soundfile
import yaml

from stemscribe.corpora.inventory import BESIDE, describe_track, write_inventory
from stemscribe.notes import DRUM_PROGRAM, Note

TICKS_PER_BEAT = 480
TICKS_PER_SECOND = 2 * TICKS_PER_BEAT  # at 120 beats a minute
LEVEL = 0.2


@dataclass(frozen=True)
class Part:
    """A stem to write: its program, its notes, and which of its files exist."""

    program: int
    notes: Sequence[Note] = ()
    plugin: str = "some_instrument.nkm"
    inst_class: str = "Some"
    audio: bool = True
    midi: bool = True
    seconds: float | None = None  # length of its audio, if not the track's


def write_track(
    folder: Path, parts: Mapping[str, Part], seconds: float = 2.0, rate: int = 44100, suffix: str = ".flac"
) -> Path:
    """Write one track; `rate=16000, suffix=".wav"` makes it look like babyslakh, false flags included."""
    honest = suffix == ".flac"
    for part in ("stems", "MIDI"):
        (folder / part).mkdir(parents=True)
    mix = np.zeros(round(seconds * rate))
    for name, part in parts.items():
        sound = render(part.notes, part.seconds or seconds, rate)
        if part.audio:
            soundfile.write(folder / "stems" / f"{name}{suffix}", sound, rate, subtype="PCM_16")
            heard = min(len(sound), len(mix))
            mix[:heard] += sound[:heard]
        if part.midi:
            write_score(folder / "MIDI" / f"{name}.mid", part.notes)
    soundfile.write(folder / f"mix{suffix}", mix, rate, subtype="PCM_16")
    write_score(folder / "all_src.mid", [Note(0.0, 0.1, 1)])  # a trap: nobody may read it
    metadata = {"UUID": folder.name, "stems": {name: facts(part, honest) for name, part in parts.items()}}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata), encoding="utf-8")
    return folder


def facts(part: Part, honest: bool = True) -> dict[str, Any]:
    """A stem's entry in metadata.yaml."""
    return {
        "audio_rendered": part.audio and honest,
        "inst_class": part.inst_class,
        "is_drum": part.program == DRUM_PROGRAM,
        "midi_saved": part.midi and honest,
        "plugin_name": part.plugin,
        "program_num": part.program,
    }


def render(notes: Sequence[Note], seconds: float, rate: int) -> np.ndarray:
    """`(seconds * rate,)`: a sine for each note, a click for each drum."""
    time = np.arange(round(seconds * rate)) / rate
    sound = np.zeros(len(time))
    for note in notes:
        if note.is_drum:
            sound[(time >= note.onset) & (time < note.onset + 0.005)] += LEVEL
        else:
            pitch = 440.0 * 2 ** ((note.pitch - 69) / 12)
            sounding = (time >= note.onset) & (time < note.offset)
            sound += LEVEL * sounding * np.sin(2 * np.pi * pitch * (time - note.onset))
    return sound


def write_score(path: Path, notes: Sequence[Note]) -> None:
    """Write notes on one MIDI channel; drums on channel 10."""
    events = [(note.onset, note.velocity, note) for note in notes] + [(note.offset, 0, note) for note in notes]
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    now = 0
    for seconds, velocity, note in sorted(events, key=lambda event: event[:2]):
        tick = round(seconds * TICKS_PER_SECOND)
        channel = 9 if note.is_drum else 0
        track.append(mido.Message("note_on", channel=channel, note=note.pitch, velocity=velocity, time=tick - now))
        now = tick
    mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(str(path))


def write_raw_corpus(
    project: Path, name: str, songs: Mapping[str, Mapping[str, Part]], seconds: float = 2.0, rate: int = 44100
) -> Path:
    """Write data/raw/<name> as the corpus stage leaves it; songs are named `test/Track00001`. Returns that folder."""
    raw = project / "data" / "raw" / name
    for song, parts in songs.items():
        write_track(raw / song, parts, seconds, rate)
    tracks = [describe_track(raw, raw / song, Path(song).parts[0]) for song in songs]
    write_inventory(raw, name, BESIDE, tracks)
    return raw
