"""Thresholds of the frame head: those by which it reads the excerpts best."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from music import drum, note
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.model import SMALL, FrameLogits, ReadFrames, YourMT3
from stemscribe.model.config import FrameHeadConfig
from stemscribe.model.frame_head import onset_thresholds
from stemscribe.notes import DRUM_PROGRAM
from stemscribe.training.thresholds import (
    ACTIVE_GRID,
    ONSET_GRID,
    UNISON_GRID,
    Excerpt,
    Heard,
    Listening,
    choose_thresholds,
    onset_scores,
)
from stemscribe.transcriber import Transcriber
from tiny_model import small_model

SILENCE = np.zeros(4 * SAMPLE_RATE, dtype=np.float32)
TUNE = [note("E2", 0.5, 1.0, 33), note("G2", 1.5, 2.5, 33), note("E2", 3.0, 3.5, 33)]


def heard(true: float, false: float, held: float, rest: float) -> FrameLogits:
    """Frames in which TUNE begins with probability `true` and as many wrong notes with `false`.

    Notes sound with probability `held` while they last, and with `rest` for half a second more.
    """
    chunks = 2 * -(-len(SILENCE) // SMALL.segment_samples) + 1
    middle = ReadFrames.middle(SMALL)
    seconds = middle.seconds(np.arange(float(chunks * middle.count))) - SMALL.segment_samples / 2 / SAMPLE_RATE
    onset, active = (torch.full((1, len(seconds), 128), 0.01) for _ in range(2))
    for each in TUNE:
        first, last, later = np.searchsorted(seconds, [each.onset, each.offset, each.offset + 0.5])
        onset[0, first, each.pitch] = true
        onset[0, first, each.pitch + 6] = false
        active[0, first:last, each.pitch] = held
        active[0, last:later, each.pitch] = rest
    return FrameLogits(onset.logit(), active.logit(), torch.zeros_like(onset), torch.zeros_like(onset))


def chosen(model: YourMT3, programs: Sequence[int], excerpts: Sequence[Excerpt], drums: bool) -> FrameHeadConfig:
    assert model.config.frame_head is not None
    return choose_thresholds(model.config.frame_head, [Listening.of(model, programs, excerpts, drums)])


@pytest.fixture
def hears(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that hears the tune, and less surely something else."""
    monkeypatch.setattr(Transcriber, "hear_frames", lambda self, audio: heard(true=0.33, false=0.22, held=0.45, rest=0.25))


@pytest.mark.usefixtures("hears")
def test_an_onset_threshold_between_right_and_wrong_notes_is_chosen() -> None:
    head = chosen(small_model([4]), range(32, 40), [Excerpt(SILENCE, TUNE)], drums=False)

    assert head.onset_thresholds[4] == 0.25  # the lowest of those that keep the wrong notes out
    assert {head.onset_thresholds[channel] for channel in range(13) if channel != 4} == {0.4}  # nobody asked
    assert head.active_threshold == 0.3  # with 0.2 the notes would be half a second too long, with 0.5 a frame long


def test_a_stem_of_which_nothing_was_heard_keeps_its_thresholds() -> None:
    before = small_model([4]).config.frame_head
    assert chosen(small_model([4]), range(32, 40), [], drums=False) == before


