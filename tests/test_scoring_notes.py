"""Counts of matched notes equal mir_eval's, and mean what a musician would say."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mir_eval import multipitch, transcription
from mir_eval.util import midi_to_hz

from music import note
from stemscribe.notes import Note
from stemscribe.scoring.counts import NOTHING, Counts, pool
from stemscribe.scoring.frames import HIGHEST, HOP, LOWEST, frame_counts
from stemscribe.scoring.notes import (
    STANDARD,
    Tolerances,
    onset_counts,
    onset_offset_counts,
    pitch_class_counts,
    without_unisons,
)

# Times on a grid of 12.5 ms collide with the tolerances of 50 ms exactly, which is where implementations differ.
times = st.integers(0, 160).map(lambda step: step / 80)
some_notes = st.lists(
    st.builds(lambda onset, length, pitch: Note(onset, onset + length, pitch), times, times.filter(bool), st.integers(58, 62)),
    max_size=40,
)


def plain_mir_eval(reference: list[Note], estimate: list[Note], offset_ratio: float | None, onset: float = 0.05) -> int:
    """All notes against all notes, as mir_eval does it."""
    if not reference or not estimate:
        return 0

    def arrays(notes: list[Note]) -> tuple[np.ndarray, np.ndarray]:
        return np.array([(n.onset, n.offset) for n in notes]), midi_to_hz(np.array([n.pitch for n in notes], dtype=float))

    matching = transcription.match_notes(
        *arrays(reference),
        *arrays(estimate),
        onset_tolerance=onset,
        offset_ratio=offset_ratio,
        offset_min_tolerance=onset,
    )
    return len(matching)


@given(some_notes, some_notes)
def test_splitting_by_pitch_finds_mir_evals_onset_matches(reference, estimate):
    assert onset_counts(reference, estimate) == Counts(plain_mir_eval(reference, estimate, None), len(estimate), len(reference))


@given(some_notes, some_notes)
def test_splitting_by_pitch_finds_mir_evals_onset_and_offset_matches(reference, estimate):
    assert onset_offset_counts(reference, estimate).matched == plain_mir_eval(reference, estimate, 0.2)


@given(some_notes, some_notes)
def test_other_tolerances_are_mir_evals_too(reference, estimate):
    wide = Tolerances(onset=0.1, offset_ratio=0.5)
    assert onset_offset_counts(reference, estimate, wide).matched == plain_mir_eval(reference, estimate, 0.5, onset=0.1)


@given(some_notes, some_notes)
def test_rates_are_those_of_mir_eval(reference, estimate):
    if not reference or not estimate:
        return
    arrays = [
        values
        for notes in (reference, estimate)
        for values in (
            np.array([(n.onset, n.offset) for n in notes]),
            midi_to_hz(np.array([float(n.pitch) for n in notes])),
        )
    ]
    precision, recall, f1, _ = transcription.precision_recall_f1_overlap(*arrays, offset_ratio=None)
    counts = onset_counts(reference, estimate)
    assert (counts.precision, counts.recall, counts.f1) == pytest.approx((precision, recall, f1))


@given(some_notes, some_notes)
def test_frame_counts_are_mir_evals_multipitch(reference, estimate):
    frames = np.arange(80) * HOP

    def sounding(notes: list[Note]) -> list[np.ndarray]:
        return [midi_to_hz(np.array(sorted({n.pitch for n in notes if n.onset <= t < n.offset}), dtype=float)) for t in frames]

    counts = frame_counts(reference, estimate)
    if counts.estimated and counts.reference:
        precision, recall, *_ = multipitch.metrics(frames, sounding(reference), frames, sounding(estimate))
        assert (counts.precision, counts.recall) == pytest.approx((precision, recall))
    assert counts.reference == sum(len(pitches) for pitches in sounding(reference))
    assert counts.estimated == sum(len(pitches) for pitches in sounding(estimate))


def test_a_tune_played_as_written_is_perfect():
    tune = [note("C4", 0.0, 0.5), note("E4", 0.5, 1.0), note("G4", 1.0, 2.0)]
    for counts in (onset_counts(tune, tune), onset_offset_counts(tune, tune), frame_counts(tune, tune)):
        assert (counts.precision, counts.recall, counts.f1) == (1.0, 1.0, 1.0)


def test_fifty_milliseconds_late_is_in_time_and_fifty_one_is_not():
    assert onset_counts([note("C4", 1.0, 2.0)], [note("C4", 1.05, 2.0)]).matched == 1
    assert onset_counts([note("C4", 1.0, 2.0)], [note("C4", 1.051, 2.0)]).matched == 0


def test_a_semitone_off_is_wrong_and_an_octave_off_is_the_right_pitch_class():
    written = [note("E1", 1.0, 2.0)]
    assert onset_counts(written, [note("F1", 1.0, 2.0)]).matched == 0
    assert onset_counts(written, [note("E2", 1.0, 2.0)]).matched == 0
    assert pitch_class_counts(written, [note("E2", 1.0, 2.0)]) == Counts(1, 1, 1)


def test_a_long_note_may_end_a_fifth_of_its_length_off():
    written = [note("C4", 0.0, 2.0)]
    assert onset_offset_counts(written, [note("C4", 0.0, 2.4)]).matched == 1
    assert onset_offset_counts(written, [note("C4", 0.0, 2.41)]).matched == 0
    assert onset_offset_counts([note("C4", 0.0, 0.1)], [note("C4", 0.0, 0.15)]).matched == 1


def test_a_note_reported_twice_is_right_once():
    assert onset_counts([note("C4", 1.0, 2.0)], [note("C4", 1.0, 1.1), note("C4", 1.02, 2.0)]) == Counts(1, 2, 1)


def test_the_instrument_does_not_matter():
    assert onset_counts([note("C4", 1.0, 2.0, program=0)], [note("C4", 1.0, 2.0, program=48)]).matched == 1


def test_nothing_reported_and_nothing_to_find():
    tune = [note("C4", 1.0, 2.0)]
    missed, invented = onset_counts(tune, []), onset_counts([], tune)
    assert (missed.precision, missed.recall, missed.f1, missed.defined) == (0.0, 0.0, 0.0, True)
    assert (invented.precision, invented.recall, invented.f1, invented.defined) == (0.0, 0.0, 0.0, False)
    assert onset_counts([], []) == frame_counts([], []) == NOTHING


def test_pooled_counts_weigh_tracks_by_their_notes():
    short, long = Counts(1, 1, 1), Counts(0, 99, 99)
    assert pool([short, long]) == Counts(1, 100, 100)
    assert pool([short, long]).f1 == 0.01


def test_pitches_outside_the_frame_range_are_left_out():
    low, high = Note(0.0, 1.0, LOWEST - 1), Note(0.0, 1.0, HIGHEST + 1)
    assert frame_counts([low, high], [low]) == NOTHING
    assert frame_counts([replace(low, pitch=LOWEST)], []).reference == 16


def test_a_drum_roll_of_ten_thousand_hits_is_matched_in_seconds():
    roll = [Note(0.03 * k, 0.03 * k + 0.01, 38, 128) for k in range(5000)]
    late = [replace(hit, onset=hit.onset + 0.04, offset=hit.offset + 0.04) for hit in reversed(roll)]
    started = time.process_time()
    assert onset_counts(roll, late).matched == len(roll)
    assert time.process_time() - started < 15


def test_a_long_track_takes_a_fraction_of_a_second():
    generator = np.random.default_rng(0)
    written = [
        Note(t, t + 0.3, int(p))
        for t, p in zip(generator.uniform(0, 300, 12000), generator.integers(30, 90, 12000), strict=True)
    ]
    heard = [
        replace(n, onset=n.onset + d, offset=n.offset + d)
        for n, d in zip(written, generator.normal(0, 0.03, 12000), strict=True)
    ]
    started = time.process_time()
    counts = onset_offset_counts(written, heard, STANDARD)
    assert 0.8 < counts.f1 < 1
    assert time.process_time() - started < 3  # plain mir_eval: about 20 s


def test_of_a_unison_the_longer_note_is_left_and_a_repetition_is_none():
    short, long, again = note("C4", 1.0, 1.5), note("C4", 1.02, 2.0, program=40), note("C4", 1.1, 1.4)
    assert without_unisons([again, long, short]) == [short, again]
    assert without_unisons([replace(long, onset=1.0), short]) == [replace(long, onset=1.0)]
