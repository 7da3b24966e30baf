"""Intervals and tests agree with closed forms and with scipy."""

import numpy as np
import pytest
from scipy import stats

from stemscribe.notes import Note
from stemscribe.scoring.silence import SEGMENT, FalseNotes, false_notes
from stemscribe.scoring.statistics import bootstrap_interval, holm, signed_rank_p


def interval(values, draws=10000, seed=1):
    return bootstrap_interval(values, draws, np.random.default_rng(seed))


def test_the_interval_of_many_tracks_is_the_normal_one():
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    found = interval(values)
    assert found.mean == pytest.approx(values.mean())
    assert found.half_width == pytest.approx(1.96 * values.std() / 20, rel=0.03)
    assert found.low < found.mean < found.high


def test_the_interval_is_scipys_percentile_bootstrap():
    values = [0.3, 0.8, 0.75, 0.9, 0.62, 0.71, 0.55, 0.88]
    witness = stats.bootstrap((values,), np.mean, n_resamples=20000, method="percentile", rng=3).confidence_interval
    found = interval(values, draws=20000)
    assert (found.low, found.high) == pytest.approx((witness.low, witness.high), abs=0.005)


def test_equal_tracks_leave_no_doubt_and_one_track_leaves_every_doubt():
    assert interval([0.5, 0.5, 0.5]).half_width == 0
    alone = interval([0.5])
    assert (alone.mean, alone.half_width) == (0.5, 1.0)


def test_the_same_seed_draws_the_same_tracks():
    values = [0.1, 0.4, 0.9, 0.3]
    assert interval(values) == interval(values)
    assert interval(values, draws=200, seed=1) != interval(values, draws=200, seed=2)


def test_differences_are_paired():
    base, gain = np.random.default_rng(0).uniform(0, 0.8, 12), 0.1
    assert interval(base).half_width > 0.1
    assert interval((base + gain) - base).half_width == pytest.approx(0, abs=1e-12)


def test_six_gains_of_six_cannot_be_more_certain_than_one_in_thirty_two():
    assert signed_rank_p([0.1, 0.2, 0.3, 0.15, 0.25, 0.4]) == pytest.approx(2 / 2**6)
    assert signed_rank_p([0.0, 0.0]) == 1.0


def test_holm_multiplies_the_smallest_by_all_and_the_largest_by_one():
    adjusted = holm({"bass": 0.01, "drums": 0.04, "vocals": 0.03, "other": 0.5})
    assert adjusted == pytest.approx({"bass": 0.04, "drums": 0.09, "vocals": 0.09, "other": 0.5})
    assert list(adjusted) == ["bass", "drums", "vocals", "other"]
    assert holm({"bass": 0.9, "drums": 0.8}) == {"bass": 1.0, "drums": 1.0}
    assert holm({}) == {}


def test_notes_in_a_silent_track_are_all_false():
    heard = [Note(t, t + 1, 60) for t in (0.0, 10.0, 59.0)]
    assert false_notes([], heard, 60.0) == FalseNotes(3, pytest.approx(60.0))
    assert false_notes([], heard, 60.0).per_minute == pytest.approx(3.0)


def test_wrong_notes_beside_right_ones_are_not_counted_as_notes_in_silence():
    written, heard = [Note(0.5, 1.0, 60)], [Note(0.7, 1.0, 64), Note(5.0, 5.1, 64)]
    found = false_notes(written, heard, 4 * SEGMENT)
    assert found == FalseNotes(1, pytest.approx(3 * SEGMENT))


def test_an_early_onset_just_before_a_segment_is_not_false():
    border = 2 * SEGMENT
    found = false_notes([Note(border + 0.01, border + 0.5, 60)], [Note(border - 0.03, border + 0.5, 60)], 3 * SEGMENT)
    assert found == FalseNotes(0, pytest.approx(SEGMENT))


def test_a_track_that_never_rests_has_no_silence_to_spoil():
    assert false_notes([Note(0.0, 60.0, 60)], [Note(1.0, 2.0, 61)], 60.0) == FalseNotes(0, 0.0)
    assert FalseNotes(0, 0.0).per_minute == 0.0
    assert FalseNotes(1, 30.0) + FalseNotes(2, 60.0) == FalseNotes(3, 90.0)
