"""Which song goes into which split, and what of it becomes a track: pure functions of songs, settings and seed.

Splits are drawn by song, and songs that are the same music (another arrangement, another key) stay together. Every song has a
number of its own, drawn from seed and notes; the lowest numbers are the test songs, the next ones validate and the rest
train. So asking for more or fewer training songs moves no song from one split to another, and a smaller test or validation
split only ever holds songs that the larger ones keep out of training.
"""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise

from stemscribe.corpora.excerpts import excerpt
from stemscribe.corpora.identity import draw, groups, identity, without_duplicates
from stemscribe.corpora.revoice import give_voices
from stemscribe.corpora.songs import Song, is_band
from stemscribe.corpora.tracks import PlannedTrack
from stemscribe.errors import UsageError

Splits = dict[str, list[Song]]


def split_songs(songs: Sequence[Song], count: int, validation: int, test: int, seed: int) -> Splits:
    """Choose `count` band songs of different music and share them out.

    Args:
        songs: any; those that are no band songs and repetitions are left out.
        count: songs in all.
        validation: of them, songs to validate on.
        test: of them, songs to test on.
        seed: decides who goes where.
    Returns:
        Songs of `train`, `validation` and `test`, each in the order in which they were drawn.
    Raises:
        UsageError: if there are not as many songs.
    """
    bands = without_duplicates(song for song in songs if is_band(song))
    if count > len(bands):
        raise UsageError(f"demo.songs: there are {len(bands)} band songs, not {count}; ask for fewer")
    drawn = sorted(groups(bands), key=lambda group: draw(seed, "split", identity(group[0])))
    splits: Splits = {"train": [], "validation": [], "test": []}
    wanted = {"test": test, "validation": validation, "train": count - test - validation}
    for group in drawn:
        for split, size in wanted.items():
            if len(splits[split]) + len(group) <= size or split == "train":
                splits[split].extend(group[: size - len(splits[split])])
                break
    return splits


def plan_tracks(splits: Mapping[str, Sequence[Song]], seconds: float, voiced_share: float, seed: int) -> list[PlannedTrack]:
    """Cut every song, give each split its voices, and name the tracks.

    Args:
        splits: whole songs by split.
        seconds: length of the excerpts at most.
        voiced_share: of the songs of each split that are to have a voice-like part.
        seed: decides which parts are re-voiced.
    Returns:
        Tracks numbered through from Track00001: test, validation, then train, so that more training songs rename nothing.
    """
    planned: list[PlannedTrack] = []
    for split in ("test", "validation", "train"):
        named = [(identity(song), excerpt(song, seconds)) for song in splits.get(split, ())]
        for (name, _), song in zip(named, give_voices(named, voiced_share, seed), strict=True):
            planned.append(PlannedTrack(f"Track{len(planned) + 1:05d}", split, song, name, seconds))
    return planned


def identities(splits: Mapping[str, Sequence[Song]]) -> dict[str, list[str]]:
    """The note-content hashes of the songs of each split."""
    return {split: [identity(song) for song in songs] for split, songs in splits.items()}


def duplicates_across_splits(splits: Mapping[str, Sequence[Song]]) -> list[tuple[str, str]]:
    """Pairs of songs (by name) that are the same music and stand in different splits: none, or something is wrong."""
    homes: dict[str, set[str]] = {}
    for split, songs in splits.items():
        for song in songs:
            homes.setdefault(identity(song), set()).add(split)
    return [
        (one.name, other.name)
        for group in groups(list(chain.from_iterable(splits.values())))
        for one, other in pairwise(group)
        if len(homes[identity(one)] | homes[identity(other)]) > 1
    ]
