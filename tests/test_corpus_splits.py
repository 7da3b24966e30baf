"""Who is the same song, and which split a song goes to: by notes, never by names."""

from dataclasses import replace

import pytest

from band import Line, band, band_midi, midi, walk
from stemscribe.corpora.identity import fingerprint, groups, identity, similarity, unrelated, without_duplicates
from stemscribe.corpora.planning import duplicates_across_splits, identities, plan_tracks, split_songs
from stemscribe.corpora.songs import Part, Song, Stroke, read_song
from stemscribe.errors import UsageError

SONGS = [band(lowest, 48, lead=80 + lowest % 4, name=f"SONG{lowest}") for lowest in range(55, 62)]


def transposed(song: Song, semitones: int) -> Song:
    def higher(part: Part) -> Part:
        if part.is_drum:
            return part
        strokes = (Stroke(s.start, s.end, s.pitch + semitones, s.velocity) for s in part.strokes)
        return replace(part, strokes=tuple(strokes))

    return replace(song, name=f"{song.name} transposed", parts=tuple(higher(part) for part in song.parts))


def orchestrated(song: Song, program: int) -> Song:
    parts = (part if part.is_drum else replace(part, program=program, channel=part.channel + 4) for part in song.parts)
    return replace(song, name=f"{song.name} for {program}", parts=tuple(parts))


def test_identity_hears_notes_and_not_names_instruments_or_resolution() -> None:
    song = SONGS[0]
    assert identity(replace(song, name="other", title="other")) == identity(song) == identity(orchestrated(song, 40))
    finer = read_song(band_midi(55, 48, 83), "finer", "tests")
    assert identity(finer) == identity(song)
    assert identity(transposed(song, 1)) != identity(song)
    assert len({identity(song) for song in SONGS}) == len(SONGS)


def test_a_song_is_found_again_in_another_key_and_for_other_instruments() -> None:
    song, other = SONGS[0], SONGS[1]
    again = orchestrated(transposed(song, 5), 73)
    assert similarity(fingerprint(song), fingerprint(again)) == 1.0
    assert similarity(fingerprint(song), fingerprint(other)) < 0.1


def test_a_pedal_point_makes_no_two_songs_alike() -> None:
    drone = read_song(midi(Line(0, 33, [(b, 0.9, 36) for b in range(48)]), Line(1, 80, walk(60, 48))), "A", "c")
    other = read_song(midi(Line(0, 33, [(b, 0.9, 36) for b in range(48)])), "B", "c")
    assert similarity(fingerprint(drone), fingerprint(other)) == 0.0


def test_repetitions_fall_away_and_arrangements_stand_together() -> None:
    song, other = SONGS[0], SONGS[1]
    assert len(without_duplicates([song, orchestrated(song, 40), other])) == 2
    together = groups([song, other, transposed(song, 3)])
    assert sorted(len(group) for group in together) == [1, 2]


def test_nothing_that_resembles_a_reserved_song_may_be_trained_on() -> None:
    song, *others = SONGS
    assert unrelated([*SONGS, transposed(song, 2), orchestrated(song, 40)], [song]) == others


def test_splits_are_a_function_of_the_songs_and_the_seed_alone() -> None:
    names = identities(split_songs(SONGS, 7, 1, 2, seed=1))
    assert names == identities(split_songs(SONGS[::-1], 7, 1, 2, seed=1))
    assert names != identities(split_songs(SONGS, 7, 1, 2, seed=2))
    assert {split: len(songs) for split, songs in names.items()} == {"train": 4, "validation": 1, "test": 2}
    everything = [name for songs in names.values() for name in songs]
    assert len(set(everything)) == len(everything) == 7


def test_more_training_songs_move_no_song_to_another_split() -> None:
    few, many = (identities(split_songs(SONGS, count, 1, 2, seed=1)) for count in (5, 7))
    assert few["test"] == many["test"]
    assert few["validation"] == many["validation"]
    assert few["train"] == many["train"][:2]


def test_a_smaller_profile_tests_only_on_what_the_larger_one_keeps_out_of_training() -> None:
    large, small = split_songs(SONGS, 7, 2, 3, seed=1), split_songs(SONGS, 4, 1, 1, seed=1)
    kept_out = {identity(song) for split in ("validation", "test") for song in large[split]}
    assert kept_out >= {identity(song) for split in ("validation", "test") for song in small[split]}


@pytest.mark.parametrize("seed", range(6))
def test_arrangements_of_one_song_share_a_split(seed: int) -> None:
    songs = [*SONGS, *(transposed(song, 3) for song in SONGS[:3])]
    splits = split_songs(songs, len(songs), 2, 3, seed)
    assert duplicates_across_splits(splits) == []
    home = {song.name: split for split, members in splits.items() for song in members}
    for song in SONGS[:3]:
        assert home[song.name] == home[f"{song.name} transposed"]


def test_the_audit_finds_a_song_that_stands_in_two_splits() -> None:
    song = SONGS[0]
    leak = {"train": [song], "validation": [SONGS[1]], "test": [transposed(song, 3)]}
    assert [sorted(pair) for pair in duplicates_across_splits(leak)] == [sorted([song.name, f"{song.name} transposed"])]


def test_more_songs_than_there_are_is_wrong_use() -> None:
    with pytest.raises(UsageError, match="there are 7 band songs, not 8"):
        split_songs(SONGS, 8, 1, 2, seed=1)


def test_tracks_are_numbered_so_that_more_training_songs_rename_nothing() -> None:
    few, many = (plan_tracks(split_songs(SONGS, count, 1, 2, 1), 20, 0.5, 1) for count in (5, 7))
    assert [track.track for track in many] == [f"Track{number:05d}" for number in range(1, 8)]
    assert [track.split for track in many] == ["test"] * 2 + ["validation"] + ["train"] * 4
    assert [track.identity for track in few] == [track.identity for track in many[:5]]
