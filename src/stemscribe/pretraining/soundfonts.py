"""Where the timbres of the base's training songs come from: pretrain/soundfonts.yaml, each file checked byte for byte.

A soundfont is fetched when it is needed and never committed: out of an installed package, or out of a Debian package (apt).
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import atomic_file, sha256_file
from stemscribe.corpora import soundfont as packaged
from stemscribe.corpora.sources import SoundFont
from stemscribe.errors import DataError, UsageError
from stemscribe.pretraining import debian
from stemscribe.strict_yaml import parse, read_yaml

LIST = Path("soundfonts.yaml")


@dataclass(frozen=True)
class SoundFontSource:
    """One soundfont and how to get it."""

    way: str  # package or deb
    package: str  # name of the Python package, or the Debian package
    file: str  # inside it
    sha256: str  # of the soundfont
    lacks: tuple[int, ...]  # programs that it does not have, or plays at another pitch than it is told
    kit: tuple[int, ...]  # keys of a soundfont that is only a drum kit; none: all of General MIDI
    kit_instead: tuple[tuple[int, int], ...]  # (key it does not have, the nearest one that it has)
    licence: str

    @property
    def is_kit(self) -> bool:
        """Whether it can play drums only."""
        return bool(self.kit)


def read_soundfonts(path: Path = LIST) -> Mapping[str, SoundFontSource]:
    """All soundfonts that may be named in params.yaml."""
    return {str(name): parse(SoundFontSource, facts, f"{path}: {name}") for name, facts in read_yaml(path).items()}


def get_soundfont(name: str, sources: Mapping[str, SoundFontSource]) -> Path:
    """The file of a soundfont, fetched if need be.

    Raises:
        UsageError: if no such soundfont is listed, or in no known way.
        DataError: if it cannot be had, or is another file than the one described.
    """
    if name not in sources:
        raise UsageError(f"no soundfont {name!r} in {LIST}; soundfonts are {', '.join(sources)}")
    source = sources[name]
    if source.way == "package":
        return packaged.find_soundfont(SoundFont(source.package, source.file, source.sha256))
    if source.way != "deb":
        raise UsageError(f"{LIST}: {name}: way is {source.way!r}; give package or deb")
    path = runtime.downloads_dir() / Path(source.file).name
    if not (path.is_file() and sha256_file(path) == source.sha256):
        with atomic_file(path) as partial:
            _from_debian(source, partial)
            if sha256_file(partial) != source.sha256:
                raise DataError(f"{path.name} from {source.package} is not the file described (sha256 differs)")
    return path


def _from_debian(source: SoundFontSource, target: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        package = debian.download(source.package, Path(scratch), Path(source.file).name)
        debian.unpack(package, Path(scratch))
        try:
            shutil.copyfile(Path(scratch, source.file), target)
        except FileNotFoundError as error:
            raise DataError(f"no {source.file} in {package.name}; mend {LIST}") from error
