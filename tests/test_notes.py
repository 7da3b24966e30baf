"""Cleaning, cutting and keeping notes."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from music import drum, note
from stemscribe.errors import DataError
from stemscribe.notes import (
    Note,
    clean_notes,
    clip_notes,
    load_note_columns,
    load_notes,
    notes_from_columns,
    notes_to_columns,
    save_notes,
    shift_notes,
)

seconds = st.floats(0, 20, allow_nan=False)
any_notes = st.lists(
    st.builds(Note, seconds, seconds, st.integers(58, 62), st.sampled_from([0, 1, 33, 128]), st.sampled_from([1, 64, 127])),
    max_size=30,
)


def test_a_restruck_key_ends_the_note_before():
    assert clean_notes([note("C4", 1.0, 3.0), note("C4", 2.0, 2.5)]) == [note("C4", 1.0, 2.0), note("C4", 2.0, 2.5)]


def test_two_instruments_may_hold_the_same_pitch():
    tune = [note("C4", 1.0, 3.0, program=0), note("C4", 2.0, 2.5, program=40)]
    assert clean_notes(tune) == tune


def test_of_a_doubled_onset_the_longer_note_stays():
    assert clean_notes([note("C4", 1.0, 3.0), note("C4", 1.0, 2.0)]) == [note("C4", 1.0, 3.0)]


def test_empty_and_backward_notes_are_dropped():
    assert clean_notes([note("C4", 1.0, 1.0), note("D4", 2.0, 1.5), note("E4", math.nan, 2.0)]) == []


def test_a_very_short_note_lasts_ten_milliseconds():
    (grace,) = clean_notes([note("C4", 1.0, 1.003)])
    assert grace.offset == pytest.approx(1.010)


def test_every_drum_hit_lasts_ten_milliseconds():
    hits = clean_notes([Note(1.0, 1.0, 36, 128), Note(2.0, 5.0, 38, 128)])
    assert hits == [drum("kick", 1.0), drum("snare", 2.0)]


def test_drums_come_after_pitched_notes_of_the_same_moment():
    assert clean_notes([drum("kick", 1.0), note("C4", 1.0, 2.0)]) == [note("C4", 1.0, 2.0), drum("kick", 1.0)]


@given(any_notes)
def test_cleaning_twice_is_cleaning_once(tune):
    assert clean_notes(clean_notes(tune)) == clean_notes(tune)


@given(any_notes)
def test_after_cleaning_no_key_sounds_twice_for_more_than_a_tick(tune):
    last: dict[tuple[int, int], Note] = {}
    for now in clean_notes(tune):
        before = last.get((now.program, now.pitch))
        assert now.offset > now.onset
        if before is not None:
            assert before.onset < now.onset
            assert before.offset <= max(now.onset, before.onset + 0.010)
        last[now.program, now.pitch] = now


def test_shifting_there_and_back():
    tune = [note("C4", 1.0, 2.0), note("E4", 1.5, 1.75)]
    assert shift_notes(tune, 2.0)[0] == note("C4", 3.0, 4.0)
    assert shift_notes(shift_notes(tune, 2.0), -2.0) == tune


def test_clipping_cuts_at_both_borders():
    tune = [note("C4", 0.0, 2.0), note("D4", 1.0, 4.0), note("E4", 3.0, 5.0), note("F4", 0.0, 1.0)]
    assert clip_notes(tune, 3.0, start_seconds=1.0) == [note("C4", 1.0, 2.0), note("D4", 1.0, 3.0)]


def test_columns_have_the_promised_types():
    columns = notes_to_columns([note("C4", 1.0, 2.0, program=33, velocity=77)])
    assert {name: str(column.dtype) for name, column in columns.items()} == {
        "onset": "float64",
        "offset": "float64",
        "pitch": "int16",
        "program": "int16",
        "velocity": "int16",
    }


@given(any_notes)
def test_columns_hold_notes_exactly(tune):
    assert notes_from_columns(notes_to_columns(tune)) == tune


SONGS = {
    "Track00002": [note("C4", 1.0, 2.0), drum("kick", 1.5)],
    "Track00001": [],
    "Träck 3": [note("E2", 0.1, 0.3, program=33, velocity=5)],
}


def test_saved_notes_come_back_with_silent_tracks_and_order(tmp_path: Path):
    save_notes(tmp_path / "notes.npz", SONGS)
    loaded = load_notes(tmp_path / "notes.npz")
    assert loaded == SONGS
    assert list(loaded) == list(SONGS)


def test_columns_are_cut_by_track(tmp_path: Path):
    save_notes(tmp_path / "notes.npz", SONGS)
    columns = load_note_columns(tmp_path / "notes.npz")
    assert columns["Track00001"]["onset"].tolist() == []
    assert columns["Träck 3"]["program"].tolist() == [33]


def test_no_tracks_at_all_is_a_file_too(tmp_path: Path):
    save_notes(tmp_path / "notes.npz", {})
    assert load_notes(tmp_path / "notes.npz") == {}


def test_equal_notes_make_equal_bytes(tmp_path: Path):
    save_notes(tmp_path / "a.npz", SONGS)
    save_notes(tmp_path / "b.npz", {track: list(tune) for track, tune in SONGS.items()})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_missing_or_cut_file_is_one_line(tmp_path: Path):
    path = tmp_path / "notes.npz"
    with pytest.raises(DataError, match="no notes at"):
        load_notes(path)
    save_notes(path, SONGS)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="broken"):
        load_notes(path)


def test_columns_that_disagree_are_refused(tmp_path: Path):
    path = tmp_path / "notes.npz"
    save_notes(path, SONGS)
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **(arrays | {"pitch": arrays["pitch"][:-1]}))
    with pytest.raises(DataError, match="differ in length"):
        load_notes(path)
    np.savez(path, **(arrays | {"track": arrays["track"] + 7}))
    with pytest.raises(DataError, match="ordered by track"):
        load_notes(path)
    np.savez(path, **(arrays | {"onset": arrays["onset"] * np.nan}))
    with pytest.raises(DataError, match="not numbers"):
        load_notes(path)
    del arrays["velocity"]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="not a file of notes"):
        load_notes(path)
