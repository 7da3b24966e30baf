"""Frame logits -> notes, drawn by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemscribe.model import FULL, SMALL, FrameLogits, FrameReader, ModelConfig, ReadFrames, YourMT3
from stemscribe.model.config import FrameHeadConfig
from stemscribe.model.frame_head import UNISON_FRAMES, onset_thresholds, without_echoes
from tiny_model import noise, small_model

FRAMES = 10


def drawn(onsets: dict, active: dict, channels: int = 1, frames: int = FRAMES) -> FrameLogits:
    """Logits from probabilities: `{(channel, frame, pitch): probability}`."""
    parts = []
    for cells in (onsets, active):
        logits = torch.full((channels, frames, 128), -9.0)
        for place, probability in cells.items():
            logits[place] = torch.logit(torch.tensor(probability))
        parts.append(logits)
    return FrameLogits(*parts, torch.zeros_like(parts[0]), torch.full_like(parts[0], -1.0))


def read(frames: FrameLogits, *, onset: float = 0.4, active: float = 0.3, stretch: int = FRAMES) -> list[list[float]]:
    """Notes as [channel, onset, offset, pitch], fed `stretch` frames at a time."""
    return [found[:4] for found in read_voices(frames, onset, active, stretch)]


def read_voices(frames: FrameLogits, onset: float = 0.4, active: float = 0.3, stretch: int = FRAMES) -> list[list[float]]:
    """The same, and 1 behind it for what is sung."""
    reader = FrameReader([onset] * len(frames.onset), active)
    for start in range(0, frames.onset.shape[1], stretch):
        reader.feed(FrameLogits(*(part[:, start : start + stretch] for part in frames)))
    return reader.finish()[:, :5].tolist()


def held(first: int, stop: int, pitch: int = 60, channel: int = 0) -> dict:
    return {(channel, frame, pitch): 0.9 for frame in range(first, stop)}


def test_silence_has_no_notes():
    assert read(drawn({}, {})) == []


def test_a_note_lasts_while_its_pitch_is_active():
    frames = drawn({(0, 2, 60): 0.8}, held(2, 6))
    assert read(frames) == [[0, 2, 6, 60]]


@pytest.mark.parametrize("stretch", [1, 3, FRAMES])
def test_a_note_is_sung_if_its_frames_say_so_on_the_whole(stretch: int):
    frames = drawn({(0, 1, 60): 0.8, (0, 5, 60): 0.8}, held(1, 9))
    frames.voice[0, 2:5, 60] = 1.0  # of the first note's four frames three
    frames.voice[0, 6, 60] = 1.0  # of the second's one
    assert read_voices(frames, stretch=stretch) == [[0, 1, 5, 60, 1], [0, 5, 9, 60, 0]]


def test_a_blurred_onset_is_one_note_at_its_peak():
    frames = drawn({(0, 2, 60): 0.5, (0, 3, 60): 0.9, (0, 4, 60): 0.6}, held(2, 6))
    assert read(frames) == [[0, 3, 6, 60]]


def test_two_equal_frames_are_one_onset():
    frames = drawn({(0, 2, 60): 0.75, (0, 3, 60): 0.75}, held(2, 6))
    assert len(read(frames)) == 1


def test_a_repeated_note_ends_where_the_next_one_starts():
    frames = drawn({(0, 2, 60): 0.8, (0, 5, 60): 0.8}, held(2, 9))
    assert read(frames) == [[0, 2, 5, 60], [0, 5, 9, 60]]


def test_an_onset_without_activity_lasts_one_frame():
    assert read(drawn({(0, 2, 38): 0.8}, {})) == [[0, 2, 3, 38]]


def test_activity_without_an_onset_is_no_note():
    assert len(read(drawn({(0, 2, 60): 0.39}, held(2, 6)))) == 0


def test_a_note_is_held_across_the_border_of_two_segments():
    frames = drawn({(0, 8, 60): 0.8}, held(8, 13), frames=2 * FRAMES)
    assert read(frames) == [[0, 8, 13, 60]]


def test_an_onset_smeared_over_the_border_is_one_onset():
    frames = drawn({(0, 9, 60): 0.6, (0, 10, 60): 0.8}, held(9, 13), frames=2 * FRAMES)
    assert read(frames) == [[0, 10, 13, 60]]


def test_a_note_at_the_very_edges():
    frames = drawn({(0, 0, 60): 0.8, (0, 9, 64): 0.8}, {**held(0, 10), (0, 9, 64): 0.9})
    assert read(frames) == [[0, 0, 10, 60], [0, 9, 10, 64]]


def test_channels_and_pitches_keep_apart_and_notes_come_in_time_order():
    frames = drawn(
        {(1, 2, 60): 0.8, (0, 2, 64): 0.8, (0, 1, 60): 0.8},
        {**held(2, 4, 60, 1), **held(2, 5, 64, 0), **held(1, 3, 60, 0)},
        channels=2,
    )
    assert read(frames) == [[0, 1, 3, 60], [0, 2, 5, 64], [1, 2, 4, 60]]


def test_thresholds_decide():
    frames = drawn({(0, 2, 60): 0.5}, {(0, 2, 60): 0.9, (0, 3, 60): 0.5})
    assert read(frames, onset=0.6) == []
    assert read(frames, active=0.6) == [[0, 2, 3, 60]]


def test_each_channel_has_its_own_onset_threshold():
    frames = drawn({(0, 2, 60): 0.5, (1, 2, 60): 0.5}, {}, channels=2)
    reader = FrameReader([0.6, 0.4], 0.3)
    reader.feed(frames)
    assert reader.finish()[:, :4].tolist() == [[1, 2, 3, 60]]


def test_a_pitch_may_have_its_own_onset_threshold():
    head = FrameHeadConfig(onset_thresholds=(0.6,) * 13, exceptions=((12, 51, 0.4),))
    reader = FrameReader(onset_thresholds(head, [4, 12]), 0.3)
    reader.feed(drawn({(row, 2, pitch): 0.5 for row in (0, 1) for pitch in (49, 51)}, {}, channels=2))
    assert reader.finish()[:, :4].tolist() == [[1, 2, 3, 51]]


def test_an_onset_lies_where_the_head_says_between_frames():
    frames = drawn({(0, 2, 60): 0.8, (0, 6, 62): 0.8}, {**held(2, 4), **held(6, 8, 62)})
    frames.shift[0, 2, 60], frames.shift[0, 6, 62] = 0.25, -3.0
    assert read(frames) == [[0, 2.25, 4, 60], [0, 5.5, 8, 62]]  # half a frame at most


def test_a_note_knows_how_sure_its_onset_was():
    reader = FrameReader([0.4, 0.4], 0.3)
    reader.feed(drawn({(0, 2, 60): 0.8, (0, 5, 60): 0.5, (1, 2, 64): 0.6}, held(2, 8), channels=2))
    assert reader.finish()[:, 5].tolist() == pytest.approx([0.8, 0.6, 0.5])


def found(*notes: tuple[int, float, int, bool, float]) -> np.ndarray:
    """What a reader found, of (channel, onset, pitch, sung, probability)."""
    rows = [(channel, onset, onset + 8, pitch, sung, surety) for channel, onset, pitch, sung, surety in notes]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


PIANO, ORGAN, STRINGS = 0, 1, 2


@pytest.mark.parametrize(
    ("other", "stays"),
    [
        ((ORGAN, 11.5, 60, False, 0.6), False),
        ((ORGAN, 11.5, 60, False, 0.8), True),  # sure enough to be a unison
        ((ORGAN, 10 + UNISON_FRAMES + 0.1, 60, False, 0.6), True),  # too late for an echo
        ((ORGAN, 10 - UNISON_FRAMES, 60, False, 0.6), False),
        ((ORGAN, 10, 72, False, 0.6), True),
        ((PIANO, 11, 60, False, 0.6), True),  # struck again
        ((ORGAN, 10, 60, True, 0.6), True),  # a voice doubles an instrument more often than not
    ],
)
def test_what_a_second_channel_hears_of_a_note_is_left_out(other: tuple, stays: bool):
    notes = found((PIANO, 10, 60, False, 0.9), other)
    assert without_echoes(notes, 0.8).tolist() == (notes if stays else notes[:1]).tolist()


def test_the_surest_of_several_is_kept_and_the_order_stays():
    notes = found(
        (PIANO, 9, 60, False, 0.5), (ORGAN, 10, 60, False, 0.7), (STRINGS, 11, 60, False, 0.6), (PIANO, 30, 60, False, 0.5)
    )
    assert without_echoes(notes, 0.8)[:, :2].tolist() == [[ORGAN, 10], [PIANO, 30]]
    assert without_echoes(notes, 0.6)[:, :2].tolist() == [[ORGAN, 10], [STRINGS, 11], [PIANO, 30]]


def test_drums_are_no_echo_of_a_pitch():
    notes = found((0, 10, 36, False, 0.9), (1, 10, 36, False, 0.5))
    assert len(without_echoes(notes, 0.8, apart=[1])) == 2
    assert len(without_echoes(notes[:0], 0.8)) == 0


@given(
    notes=st.lists(
        st.tuples(st.integers(0, 2), st.floats(0, 40), st.integers(60, 61), st.booleans(), st.floats(0.3, 0.99)), max_size=40
    )
)
def test_no_two_notes_that_begin_together_on_two_channels_are_both_unsure(notes: list):
    kept = without_echoes(found(*notes), 0.8)
    unsure = kept[kept[:, 5] < 0.8]
    for each in unsure:
        together = (kept[:, 3:5] == each[3:5]).all(axis=1) & (np.abs(kept[:, 1] - each[1]) <= UNISON_FRAMES)
        assert set(kept[together, 0]) == {each[0]}
    assert without_echoes(kept, 0.8).tolist() == kept.tolist()


@given(
    cells=st.lists(st.tuples(st.integers(0, 1), st.integers(0, 29), st.integers(60, 62), st.floats(0.05, 0.95)), max_size=40),
    stretch=st.integers(1, 30),
)
def test_it_does_not_matter_in_which_stretches_frames_are_fed(cells: list, stretch: int):
    onsets = {(channel, frame, pitch): value for channel, frame, pitch, value in cells}
    active = {(channel, frame, pitch): 1 - value for channel, frame, pitch, value in cells}
    frames = drawn(onsets, active, channels=2, frames=30)
    generator = torch.Generator().manual_seed(len(cells))
    frames.shift.uniform_(-0.6, 0.6, generator=generator)
    frames.voice.normal_(generator=generator)
    in_one, in_stretches = (FrameReader([0.4, 0.6], 0.3) for _ in range(2))
    in_one.feed(frames)
    for start in range(0, 30, stretch):
        in_stretches.feed(FrameLogits(*(part[:, start : start + stretch] for part in frames)))
    assert in_stretches.finish().tolist() == in_one.finish().tolist()


EVEN = dataclasses.replace(SMALL, segment_samples=32_000)  # a whole number of hops, and of halves of them


@pytest.mark.parametrize("config", [SMALL, FULL, EVEN], ids=["small", "full", "even"])
def test_segments_that_do_not_overlap_are_read_to_their_ends_and_no_further(config: ModelConfig):
    whole = ReadFrames.whole(config)
    assert (whole.first, whole.apart) == (0, config.segment_samples)
    assert (whole.count - 1) * config.hop < config.segment_samples <= whole.count * config.hop
    seconds = whole.seconds(np.arange(3.0 * whole.count))
    steps = np.diff(seconds) * config.sample_rate
    assert (steps > 0).all()
    assert steps.max() == pytest.approx(config.hop)
    assert seconds[whole.count] == pytest.approx(config.segment_samples / config.sample_rate)
    logits = torch.arange(2.0 * config.frames).view(2, 1, config.frames, 1).expand(2, 3, config.frames, 128)
    kept = whole.take(FrameLogits(*[logits] * 4)).onset
    assert kept.shape == (3, 2 * whole.count, 128)
    assert kept[0, whole.count, 0] == config.frames


@pytest.mark.parametrize("config", [SMALL, FULL, EVEN], ids=["small", "full", "even"])
def test_the_middles_of_overlapping_segments_follow_each_other_within_a_hop(config: ModelConfig):
    middle = ReadFrames.middle(config)
    seconds = middle.seconds(np.arange(4.0 * middle.count))
    steps = np.diff(seconds) * config.sample_rate
    assert (steps > 0).all()
    assert steps.max() == pytest.approx(config.hop)  # nothing is left out
    assert seconds[middle.count] == pytest.approx(
        (config.segment_samples - config.segment_samples // 2 + middle.first * config.hop) / config.sample_rate
    )


@pytest.mark.parametrize("config", [SMALL, FULL, EVEN], ids=["small", "full", "even"])
def test_time_runs_on_where_a_segment_takes_over(config: ModelConfig):
    middle = ReadFrames.middle(config)
    border = float(middle.count)
    times = middle.seconds(np.array([border - 1, border - 0.4, border, border + 0.5]))
    assert times[0] < times[2] < times[3]
    assert times[2] - times[1] == pytest.approx(0.4 * config.hop / config.sample_rate)  # before its frame by what it is early


def test_nothing_may_come_first():
    reader = FrameReader([0.4], 0.3)
    frames = drawn({(0, 2, 60): 0.8}, held(2, 6))
    reader.feed(FrameLogits(*(part[:, :0] for part in frames)))
    reader.feed(frames)
    assert reader.finish()[:, :4].tolist() == [[0, 2, 6, 60]]


def test_the_middle_of_each_segment_is_taken():
    middle = ReadFrames.middle(SMALL)
    numbers = torch.arange(3 * 82).view(3, 1, 82, 1).expand(3, 2, 82, 128)
    kept = middle.take(FrameLogits(*[numbers] * 4)).onset
    assert kept.shape == (2, 3 * middle.count, 128)
    assert kept[1, : middle.count, 0].tolist() == list(range(middle.first, middle.first + middle.count))
    assert int(kept[0, middle.count, 5]) == 82 + middle.first


def test_an_untrained_model_hears_nothing():
    model = small_model([4])
    waveform = noise(SMALL)
    with torch.no_grad():
        frames = model.frames(model.encode(waveform), waveform)
    assert all(part.shape == (2, 1, 82, 128) for part in frames)
    assert read(FrameLogits(*(part[0] for part in frames))) == []


def test_the_ear_for_pitch_says_nothing_of_drums_nor_beyond_the_piano():
    model = small_model([4, 12])
    waveform = noise(SMALL)
    plain = YourMT3(dataclasses.replace(SMALL, frame_head=dataclasses.replace(SMALL.frame_head, harmonic=None)), [4, 12])
    plain.load_state_dict({key: value for key, value in model.state_dict().items() if key in plain.state_dict()})
    with torch.no_grad():
        memory = model.encode(waveform)
        heard, without = model.frames(memory, waveform).onset, plain.frames(memory, waveform).onset
    assert torch.equal(heard[:, 1], without[:, 1])
    assert torch.equal(heard[..., :21], without[..., :21])
    assert torch.equal(heard[..., 109:], without[..., 109:])
    assert (heard[:, 0, :, 21:109] != without[:, 0, :, 21:109]).float().mean() > 0.99


def test_a_model_without_a_frame_head_says_so():
    model = YourMT3(dataclasses.replace(SMALL, frame_head=None, memory_frames=False))
    with pytest.raises(ValueError, match="no frame head"):
        model.frames(torch.zeros(1, 1, 82, 192), torch.zeros(1, 32_767))


def test_memory_and_waveform_must_belong_together():
    with pytest.raises(ValueError, match="memory is of"):
        small_model([4]).frames(torch.zeros(2, 1, 82, 192), torch.zeros(1, 32_767))
