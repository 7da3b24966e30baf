"""`inventory.json`, what the corpus stage promises to everything after it: which tracks there are, in which split, and where.

The file says nothing about the machine: of a tree that lies elsewhere it only says so, and `read_inventory` finds it where
this machine keeps it. So two machines with the same corpus write the same bytes, and DVC sees no difference.

    {"name": "demo", "root": ".", "tracks": [{"track": "Track00001", "split": "test", "folder": "test/Track00001", ...}]}
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import write_json
from stemscribe.errors import DataError

FILE_NAME = "inventory.json"
SPLITS = ("train", "validation", "test")
BESIDE = "."  # root: the tracks lie beside the inventory
UNPACKED = "unpacked"  # root: STEMSCRIBE_CORPUS_DIR, or where the archive was unpacked
COMPLETE = ".complete"  # beside the tracks of the latter: the md5 of the archive that was unpacked to the end


@dataclass(frozen=True, slots=True)
class InventoryTrack:
    """One track of a corpus."""

    track: str  # "Track00001"
    split: str  # train, validation or test
    folder: str  # below the root, with forward slashes
    files: int
    bytes: int  # of all its files


@dataclass(frozen=True, slots=True)
class Inventory:
    """The tracks of a corpus and the folder under which they lie on this machine."""

    name: str
    root: Path
    tracks: tuple[InventoryTrack, ...]


def describe_track(root: Path, folder: Path, split: str) -> InventoryTrack:
    """Count a track's files; hidden ones, which operating systems leave behind, do not count."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    sizes = [path.stat().st_size for path in files]
    return InventoryTrack(folder.name, split, folder.relative_to(root).as_posix(), len(sizes), sum(sizes))


def write_inventory(folder: Path, name: str, root: str, tracks: Iterable[InventoryTrack]) -> None:
    """Write `folder/inventory.json`; tracks are sorted by name, `root` is BESIDE or UNPACKED."""
    listed = [asdict(track) for track in sorted(tracks, key=lambda each: each.track)]
    write_json(folder / FILE_NAME, {"name": name, "root": root, "tracks": listed})


def read_inventory(folder: Path) -> Inventory:
    """Read `folder/inventory.json` and find the tracks on this machine.

    Raises:
        DataError: if the file is missing or broken, or the tree it speaks of is not here.
    """
    path = folder / FILE_NAME
    way_out = "run `dvc repro corpus`"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        name, place = str(content["name"]), content["root"]
        tracks = tuple(InventoryTrack(**track) for track in content["tracks"])
    except FileNotFoundError:
        raise DataError(f"no inventory {path}; {way_out}") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is broken ({error}); {way_out}") from error
    root = folder if place == BESIDE else find_tree(name)
    if place != BESIDE:
        named = runtime.corpus_dir() is not None
        way_out = "restore it there" if named else f"remove {root / COMPLETE} and run `dvc repro -f corpus`"
    for track in tracks:
        if not (root / track.folder).is_dir():
            raise DataError(f"no folder {root / track.folder}, which {path} lists; {way_out}")
    return Inventory(name, root, tracks)


def find_tree(name: str) -> Path:
    """Where this machine keeps the unpacked tree of a corpus that lies outside of the project's data.

    Raises:
        DataError: if there is none.
    """
    named = runtime.corpus_dir()
    if named is not None:
        if not named.is_dir():
            raise DataError(f"no folder {named}, which {runtime.place('corpus_dir')} names; mend the path")
        return named
    folder = runtime.raw_dir() / name
    if not folder.is_dir():
        raise DataError(f"no folder {folder}, where {name} should be unpacked; run `dvc repro -f corpus`")
    return folder
