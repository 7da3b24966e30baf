"""Fetching a wheel for what it carries: downloaded by pip, checked byte for byte, opened as a zip file, never installed.

The same wheel of one platform is asked for on every machine. It is kept in the downloads folder and not fetched again.
"""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from stemscribe.atomic import atomic_file, sha256_file
from stemscribe.corpora.songs import Song, read_song
from stemscribe.corpora.sources import Wheel
from stemscribe.corpora.wad import midi_lumps
from stemscribe.errors import DataError

PATIENCE_SECONDS = 600


def fetch_wheel(wheel: Wheel, folder: Path) -> Path:
    """The wheel's path in `folder`, downloaded if it is not there yet.

    Raises:
        DataError: if it cannot be downloaded, or what comes is not the wheel that was described.
    """
    path = folder / wheel.file
    if path.is_file() and sha256_file(path) == wheel.sha256:
        return path
    print(f"downloading {wheel.requirement} ({wheel.bytes / 1e6:.0f} MB)", file=sys.stderr, flush=True)
    with atomic_file(path) as partial, tempfile.TemporaryDirectory() as scratch:
        _download(wheel, Path(scratch), path)
        found = Path(scratch) / wheel.file
        if not found.is_file():
            raise DataError(f"pip brought no {wheel.file}; put that file into {folder} by hand")
        if sha256_file(found) != wheel.sha256:
            raise DataError(f"{wheel.file} is not the file that was described (sha256 differs); try again or another index")
        shutil.copyfile(found, partial)
    return path


def _download(wheel: Wheel, scratch: Path, path: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--implementation", "cp", "--python-version", wheel.python_version]
    command += ["--abi", wheel.abi, "--platform", wheel.platform, "--dest", str(scratch), wheel.requirement]
    way_out = f"go online once, or put the file into {path.parent} by hand"
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"pip did not bring {path.name} within {PATIENCE_SECONDS} s; {way_out}") from None
    if done.returncode != 0:
        complaints = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or ["no answer"]
        raise DataError(f"pip cannot download {path.name} ({complaints[-1].removeprefix('ERROR: ')}); {way_out}")


def wheel_songs(wheel: Wheel, folder: Path) -> list[Song]:
    """All songs in the wheel's WADs, in their order.

    Raises:
        DataError: if the wheel cannot be had or does not hold what it should.
    """
    path = fetch_wheel(wheel, folder)
    songs: list[Song] = []
    with zipfile.ZipFile(path) as archive:
        for member in wheel.wads:
            try:
                wad = archive.read(member)
            except (KeyError, zipfile.BadZipFile) as error:
                raise DataError(f"no readable {member} in {path}; remove the file and run again") from error
            name = member.rsplit("/", 1)[-1]
            songs.extend(read_song(lump.content, lump.name, name) for lump in midi_lumps(wad, name))
    return songs
