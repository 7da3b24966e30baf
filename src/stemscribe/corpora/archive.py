"""Slakh2100 and babyslakh: from the published archive to a folder of tracks, or straight from a tree that is unpacked already.

The archive is checked (size, md5) before it is opened, and nothing in it can leave the folder it is unpacked into. Every file
is written beside its place and renamed, so an unpacking that was interrupted goes on where it stopped. The tree lies outside
of the project's data (it would double what DVC keeps); only its inventory is an output.
"""

import gzip
import hashlib
import re
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, atomic_file
from stemscribe.corpora.identity import draw
from stemscribe.corpora.inventory import COMPLETE, SPLITS, UNPACKED, InventoryTrack, describe_track, find_tree, write_inventory
from stemscribe.corpora.sources import Archive, ArchiveSource
from stemscribe.errors import DataError, UsageError
from stemscribe.progress import track

BLOCK = 10_000_000  # bytes between two steps of the progress
BLOCK_UNIT = "x 10 MB"
TRACK_NAME = re.compile(r"Track\d{5}")
CHECKED = ".checked"  # beside the tracks: the md5 of the archive that was found good
TEST_SHARE, VALIDATION_SHARE = 5, 10  # one song in so many, where the corpus has no splits of its own


def take_corpus(output: Path, source: ArchiveSource, seed: int) -> None:
    """Find or unpack the corpus and write its inventory into `output`.

    Args:
        output: the corpus folder; only the inventory is put there.
        source: what is known about the corpus.
        seed: decides the splits where the corpus has none.
    Raises:
        DataError: if the corpus is missing, broken or not the one that was described.
    """
    root = unpack_corpus(source)
    tracks = list_tracks(root, source.archive.splits, seed)
    if len(tracks) != source.archive.tracks:
        print(f"{root} holds {len(tracks)} of the {source.archive.tracks} tracks of {source.name}; going on with these")
    with atomic_directory(output) as partial:
        write_inventory(partial, source.name, UNPACKED, tracks)


def unpack_corpus(source: ArchiveSource) -> Path:
    """The folder that holds the corpus, unpacked now if it was not yet.

    Raises:
        DataError: as `take_corpus`.
    """
    if runtime.corpus_dir() is not None:
        return find_tree(source.name)
    folder, archive = runtime.raw_dir() / source.name, source.archive
    if _mark(folder / COMPLETE) == archive.md5:
        return folder
    path = Path(archive.file)
    if not path.is_file():
        size = f" ({archive.bytes / 1e9:.1f} GB)" if archive.bytes else ""
        raise DataError(
            f"no {path}; download {archive.url}{size} to that place, or name an unpacked tree in STEMSCRIBE_CORPUS_DIR"
        )
    if _mark(folder / CHECKED) != archive.md5:
        check_archive(path, archive)
        _set_mark(folder / CHECKED, archive.md5)
    unpack(path, folder)
    _set_mark(folder / COMPLETE, archive.md5)
    return folder


def _mark(path: Path) -> str:
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _set_mark(path: Path, md5: str) -> None:
    with atomic_file(path) as partial:
        partial.write_text(f"{md5}\n", encoding="ascii")


