"""The final number: songs that neither base nor specialists ever met, in timbres that none of them was taught with.

    python benchmarks/out_of_domain.py                       # after `make repro`: base, specialists and peers
    python benchmarks/out_of_domain.py --songs 2 --peers     # a quick look at ours that says nothing about accuracy

The songs are band songs of the Debian package simutrans-data, 16 of 45, drawn by their notes; the timbres FluidR3 and MuseScore
General, in turn. None of this is ever trained on, and no threshold, size or step count was chosen by what came out; it is read
when a base is finished, and docs/log.md has what came out each time. All of it makes benchmarks/out_of_domain.md; more or fewer
songs, fewer peers or other models make a page in work/.
`apt-get download` fetches the packages, which are unpacked and not installed; every file used is checked byte for byte. A song
whose notes the base's provenance lists, or that resembles one of the collections that demo and base are made of, is left out
and named.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, sha256_file
from stemscribe.corpora.identity import draw, identity, unrelated, without_duplicates
from stemscribe.corpora.planning import plan_tracks
from stemscribe.corpora.songs import Song, is_band, read_song
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.corpora.tracks import build_corpus
from stemscribe.corpora.wheel import wheel_songs
from stemscribe.errors import DataError, StemscribeError, UsageError
from stemscribe.pretraining import debian
from stemscribe.pretraining.songbooks import get_songs, read_songbooks

ROOT = Path(__file__).parents[1]
WORK = Path("work/out_of_domain")
PAGE = Path("benchmarks/out_of_domain.md")
MODELS = Path("models")
COUNT = 16  # songs
SECONDS = 30.0
VOICED_SHARE = 0.6  # of the songs that have a voice-like part, re-voiced where they have none
SEED = 1


@dataclass(frozen=True)
class Package:
    """Files of one kind in a Debian package."""

    name: str
    files: str  # a pattern below the package's root
    sha256: str  # of `sha256sum` of the files in order of name: another version of the package may bring the same
    licence: str


SONGS = Package(
    "simutrans-data",
    "usr/share/games/simutrans/music/*.mid",
    "bf7e3a3144fd5174d79f3e47e87f35d6b02b1e82826079bc887dcc4ba277239a",
    "Artistic-1.0",
)
SOUNDFONTS = (
    Package(
        "fluid-soundfont-gm",
        "usr/share/sounds/sf2/FluidR3_GM.sf2",
        "74594e8f4250680adf590507a306655a299935343583256f3b722c48a1bc1cb0",
        "MIT",
    ),
    Package(
        "musescore-general-soundfont-small",
        "usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
        "916aaca6b0eb9f9083eb42399614acb2ff4ec72ce28dffff1814592a9696b479",
        "MIT",
    ),
)


def main() -> None:
    """Fetch, render, and have peers/compare.py run and score everybody.

    Raises:
        StemscribeError: if a package cannot be had, or is another than the one described.
    """
    parser = argparse.ArgumentParser(description="Score base and specialists on songs and timbres that they never met.")
    parser.add_argument("--songs", type=int, default=COUNT, help="how many, drawn by their notes (default: %(default)s)")
    parser.add_argument("--peers", nargs="*", help="some peers only, see peers/compare.py; no name: only ours (default: all)")
    parser.add_argument("--models", type=Path, default=MODELS, help="folder with base, bass, drums, vocals and other")
    parser.add_argument("--output", type=Path, help=f"the page (default: {PAGE} if no other is asked for, or one in {WORK})")
    options = parser.parse_args()
    whole = (options.songs, options.peers, options.models) == (COUNT, None, MODELS)
    output = options.output or (PAGE if whole else WORK / PAGE.name)
    songs, left_out = songs_to_test(options.models / "base/provenance.json")
    if not 1 <= options.songs <= len(songs):
        raise UsageError(f"--songs: there are {len(songs)} songs, not {options.songs}; ask for 1 to {len(songs)}")
    of_all, songs = len(songs), songs[: options.songs]
    fonts = [fetch(package)[0] for package in SOUNDFONTS]
    render(songs, fonts, WORK / "simutrans")
    timbres = " and ".join(font.name for font in fonts)
    which = f"{len(songs)} of the {of_all} band songs of {SONGS.name}"
    corpus = f"{which}, {SECONDS:.0f} s of each, rendered with {timbres} in turn"
    if left_out:
        corpus += f"; left out as heard in training or too much like what was: {', '.join(left_out)}"
    folder = WORK / "simutrans"
    command = [sys.executable, str(ROOT / "peers/compare.py"), "--tracks", str(folder), "--models", str(options.models)]
    command += ["--output", str(output), "--work", str(WORK), "--corpus", corpus]
    command += [] if options.peers is None else ["--peers", *options.peers]
    command += ["--title", "Out of domain", "--command", " ".join(["python", "benchmarks/out_of_domain.py", *sys.argv[1:]])]
    sys.exit(subprocess.run(command, check=False).returncode)


def songs_to_test(provenance: Path) -> tuple[list[Song], list[str]]:
    """The songs that may be tested on, in an order drawn from their notes, and the names of those left out.

    Args:
        provenance: of the base; lists the identity of every song it heard.
    Raises:
        DataError: if a package or the provenance cannot be had.
    """
    try:
        heard = set(json.loads(provenance.read_text(encoding="utf-8"))["heard"])
    except OSError as error:
        raise DataError(f"cannot read {provenance} ({error.strerror}); run `make repro` first") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{provenance} does not say what the base has heard; only a base that `make base` made, installed as it is, does"
        ) from error
    source = read_source("demo")
    assert isinstance(source, WheelSource)
    books = read_songbooks(ROOT / "pretrain/songs.yaml")
    taught = [song for name in books for song in get_songs(name, books)]
    return unheard(read_songs(fetch(SONGS)), heard, [*wheel_songs(source.wheel, runtime.downloads_dir()), *taught])


def unheard(songs: Iterable[Song], heard: set[str], others: Sequence[Song]) -> tuple[list[Song], list[str]]:
    """Band songs that are neither in `heard` (identities) nor resemble one of `others`, and the names of those that do."""
    bands = without_duplicates(song for song in songs if is_band(song))
    fit = [song for song in unrelated(bands, others) if identity(song) not in heard]
    left_out = sorted(song.name for song in bands if song not in fit)
    return sorted(fit, key=lambda song: draw(SEED, "out of domain", identity(song))), left_out


def read_songs(files: Iterable[Path]) -> list[Song]:
    """The songs that can be read; the others are named and left out."""
    songs = []
    for path in files:
        try:
            songs.append(read_song(path.read_bytes(), path.stem, SONGS.name))
        except DataError as error:
            print(error, file=sys.stderr)
    return songs


def fetch(package: Package, downloads: Path | None = None) -> list[Path]:
    """The files of a package in order of name, downloaded and unpacked if they are not there yet.

    Raises:
        DataError: if it cannot be had, or its files are not the ones described.
    """
    folder = (downloads or runtime.downloads_dir()) / package.name
    if not folder.is_dir():
        print(f"downloading {package.name}", file=sys.stderr, flush=True)
        with atomic_directory(folder) as partial, tempfile.TemporaryDirectory() as scratch:
            wanted = f"the unpacked package as the folder {package.name}"
            debian.unpack(debian.download(package.name, Path(scratch), wanted), partial)
    files = sorted(folder.glob(package.files))
    if not files or digest(files) != package.sha256:
        raise DataError(f"{folder} does not hold the {package.files} described (sha256 differs); remove it and run again")
    return files


def digest(files: Sequence[Path]) -> str:
    """One file's sha256; of several, the sha256 of the lines that `sha256sum` prints about them, without folders."""
    hashes = [sha256_file(path) for path in files]
    lines = "".join(f"{each}  {path.name}\n" for each, path in zip(hashes, files, strict=True))
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(lines.encode()).hexdigest()


def render(songs: Sequence[Song], fonts: Sequence[Path], folder: Path) -> None:
    """Render the songs in the layout of Slakh2100, each with one of the soundfonts in turn, below `folder/<soundfont>`."""
    planned = plan_tracks({"test": songs}, SECONDS, VOICED_SHARE, SEED)
    with atomic_directory(folder) as partial:
        for turn, font in enumerate(fonts):
            tracks = planned[turn :: len(fonts)]
            if tracks:
                build_corpus(partial / font.stem, font.stem, tracks, font, SONGS.licence, runtime.workers())


if __name__ == "__main__":
    try:
        main()
    except StemscribeError as error:
        print(f"out_of_domain: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