def test_the_middle_of_what_reads_as_well_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Right notes are heard with .78 and wrong ones with .22, so that all from .25 to .75 read the tune without a fault."""
    monkeypatch.setattr(Transcriber, "hear_frames", lambda self, audio: heard(true=0.78, false=0.22, held=0.45, rest=0.25))
    head = chosen(small_model([4]), range(32, 40), [Excerpt(SILENCE, TUNE)], drums=False)
    assert head.onset_thresholds[4] == 0.5


def test_what_is_kept_of_an_excerpt_reads_as_all_of_it() -> None:
    generator = torch.Generator().manual_seed(1)
    onset = torch.randn(3, 240, 128, generator=generator) * 2 - 8
    said = FrameLogits(onset, *(torch.randn(3, 240, 128, generator=generator) for _ in range(3)))
    transcriber = Transcriber(small_model([5, 9, 10]), [48, 52, 80, 85, 88, 91], "frames")
    kept = Heard.of(said, 6.0, [])
    assert 0 < len(kept.columns.onset) < 0.9 * 3 * 128
    found = [transcriber.read_frames(kept.frames, 6.0, threshold, 0.3, 0.8) for threshold in ONSET_GRID]
    assert found[0]
    assert found == [transcriber.read_frames(said, 6.0, threshold, 0.3, 0.8) for threshold in ONSET_GRID]


@pytest.mark.usefixtures("hears")
def test_a_stem_is_scored_with_every_threshold() -> None:
    transcriber = Transcriber(small_model([4]), range(32, 40), "frames")
    scores = dict(zip(ONSET_GRID, onset_scores(transcriber, (SILENCE, TUNE), drums=False), strict=True))

    assert scores[0.2] == pytest.approx(2 / 3)  # six notes, three of them right
    assert scores[0.25] == scores[0.3] == 1
    assert scores[0.35] == 0


@pytest.mark.usefixtures("hears")
def test_drums_decide_nothing_about_how_long_notes_last() -> None:
    model = small_model([12])
    assert model.config.frame_head is not None
    head = chosen(model, [DRUM_PROGRAM], [Excerpt(SILENCE, [])], drums=True)
    assert head.active_threshold == model.config.frame_head.active_threshold


def test_a_drum_that_is_heard_less_surely_has_a_threshold_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    beats = np.arange(0.1, 3.9, 0.2)
    hits = [drum("kick", each) for each in beats] + [drum("ride", each + 0.1) for each in beats]

    def heard_drums(self: Transcriber, audio: Audio) -> FrameLogits:
        frames = heard(true=0.01, false=0.01, held=0.01, rest=0.01)
        seconds = (
            ReadFrames.middle(SMALL).seconds(np.arange(float(frames.onset.shape[1]))) - SMALL.segment_samples / 2 / SAMPLE_RATE
        )
        for hit in hits:
            frames.onset[0, np.searchsorted(seconds, hit.onset), hit.pitch] = 2.0 if hit.pitch == 36 else -1.0  # .88, .27
            frames.onset[0, np.searchsorted(seconds, hit.onset + 0.06), 36] = -0.5  # .38, an echo of both in the kick
        return frames

    monkeypatch.setattr(Transcriber, "hear_frames", heard_drums)
    head = chosen(small_model([12]), [DRUM_PROGRAM], [Excerpt(SILENCE, hits)], drums=True)
    (by_pitch,) = onset_thresholds(head, [12])
    assert by_pitch[36] > 0.38
    assert by_pitch[51] < 0.27


@pytest.mark.parametrize(("doubled", "threshold"), [(False, 0.8), (True, 0.3)])
def test_unisons_are_kept_where_the_music_has_them(doubled: bool, threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piano is heard surely, and a vibraphone with it, with a probability of 0.6."""

    def on_both(self: Transcriber, audio: Audio) -> FrameLogits:
        pair = (heard(true=true, false=0.01, held=0.9, rest=0.01) for true in (0.9, 0.6))
        return FrameLogits(*map(torch.cat, zip(*pair, strict=True)))

    monkeypatch.setattr(Transcriber, "hear_frames", on_both)
    reference = [replace(each, program=program) for program in ((0, 8) if doubled else (0,)) for each in TUNE]
    head = chosen(small_model([0, 1]), range(16), [Excerpt(SILENCE, reference)], drums=False)
    assert head.unison_threshold == threshold


def test_the_grids_are_probabilities_in_ascending_order() -> None:
    for grid in (ONSET_GRID, ACTIVE_GRID, UNISON_GRID):
        assert list(grid) == sorted(set(grid))
        assert 0 < grid[0] < grid[-1] < 1
