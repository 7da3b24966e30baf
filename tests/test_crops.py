"""A training crop says about its audio what is true, and is a function of (seed, index) alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from music import drum, note
from shard_band import UNVARIED, walking_bass, write_band, write_mix
from stemscribe import vocabulary
from stemscribe.audio import SAMPLE_RATE
from stemscribe.config import StemAugmentParams
from stemscribe.data.crops import (
    SEMITONE_RATIOS,
    Grid,
    StemCrops,
    Window,
    channels_to_teach,
    collate,
    frame_targets,
    make_crop,
)
from stemscribe.data.shards import ShardReader
from stemscribe.model.config import SMALL
from stemscribe.tokenizer import Tokenizer

GRID = Grid.of(SMALL)
VARIED = replace(UNVARIED, transpose=2, gain_db=6, noise_db=-60, bleed_share=0.5)


@pytest.fixture(scope="module")
def bass(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    folder = tmp_path_factory.mktemp("shards")
    write_mix(folder / "mix")
    return write_band(folder / "bass")


def crops(shards: ShardReader, augment: StemAugmentParams = VARIED, seed: int = 1, first: int = 0) -> StemCrops:
    mix = ShardReader(shards.folder.parent / "mix")
    return StemCrops(shards, mix, "train", SMALL, augment, teach=4, seed=seed, first=first, count=8)


def test_a_crop_depends_on_seed_and_index_alone(bass: ShardReader) -> None:
    once, again, later = crops(bass)[5], crops(bass)[5], crops(bass, first=3)[2]
    for other in (again, later):
        np.testing.assert_array_equal(once.waveform, other.waveform)
        assert once.tokens == other.tokens
    assert not np.array_equal(once.waveform, crops(bass, seed=2)[5].waveform)


def test_every_semitone_ratio_is_in_tune() -> None:
    for semitones, (up, down) in SEMITONE_RATIOS.items():
        assert abs(1200 * np.log2(up / down) - 100 * semitones) < 2  # cents


@pytest.mark.parametrize("semitones", [-2, -1, 0, 1, 2])
def test_a_transposed_crop_sounds_at_the_pitch_it_is_labelled_with(bass: ShardReader, semitones: int) -> None:
    track = bass.tracks("train")[0]
    window = Window(track, SAMPLE_RATE, semitones)
    audio = window.play(bass.audio(track, window.start, window.samples(GRID)), GRID)
    heard = window.hear(walking_bass(37))
    assert len(audio) == GRID.samples
    complete = [each for each in heard if each.onset > 0 and each.offset < GRID.seconds]
    assert len(complete) >= 3
    for each in complete:
        middle = (each.onset + each.offset) / 2
        here = audio[int((middle - 0.1) * SAMPLE_RATE) : int((middle + 0.1) * SAMPLE_RATE)]
        spectrum = np.abs(np.fft.rfft(here * np.hanning(len(here)), 1 << 17))
        frequency = np.argmax(spectrum) * SAMPLE_RATE / (1 << 17)
        assert abs(12 * np.log2(frequency / 440) + 69 - each.pitch) < 0.1
        before = audio[int((each.onset - 0.03) * SAMPLE_RATE) : int((each.onset - 0.005) * SAMPLE_RATE)]
        after = audio[int((each.onset + 0.005) * SAMPLE_RATE) : int((each.onset + 0.03) * SAMPLE_RATE)]
        assert np.abs(after).max() > 10 * np.abs(before).max()  # it begins where the label says


def test_a_note_from_before_the_crop_is_a_tie_and_sounds_in_the_first_frame() -> None:
    held = note("E2", -0.5, 0.5, 33)
    crop = make_crop(np.zeros(GRID.samples, np.float32), [held], [4], GRID, Tokenizer())
    (tokens,) = crop.tokens
    assert tokens[2] == vocabulary.TIE
    assert tokens[1] == vocabulary.PITCH_0 + held.pitch
    assert crop.active[0, 0, held.pitch]
    assert not crop.onset.any()


def test_frames_say_when_a_note_begins_and_how_long_it_sounds() -> None:
    onset, active, shift, voice = frame_targets([note("C4", 0.51, 1.0), drum("kick", 0.25)], [0, 12], GRID)
    per_second = SAMPLE_RATE / GRID.hop
    assert np.argwhere(onset[0]).tolist() == [[round(0.51 * per_second), 60]]
    assert shift[0, 20, 60] == pytest.approx(0.51 * per_second - 20)  # 10 ms after the frame's centre
    assert np.count_nonzero(shift) == 1
    assert np.flatnonzero(active[0, :, 60]).tolist() == list(range(20, 40))
    assert np.argwhere(onset[1]).tolist() == [[round(0.25 * per_second), 36]]
    assert not voice.any()


def test_a_voice_is_marked_where_it_sounds():
    _, active, _, voice = frame_targets([note("C4", 0.5, 1.0, 52), note("E4", 0.5, 1.0, 48)], [5], GRID)
    assert np.array_equal(voice[0, :, 60], active[0, :, 60])
    assert not voice[0, :, 64].any()


def test_notes_of_other_channels_are_no_targets() -> None:
    crop = make_crop(np.zeros(GRID.samples, np.float32), [note("C4", 0.5, 1.0, 0)], [4], GRID, Tokenizer())
    assert crop.tokens == ((vocabulary.TIE, vocabulary.EOS),)
    assert not crop.active.any()


def test_a_batch_is_padded_to_its_longest_target(bass: ShardReader) -> None:
    dataset = crops(bass, UNVARIED)
    batch = collate([dataset[index] for index in range(8)])
    lengths = [len(row) for index in range(8) for row in dataset[index].tokens]
    assert batch.waveform.shape == (8, SMALL.segment_samples)
    assert batch.tokens.shape == (8, 1, max(lengths))
    assert batch.onset.shape == batch.active.shape == (8, 1, SMALL.frames, 128)
    assert batch.channels.tolist() == [[4]] * 8
    assert (batch.tokens != vocabulary.PAD).sum().item() == sum(lengths)
    assert torch.isfinite(batch.waveform).all()


def test_a_stem_of_many_channels_teaches_the_sounding_ones_and_at_least_one_silence() -> None:
    generator = np.random.default_rng(0)
    other = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10)
    for sounding in ((), (3,), (0, 3, 5), (0, 2, 3, 5, 9, 12)):
        chosen = channels_to_teach(generator, other, sounding, 4)
        heard = set(chosen) & set(sounding)
        assert len(set(chosen)) == 4
        assert set(chosen) <= set(other)
        assert len(heard) == min(3, len(set(sounding) & set(other)))
    assert channels_to_teach(generator, (4,), (4,), 4) == (4,)
    assert channels_to_teach(generator, other, (3,), 1) == (3,)  # one place is for what sounds


def test_bleed_is_the_rest_of_the_mix_below_its_loudest_level(bass: ShardReader) -> None:
    """The rest of this mix is clicks of level 0.2; the bass itself must stay as it is."""
    always = replace(UNVARIED, bleed_share=1.0, bleed_db=-6)
    for index in range(8):
        clean, bled = crops(bass, UNVARIED)[index], crops(bass, always)[index]
        assert clean.tokens == bled.tokens
        rest = np.abs(bled.waveform - clean.waveform)
        assert 0.2 * 10 ** (-24 / 20) * 0.9 < rest.max() < 0.2 * 10 ** (-6 / 20) * 1.1
        assert np.median(rest) < 1e-5  # between the clicks nothing is added
