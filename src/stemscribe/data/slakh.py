"""The folder layout of Slakh2100 and babyslakh: tracks, their stems, and the files that hold them.

Files are trusted and flags are not: babyslakh's metadata calls every stem unrendered although its audio lies there.
A stem's notes are those of `MIDI/SNN.mid`, never of `all_src.mid`. Layout after Manilow et al. 2019, "Cutting Music
Source Separation Some Slakh":

    slakh2100_flac_redux/{train,validation,test,omitted}/TrackNNNNN/{metadata.yaml,mix.flac,MIDI/SNN.mid,stems/SNN.flac}
    babyslakh_16k/TrackNNNNN/{metadata.yaml,mix.wav,MIDI/SNN.mid,stems/SNN.wav}
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stemscribe.errors import DataError
from stemscribe.notes import DRUM_PROGRAM

AUDIO_SUFFIXES = (".flac", ".wav")
_WAY_OUT = "restore it from the corpus archive"
_STEM_NAME = re.compile(r"S\d{2,}")


@dataclass(frozen=True, slots=True)
class Stem:
    """One instrument of a track as the metadata names it, with the files that really exist."""

    name: str  # "S03"
    program: int  # General MIDI 0-127, 128 for drums
    inst_class: str
    plugin: str  # "" where the metadata says none
    audio: Path | None
    midi: Path | None

    @property
    def is_drum(self) -> bool:
        """Whether the stem is a drum kit."""
        return self.program == DRUM_PROGRAM


@dataclass(frozen=True, slots=True)
class Track:
    """One song: its stems sorted by name and its mix."""

    name: str  # "Track00001"
    folder: Path
    stems: tuple[Stem, ...]
    mix: Path | None
    unlisted: tuple[str, ...]  # stems whose files lie there although the metadata does not know them


def read_track(folder: Path) -> Track:
    """Read a track's metadata and look which of its files exist.

    Raises:
        DataError: if the metadata is missing, unreadable or incomplete.
    """
    path = folder / "metadata.yaml"
    listed = _metadata(path)
    stems = tuple(_stem(path, name, listed[name]) for name in sorted(listed))
    on_disk = {file.stem for part in ("stems", "MIDI") for file in _files(folder / part)}
    unlisted = {name for name in on_disk if _STEM_NAME.fullmatch(name)} - set(listed)
    return Track(folder.name, folder, stems, find_audio(folder, "mix"), tuple(sorted(unlisted)))


def find_audio(folder: Path, name: str) -> Path | None:
    """The audio file `name` in `folder`: FLAC where there is one, else WAV, else None."""
    return next((path for suffix in AUDIO_SUFFIXES if (path := folder / f"{name}{suffix}").is_file()), None)


def _files(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _metadata(path: Path) -> Mapping[str, Any]:
    """The `stems` block of a metadata.yaml."""
    try:
        content = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except FileNotFoundError:
        raise DataError(f"no metadata {path}; {_WAY_OUT}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise DataError(f"cannot read {path}: {reason}; {_WAY_OUT}") from error
    stems = content.get("stems") if isinstance(content, Mapping) else None
    if not isinstance(stems, Mapping) or not stems:
        raise DataError(f"{path} lists no stems; {_WAY_OUT}")
    for name, facts in stems.items():
        if not _STEM_NAME.fullmatch(str(name)) or not isinstance(facts, Mapping):
            raise DataError(f"{path}: {name!r} is no stem (S00, S01, ...); {_WAY_OUT}")
    return stems


def _stem(path: Path, name: str, facts: Mapping[str, Any]) -> Stem:
    program, is_drum = facts.get("program_num"), facts.get("is_drum")
    if type(program) is not int or not 0 <= program <= DRUM_PROGRAM or not isinstance(is_drum, bool):
        raise DataError(f"{path}: {name} needs program_num 0 to 128 and is_drum true or false; {_WAY_OUT}")
    plugin = facts.get("plugin_name")
    midi = path.parent / "MIDI" / f"{name}.mid"
    return Stem(
        name=name,
        program=DRUM_PROGRAM if is_drum else program,
        inst_class=str(facts.get("inst_class") or ""),
        plugin="" if plugin in (None, "None") else str(plugin),
        audio=find_audio(path.parent / "stems", name),
        midi=midi if midi.is_file() else None,
    )
