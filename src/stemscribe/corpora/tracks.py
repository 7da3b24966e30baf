"""Songs to tracks: renders any list of songs with any soundfont into the exact folder layout of Slakh2100-redux.

    <split>/TrackNNNNN/{metadata.yaml, all_src.mid, mix.flac, MIDI/SNN.mid, stems/SNN.flac}

Each stem is rendered from the very MIDI file written beside it. The bytes depend on the songs, the soundfont and the
synthesizer, and not on the number of workers. `all_src.mid` is the song as it was found, uncut: as with Slakh2100, the truth
about a stem is in its own file.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pretty_midi
import yaml

from stemscribe.atomic import atomic_directory
from stemscribe.audio import SAMPLE_RATE, write_flac
from stemscribe.corpora.excerpts import length_seconds
from stemscribe.corpora.inventory import BESIDE, describe_track, write_inventory
from stemscribe.corpora.mixdown import PEAK_DBFS, STEM_LUFS, Mixdown, mix_down
from stemscribe.corpora.render import Player, render
from stemscribe.corpora.songs import Part, Song
from stemscribe.corpora.stem_midi import write_part
from stemscribe.errors import DataError
from stemscribe.executor import map_in_processes

CLASSES = (
    *("Piano", "Chromatic Percussion", "Organ", "Guitar", "Bass", "Strings", "Strings (continued)", "Brass"),
    *("Reed", "Pipe", "Synth Lead", "Synth Pad", "Sound Effects", "Ethnic", "Percussive", "Sound Effects"),
)  # of eight programs each, as Slakh2100 names them


@dataclass(frozen=True, slots=True)
class PlannedTrack:
    """A song that is to become a track; the song is cut and re-voiced already."""

    track: str  # "Track00001"
    split: str  # train, validation or test
    song: Song
    identity: str  # of the whole song, before it was cut
    seconds: float  # length of the excerpt at most
    soundfonts: tuple[Path, ...] = ()  # of each part; none: all are played with the corpus's


@dataclass(frozen=True, slots=True)
class _Job:
    planned: PlannedTrack
    folder: Path
    soundfont: Path
    licence: str

    def soundfont_of(self, part: int) -> Path:
        """The soundfont that plays a part of the song."""
        return self.planned.soundfonts[part] if self.planned.soundfonts else self.soundfont


def build_corpus(output: Path, name: str, tracks: Sequence[PlannedTrack], soundfont: Path, licence: str, workers: int) -> None:
    """Render all tracks into `output`, together with their inventory; nothing is left there if anything fails.

    Args:
        output: the corpus folder, replaced if it exists.
        name: of the corpus.
        tracks: what to render; `planning.plan_tracks` makes them of songs.
        soundfont: an .sf2 or .sf3 file with the General MIDI programs.
        licence: of the songs, for the metadata.
        workers: processes.
    Raises:
        DataError: if a song has no part that sounds, or the soundfont cannot be played.
    """
    with atomic_directory(output) as partial:
        folders = [partial / planned.split / planned.track for planned in tracks]
        jobs = [_Job(planned, folder, soundfont, licence) for planned, folder in zip(tracks, folders, strict=True)]
        map_in_processes(_render_track, jobs, workers, f"rendering {name}", "songs")
        listed = (describe_track(partial, folder, planned.split) for planned, folder in zip(tracks, folders, strict=True))
        write_inventory(partial, name, BESIDE, listed)


def _render_track(job: _Job) -> None:
    song, folder = job.planned.song, job.folder
    stems = {f"S{index:02d}": part for index, part in enumerate(song.parts)}
    for place in ("MIDI", "stems"):
        (folder / place).mkdir(parents=True)
    (folder / "all_src.mid").write_bytes(song.midi)
    seconds = length_seconds(song, job.planned.seconds)
    audio = {}
    for index, (name, part) in enumerate(stems.items()):
        if part.is_rendered:
            midi = folder / "MIDI" / f"{name}.mid"
            write_part(midi, song, part)
            audio[name] = render(midi, job.soundfont_of(index), seconds)
    if not any(each.any() for each in audio.values()):
        raise DataError(f"{song.name} in {song.collection} makes no sound with {job.soundfont.name}; leave it out")
    mixdown = mix_down(audio)
    for name in audio.keys() - mixdown.stems.keys():
        (folder / "MIDI" / f"{name}.mid").unlink()
    for name, samples in mixdown.stems.items():
        write_flac(folder / "stems" / f"{name}.flac", samples, SAMPLE_RATE)
    write_flac(folder / "mix.flac", mixdown.mix, SAMPLE_RATE)
    text = yaml.safe_dump(_metadata(job, stems, mixdown), allow_unicode=True)
    (folder / "metadata.yaml").write_text(text, encoding="utf-8")


def _metadata(job: _Job, stems: dict[str, Part], mixdown: Mixdown) -> dict[str, Any]:
    """The keys of Slakh2100, and `source`: which song this is, whose, and how it was made."""
    planned, song = job.planned, job.planned.song
    players = {path: Player(path) for path in sorted({job.soundfont_of(index) for index in range(len(stems))})}
    chosen = [(path, players[path]) for path in map(job.soundfont_of, range(len(stems)))]
    return {
        "UUID": hashlib.md5(song.midi, usedforsecurity=False).hexdigest(),
        "audio_dir": f"{planned.track}/stems",
        "lmd_midi_dir": f"{song.collection}/{song.name}.mid",
        "midi_dir": f"{planned.track}/MIDI",
        "normalization_factor": STEM_LUFS,
        "normalized": True,
        "overall_gain": mixdown.overall_gain,
        "source": {
            "collection": song.collection,
            "identity": planned.identity,
            "licence": job.licence,
            "name": song.name,
            "soundfont": ", ".join(path.name for path in players),
            "start_seconds": song.start_seconds,
            "title": song.title,
        },
        "stems": {
            name: _stem_metadata(name, part, mixdown, player, path)
            for (name, part), (path, player) in zip(stems.items(), chosen, strict=True)
        },
        "target_peak": PEAK_DBFS,
    }


def _stem_metadata(name: str, part: Part, mixdown: Mixdown, player: Player, soundfont: Path) -> dict[str, Any]:
    rendered = name in mixdown.stems
    facts: dict[str, Any] = {
        "audio_rendered": rendered,
        "inst_class": "Drums" if part.is_drum else CLASSES[part.program // 8],
        "is_drum": part.is_drum,
        "midi_program_name": _program_name(part.program),
        "midi_saved": rendered,
        "plugin_name": "None",
        "program_num": part.program,
    }
    if rendered:
        facts["integrated_loudness"] = mixdown.loudness[name]
        preset = player.preset_name(part.kit if part.is_drum else part.program, part.is_drum)
        facts["plugin_name"] = f"{soundfont.name}: {preset}"
    if part.revoiced_from is not None:
        facts["revoiced_from"] = part.revoiced_from
        facts["plugin_name"] += f", re-voiced from {_program_name(part.revoiced_from)}"
    return facts


def _program_name(program: int) -> str:
    return "Drums" if program > 127 else str(pretty_midi.program_to_instrument_name(program))
