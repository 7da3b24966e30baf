"""What data/sources/<corpus>.yaml says about a corpus: where it comes from, its licence and its known errors.

Such a file holds facts and no settings, and is read as strictly as params.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemscribe.errors import UsageError
from stemscribe.strict_yaml import parse, read_yaml

SOURCES = Path("data/sources")


@dataclass(frozen=True)
class OctaveRule:
    """Programs whose notes are written away from where they sound."""

    programs: tuple[int, ...]
    semitones: int  # to add to what is written
    except_plugins: tuple[str, ...]
    source: str


@dataclass(frozen=True)
class ExcludedStem:
    """A stem whose audio and notes do not agree."""

    track: str
    stem: str
    reason: str
    source: str


@dataclass(frozen=True)
class Errata:
    """Known errors of a corpus."""

    octave: tuple[OctaveRule, ...]
    excluded_stems: tuple[ExcludedStem, ...]


@dataclass(frozen=True)
class Archive:
    """A published archive that the user downloads."""

    file: str  # where it is expected, from the project folder
    url: str
    bytes: int  # 0: not known
    md5: str
    tracks: int  # in all splits
    splits: str  # `folders` in the archive, or `seeded` by track name


@dataclass(frozen=True)
class Wheel:
    """A Python wheel that carries songs; it is downloaded and opened as a zip file, never installed."""

    requirement: str  # as pip takes it
    file: str  # the name under which pip saves it
    sha256: str
    bytes: int
    python_version: str
    abi: str
    platform: str
    wads: tuple[str, ...]  # members that hold the songs


@dataclass(frozen=True)
class SoundFont:
    """A soundfont that an installed package brings along."""

    package: str
    file: str
    sha256: str


@dataclass(frozen=True)
class ArchiveSource:
    """A corpus that comes as an archive in the layout of Slakh2100."""

    name: str
    title: str
    licence: str
    citation: str
    archive: Archive
    errata: Errata


@dataclass(frozen=True)
class WheelSource:
    """A corpus that is rendered from the songs in a wheel."""

    name: str
    title: str
    licence: str
    citation: str
    wheel: Wheel
    soundfont: SoundFont
    errata: Errata


def read_source(name: str, folder: Path = SOURCES) -> ArchiveSource | WheelSource:
    """The facts about the corpus `name`.

    Raises:
        UsageError: if there is no such corpus, or its file has an unknown, missing or wrong key.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml"))) or "none"
        raise UsageError(f"no corpus {name!r}; corpora are {known}")
    content: Mapping[str, Any] = read_yaml(path)
    kind: type[Any] = ArchiveSource if "archive" in content else WheelSource
    source = parse(kind, content, str(path))
    assert isinstance(source, ArchiveSource | WheelSource)
    if source.name != name:
        raise UsageError(f"{path}: name: expected {name!r}, found {source.name!r}")
    return source
