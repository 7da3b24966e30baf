"""Stage `corpus` of pretrain/dvc.yaml: the songs that the base is taught with, in several takes each.

The demo's validation songs are its validation songs; the demo's test songs, and whatever resembles one of either by its notes,
are left out, wherever it comes from. An audit of that is written beside the songs.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stemscribe import runtime
from stemscribe.atomic import atomic_directory, write_json
from stemscribe.config import DemoParams, load_params
from stemscribe.corpora.identity import groups, identity, unrelated
from stemscribe.corpora.planning import duplicates_across_splits, identities, split_songs
from stemscribe.corpora.songs import Song
from stemscribe.corpora.soundfont import find_soundfont
from stemscribe.corpora.sources import WheelSource, read_source
from stemscribe.corpora.tracks import build_corpus
from stemscribe.corpora.wheel import wheel_songs
from stemscribe.errors import DataError, UsageError
from stemscribe.pretraining.params import load_pretrain_params
from stemscribe.pretraining.songbooks import get_songs, read_songbooks
from stemscribe.pretraining.soundfonts import get_soundfont, read_soundfonts
from stemscribe.pretraining.takes import teaches, training_takes, validation_takes
from stemscribe.stages import run_stage

PROJECT = Path("..")
RAW = Path("data/raw")
VALIDATION = "validation"  # names the corpus that validates; the others are named by where their songs come from
WHEEL = "wheel"


@dataclass(frozen=True)
class Songs:
    """What may be heard: whole songs."""

    train: Mapping[str, Sequence[Song]]  # by where they come from
    validation: Sequence[Song]
    reserved: Sequence[str]  # identities of the demo's test songs


def main(argv: Sequence[str]) -> None:
    """Render the takes of all songs into data/raw/<where they come from>, from the folder pretrain/."""
    if argv:
        raise UsageError(f"this stage takes no argument, not {argv[0]!r}")
    params = load_pretrain_params().songs
    project = load_params(("corpus", "demo"), PROJECT / "params.yaml")
    source = read_source("demo", PROJECT / "data/sources")
    if not isinstance(source, WheelSource):
        raise DataError("data/sources/demo.yaml names no wheel; restore it with `git checkout data/sources/demo.yaml`")
    books, fonts, seed = read_songbooks(), read_soundfonts(), project.corpus.seed
    found = {WHEEL: wheel_songs(source.wheel, runtime.downloads_dir())}
    found |= {name: get_songs(name, books) for name in params.songbooks}
    licences = {WHEEL: source.licence, VALIDATION: source.licence, **{name: books[name].licence for name in params.songbooks}}
    songs = songs_to_hear(found, project.demo, seed)
    paths = {name: get_soundfont(name, fonts) for name in params.soundfonts}
    plain = find_soundfont(source.soundfont)
    takes = {VALIDATION: validation_takes(songs.validation, project.demo.voiced_share, params, fonts, paths, plain, seed)}
    takes |= {name: training_takes(each, params, fonts, paths, seed) for name, each in songs.train.items()}
    with atomic_directory(RAW) as folder:
        for name, tracks in takes.items():
            build_corpus(folder / name, name, tracks, plain, licences[name], runtime.workers())
        write_json(folder / "audit.json", audit(songs))


def songs_to_hear(found: Mapping[str, Sequence[Song]], demo: DemoParams, seed: int) -> Songs:
    """Training and validation songs, and the identities of the demo's songs that neither may contain.

    Args:
        found: all songs by where they come from; those of the demo under WHEEL.
        demo: how the demo shares its songs out.
        seed: decides the same as for the demo.
    Raises:
        DataError: if a training song resembles a song that the demo validates or tests on.
    """
    drawn = split_songs(found[WHEEL], demo.songs, demo.validation, demo.test, seed)
    held_out = [*drawn["validation"], *drawn["test"]]
    everything = [(name, song) for name, songs in found.items() for song in songs if teaches(song)]
    home = {identity(song): name for name, song in reversed(everything)}  # of a song that comes twice, the first place counts
    allowed = {identity(song): song for song in unrelated((song for _, song in everything), held_out)}
    train = [group[0] for group in groups(list(allowed.values()))]
    if duplicates_across_splits({"validation": drawn["validation"], "train": train, "test": drawn["test"]}):
        raise DataError("a training song is also one of the demo's validation or test songs; report this as a defect")
    by_home = {name: [song for song in train if home[identity(song)] == name] for name in found}
    reserved = [identity(song) for song in drawn["test"]]
    return Songs({name: songs for name, songs in by_home.items() if songs}, drawn["validation"], reserved)


def audit(songs: Songs) -> dict[str, object]:
    """Which songs stand on which side, by their notes."""
    splits = {"validation": songs.validation, "train": [song for each in songs.train.values() for song in each]}
    return {
        "songs": identities(splits),
        "training_songs_by_source": {name: len(each) for name, each in songs.train.items()},
        "left_out_as_reserved_by_the_demo": list(songs.reserved),
        "duplicates_across_splits": duplicates_across_splits(splits),
    }


def corpora(raw: Path = RAW) -> Iterable[Path]:
    """The folders that this stage has made, by name."""
    return sorted(path for path in raw.iterdir() if path.is_dir())


if __name__ == "__main__":
    sys.exit(run_stage(main))
