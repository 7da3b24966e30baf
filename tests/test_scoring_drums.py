"""Drums are scored by class and time."""

import pytest

from stemscribe.notes import Note
from stemscribe.scoring.counts import Counts
from stemscribe.scoring.drums import counts_by_class, drum_counts, drum_frame_counts
from stemscribe.scoring.scorecard import DRUM_SCORES, onset_counts, score_by_class, score_track

ACOUSTIC_KICK, KICK, SNARE, ELECTRIC_SNARE = 35, 36, 38, 40
CLOSED, PEDAL, OPEN, TAMBOURINE, FLOOR_TOM, CRASH, RIDE = 42, 44, 46, 54, 41, 49, 51


def hit(pitch: int, onset: float) -> Note:
    return Note(onset, onset + 0.01, pitch, program=128)


def test_both_kicks_are_the_kick():
    assert drum_counts([hit(ACOUSTIC_KICK, 1.0)], [hit(KICK, 1.04)]) == Counts(1, 1, 1)


def test_layered_hits_of_a_class_are_one_and_flams_are_two():
    layered = [hit(SNARE, 1.0), hit(ELECTRIC_SNARE, 1.01), hit(CLOSED, 1.0)]
    assert drum_counts(layered, [hit(SNARE, 1.0), hit(CLOSED, 1.0)]) == Counts(2, 2, 2)
    assert drum_counts([hit(SNARE, 1.0)], layered[:2]) == Counts(1, 1, 1)
    flam = [hit(SNARE, 1.0), hit(SNARE, 1.03)]
    assert drum_counts(flam, flam) == Counts(2, 2, 2)
    toms = [hit(FLOOR_TOM, 1.0), hit(45, 1.0)]
    assert drum_counts(toms, toms) == Counts(2, 2, 2)
    assert drum_counts(toms, toms, "five") == Counts(1, 1, 1)


def test_open_and_closed_hi_hat_differ_in_general_midi_only():
    written, heard = [hit(CLOSED, 1.0)], [hit(OPEN, 1.0)]
    assert drum_counts(written, heard).matched == 0
    assert drum_counts(written, heard, "five").matched == 1
    assert drum_counts(written, heard, "kick_snare_hihat").matched == 1
    assert drum_counts(written, [hit(PEDAL, 1.0)]).matched == 1


def test_kick_snare_hihat_leaves_other_drums_out_on_both_sides():
    written = [hit(KICK, 1.0), hit(CRASH, 1.0)]
    heard = [hit(KICK, 1.0), hit(FLOOR_TOM, 1.5), hit(RIDE, 2.0)]
    assert drum_counts(written, heard, "kick_snare_hihat") == Counts(1, 1, 1)
    assert drum_counts(written, heard, "five") == Counts(1, 3, 2)


def test_a_tambourine_must_be_found_although_it_is_in_no_group():
    assert drum_counts([hit(TAMBOURINE, 1.0)], []) == Counts(0, 0, 1)
    assert drum_counts([hit(TAMBOURINE, 1.0)], [hit(TAMBOURINE, 1.0)]) == Counts(1, 1, 1)


def test_the_length_of_a_hit_does_not_matter():
    assert drum_counts([Note(1.0, 1.01, SNARE, 128)], [Note(1.0, 3.0, ELECTRIC_SNARE, 128)]).matched == 1


def test_a_hit_fills_exactly_one_frame():
    for onset in (0.0, 0.01, 0.0625, 0.9, 1.23456):
        assert drum_frame_counts([hit(KICK, onset)], [hit(KICK, onset)]) == Counts(1, 1, 1)
    assert drum_frame_counts([hit(KICK, 1.0)], [hit(SNARE, 1.0)]).matched == 0


def test_classes_are_named_as_drummers_name_them():
    groove = [hit(KICK, 0.0), hit(SNARE, 0.5), hit(CLOSED, 0.5), hit(TAMBOURINE, 0.5)]
    assert list(counts_by_class(groove, [hit(CRASH, 2.0)], "five")) == ["Kick", "Snare", "Hi-hat", "Cymbal"]
    fine = counts_by_class(groove, groove, "general_midi")
    assert list(fine) == ["Kick", "Snare", "Closed Hi-Hat", "Tambourine"]
    assert all(counts.f1 == 1 for counts in fine.values())


def test_a_track_of_drums_has_no_offset_score():
    groove = [hit(KICK, 0.0), hit(SNARE, 0.5)]
    card = score_track(groove, groove, drums=True)
    assert tuple(card) == DRUM_SCORES
    assert {name: counts.f1 for name, counts in card.items()} == dict.fromkeys(DRUM_SCORES, 1.0)
    assert onset_counts(groove, groove, drums=True) == card["onset"]


def test_an_unknown_classing_is_an_error():
    with pytest.raises(KeyError):
        drum_counts([], [], "three")


def test_class_rows_ask_for_the_right_instrument():
    piano, strings = Note(1.0, 2.0, 60, program=1), Note(1.0, 2.0, 67, program=48)
    mistaken = Note(1.0, 2.0, 67, program=3)
    rows = score_by_class([piano, strings], [piano, mistaken])
    assert rows == {("instrument", "Piano"): Counts(1, 2, 1), ("instrument", "Strings"): Counts(0, 0, 1)}
