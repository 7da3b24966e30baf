"""Where the songs come from that the demo does not have: pretrain/songs.yaml, Debian packages with the music of free games.

Each package is checked byte for byte. It holds standard MIDI files, by themselves or as the lumps of WADs.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import atomic_file, sha256_file
from stemscribe.corpora.songs import Song, read_song
from stemscribe.corpora.wad import midi_lumps
from stemscribe.errors import DataError, UsageError
from stemscribe.pretraining import debian
from stemscribe.strict_yaml import parse, read_yaml

LIST = Path("songs.yaml")


@dataclass(frozen=True)
class Songbook:
    """A Debian package with songs."""

    package: str  # with its version
    file: str  # name of the package's file
    sha256: str  # of that file
    songs: tuple[str, ...]  # patterns of the MIDI files and WADs in it
    licence: str


def read_songbooks(path: Path = LIST) -> Mapping[str, Songbook]:
    """All songbooks that may be named in params.yaml."""
    return {str(name): parse(Songbook, facts, f"{path}: {name}") for name, facts in read_yaml(path).items()}


def get_songs(name: str, books: Mapping[str, Songbook]) -> list[Song]:
    """All songs of a songbook in the order of its files, fetched if need be.

    Raises:
        UsageError: if no such songbook is listed.
        DataError: if it cannot be had, or holds no songs where it should.
    """
    if name not in books:
        raise UsageError(f"no songbook {name!r} in {LIST}; songbooks are {', '.join(books)}")
    book = books[name]
    with tempfile.TemporaryDirectory() as scratch:
        debian.unpack(_fetch(book), Path(scratch))
        found = [path for pattern in book.songs for path in sorted(Path(scratch).glob(pattern))]
        songs = [song for path in found for song in _songs_in(path, name)]
    if not songs:
        raise DataError(f"{book.file} holds no songs at {', '.join(book.songs)}; mend {LIST}")
    return songs


def _fetch(book: Songbook) -> Path:
    path = runtime.downloads_dir() / book.file
    if not (path.is_file() and sha256_file(path) == book.sha256):
        with tempfile.TemporaryDirectory() as scratch, atomic_file(path) as partial:
            shutil.copyfile(debian.download(book.package, Path(scratch), book.file), partial)
            if sha256_file(partial) != book.sha256:
                raise DataError(f"{book.file} is not the package described (sha256 differs); get it from snapshot.debian.org")
    return path


def _songs_in(path: Path, book: str) -> list[Song]:
    content = path.read_bytes()
    if path.suffix == ".wad":
        return [read_song(lump.content, lump.name, path.name) for lump in midi_lumps(content, path.name)]
    return [read_song(content, path.stem, book)]