def check_archive(path: Path, archive: Archive) -> None:
    """Compare an archive's size and md5 with what is published.

    Raises:
        DataError: if they differ.
    """
    size = path.stat().st_size
    if archive.bytes and size != archive.bytes:
        way_out = "continue its download" if size < archive.bytes else "download it again"
        raise DataError(f"{path} has {size} of {archive.bytes} bytes; {way_out} from {archive.url}")
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        for block in track(_blocks(stream), f"checking {path.name}", -(-size // BLOCK), BLOCK_UNIT):
            digest.update(block)
    if digest.hexdigest() != archive.md5:
        raise DataError(f"{path} is damaged or incomplete: its md5 is not {archive.md5}; download it again from {archive.url}")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def unpack(path: Path, folder: Path) -> None:
    """Unpack the tracks of a .tar.gz into `folder`; files that are there in full are left alone.

    Raises:
        DataError: if the archive ends too early, is no .tar.gz, or holds anything but plain files below its own folder.
    """
    blocks = -(-path.stat().st_size // BLOCK)
    for _ in track(_unpacking(path, folder), f"unpacking {path.name}", blocks, BLOCK_UNIT):
        pass


def _unpacking(path: Path, folder: Path) -> Iterator[None]:
    """Unpack file by file and yield each time that another block of the archive has been read."""
    done = 0
    try:
        with path.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|gz") as archive:
            for member in archive:
                place = _place(member, path)
                if place is not None:
                    _unpack_member(archive, member, folder / place)
                while done < stream.tell() // BLOCK:
                    done += 1
                    yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends too early"
        raise DataError(f"{path} is damaged or incomplete: {reason}; download it again") from error


def _place(member: tarfile.TarInfo, path: Path) -> PurePosixPath | None:
    """Where a member goes below the corpus folder: `train/Track00001/mix.flac`, or None for what is not needed.

    Raises:
        DataError: if the member would leave the folder, or is neither a plain file nor a folder.
    """
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
        raise DataError(f"{path} holds {member.name!r}, which points out of its folder; it is not the published archive")
    if not (member.isreg() or member.isdir()):
        raise DataError(f"{path} holds {member.name!r}, which is no plain file; it is not the published archive")
    parts = name.parts
    home = next((index for index, part in enumerate(parts) if TRACK_NAME.fullmatch(part)), None)
    if home is None or member.isdir() or parts[-1].startswith("."):
        return None
    above = parts[home - 1] if home else ""
    if above == "omitted":
        return None
    return PurePosixPath(*([above] if above in SPLITS else []), *parts[home:])


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    if target.is_file() and target.stat().st_size == member.size:
        return
    content = archive.extractfile(member)
    assert content is not None  # only links and folders have none
    with atomic_file(target) as partial, content, partial.open("wb") as stream:
        shutil.copyfileobj(content, stream, 1 << 20)
        if stream.tell() != member.size:
            raise EOFError(f"{member.name} ends too early")


def list_tracks(root: Path, splits: str, seed: int) -> list[InventoryTrack]:
    """The tracks of an unpacked tree with their splits.

    Args:
        root: the folder that holds `train`, `validation` and `test`, or the tracks themselves.
        splits: `folders`, or `seeded`: by track name one in five tests and one in ten validates.
        seed: decides the seeded splits.
    Raises:
        DataError: if there are no tracks where they should be.
        UsageError: if `splits` is neither.
    """
    if splits == "folders":
        found = [(folder, split) for split in SPLITS for folder in _track_folders(root / split)]
        expected = "folders train, validation and test with tracks (Track00001, ...)"
    elif splits == "seeded":
        found = _seeded(_track_folders(root), seed)
        expected = "tracks (Track00001, ...)"
    else:
        raise UsageError(f"archive.splits: expected folders or seeded, found {splits!r}; mend the file in data/sources")
    if not found:
        raise DataError(f"no {expected} in {root}; name the folder that holds them in STEMSCRIBE_CORPUS_DIR")
    return [describe_track(root, folder, split) for folder, split in track(found, "listing tracks", unit="tracks")]


def _track_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(each for each in folder.iterdir() if TRACK_NAME.fullmatch(each.name) and each.is_dir())


def _seeded(folders: list[Path], seed: int) -> list[tuple[Path, str]]:
    drawn = sorted(folders, key=lambda folder: draw(seed, "split", folder.name))
    test = max(1, round(len(drawn) / TEST_SHARE))
    validation = max(1, round(len(drawn) / VALIDATION_SHARE))
    names = ["test"] * test + ["validation"] * validation + ["train"] * len(drawn)
    return list(zip(drawn, names, strict=False))
