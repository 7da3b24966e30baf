"""The demo corpus as it really is: 61 band songs out of one wheel, 36 of them shared out without a leak.

The wheel is downloaded once (39 MB) into the downloads folder, which the graph uses too; without a network these tests skip.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from stemscribe import runtime
from stemscribe.atomic import sha256_file
from stemscribe.config import load_params
from stemscribe.corpora.identity import fingerprint, groups, identity, similarity, unrelated, without_duplicates
from stemscribe.corpora.planning import duplicates_across_splits, plan_tracks, split_songs
from stemscribe.corpora.revoice import has_voice
from stemscribe.corpora.songs import Song, is_band
from stemscribe.corpora.sources import SOURCES, WheelSource, read_source
from stemscribe.corpora.tracks import PlannedTrack
from stemscribe.corpora.wheel import fetch_wheel, wheel_songs
from stemscribe.errors import DataError
from stemscribe.vocabulary import VOICE_LIKE

REPOSITORY = Path(__file__).parents[1]
SOURCE = read_source("demo", REPOSITORY / SOURCES)
PARAMS = load_params(("corpus", "demo"), REPOSITORY / "params.yaml")
assert isinstance(SOURCE, WheelSource)
WHEEL = SOURCE.wheel


@pytest.fixture(scope="module")
def songs() -> list[Song]:
    """All songs of the wheel."""
    downloads = runtime.downloads_dir()
    try:
        return wheel_songs(WHEEL, downloads if downloads.is_absolute() else REPOSITORY / downloads)
    except DataError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def splits(songs: list[Song]) -> dict[str, list[Song]]:
    """The songs of the demo, as params.yaml asks for them."""
    return split_songs(songs, PARAMS.demo.songs, PARAMS.demo.validation, PARAMS.demo.test, PARAMS.corpus.seed)


@pytest.fixture(scope="module")
def tracks(splits: dict[str, list[Song]]) -> list[PlannedTrack]:
    """The tracks of the demo, cut and re-voiced."""
    return plan_tracks(splits, PARAMS.demo.seconds, PARAMS.demo.voiced_share, PARAMS.corpus.seed)


def test_the_wheel_holds_76_songs_of_which_61_are_different_bands(songs: list[Song]) -> None:
    assert len(songs) == 76
    different = without_duplicates(songs)
    assert len(different) == 75
    bands = [song for song in different if is_band(song)]
    assert len(bands) == 61
    assert sum(song.seconds for song in bands) / 3600 == pytest.approx(2.9, abs=0.1)


def test_no_two_of_the_band_songs_are_the_same_music(songs: list[Song]) -> None:
    bands = [song for song in without_duplicates(songs) if is_band(song)]
    assert len(groups(bands)) == len(bands)
    prints = [fingerprint(song) for song in bands]
    assert max(similarity(a, b) for n, a in enumerate(prints) for b in prints[:n]) < 0.05


def test_no_song_stands_in_two_splits(splits: dict[str, list[Song]]) -> None:
    assert duplicates_across_splits(splits) == []
    names = [identity(song) for members in splits.values() for song in members]
    assert len(names) == len(set(names)) == PARAMS.demo.songs
    assert len(splits["test"]) == PARAMS.demo.test
    assert len(splits["validation"]) == PARAMS.demo.validation


def test_songs_to_pretrain_on_hold_none_that_is_tested_or_validated_on(
    songs: list[Song], splits: dict[str, list[Song]]
) -> None:
    reserved = [*splits["validation"], *splits["test"]]
    left = unrelated([song for song in without_duplicates(songs) if is_band(song)], reserved)
    assert len(left) == 61 - len(reserved)
    assert not {identity(song) for song in left} & {identity(song) for song in reserved}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_most_songs_of_every_split_have_a_voice_and_all_have_a_band(tracks: list[PlannedTrack], split: str) -> None:
    songs = [track.song for track in tracks if track.split == split]
    assert sum(has_voice(song) for song in songs) >= 0.6 * len(songs)
    for song in songs:
        rendered = [part for part in song.parts if part.is_rendered]
        assert any(part.is_bass for part in rendered)
        assert any(part.is_drum for part in rendered)
        assert any(not (part.is_bass or part.is_drum or part.program in VOICE_LIKE) for part in rendered)


def test_every_excerpt_is_full_of_music(tracks: list[PlannedTrack]) -> None:
    for track in tracks:
        assert 20 <= track.song.seconds <= PARAMS.demo.seconds + 0.01
        drums = [part for part in track.song.parts if part.is_drum]
        beaten = {int(track.song.seconds_at(stroke.start)) for part in drums for stroke in part.strokes}
        assert len(beaten) >= 0.6 * track.song.seconds, track.song.name


def test_without_an_index_the_wheel_is_asked_for_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(DataError, match=r"pip cannot download vizdoom.*put the file into .* by hand") as caught:
        fetch_wheel(WHEEL, tmp_path / "downloads")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "downloads").iterdir()) == []


def test_a_wheel_put_there_by_hand_must_be_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / WHEEL.file).write_bytes(b"something else")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(DataError):
        fetch_wheel(WHEEL, tmp_path)
    described = replace(WHEEL, sha256=sha256_file(tmp_path / WHEEL.file))
    assert fetch_wheel(described, tmp_path) == tmp_path / WHEEL.file
