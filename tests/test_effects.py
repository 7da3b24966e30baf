"""Filters and rooms: what they do to a sound is what a mixing desk and a small hall would do, and no note moves."""

import numpy as np
import pytest

from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.data.effects import PREDELAY_SECONDS, filtered, reverberant

SAMPLES = 32767
CLICK = 12000  # sample at which the click stands


def click() -> Audio:
    audio = np.zeros(SAMPLES, np.float32)
    audio[CLICK] = 1
    return audio


def level(audio: Audio) -> float:
    """Energy in decibels."""
    return float(10 * np.log10(np.square(audio.astype(np.float64)).sum() + 1e-30))


def test_effects_are_functions_of_the_generator() -> None:
    noise = np.random.default_rng(0).standard_normal((2, SAMPLES), dtype=np.float32)
    for seed in range(3):
        one, other, another = (np.random.default_rng(s) for s in (seed, seed, seed + 1))
        tones = [filtered(generator, noise, 6) for generator in (one, other, another)]
        rooms = [reverberant(generator, noise[0], 0.5, -10) for generator in (one, other, another)]
        for first, again, third in (tones, rooms):
            np.testing.assert_array_equal(first, again)
            assert not np.array_equal(first, third)


def test_without_decibels_a_filter_changes_nothing() -> None:
    noise = np.random.default_rng(0).standard_normal((3, SAMPLES), dtype=np.float32)
    np.testing.assert_allclose(filtered(np.random.default_rng(1), noise, 0), noise, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_a_filter_moves_no_click_and_stays_within_its_decibels(seed: int) -> None:
    """Tilt and peak may add up, hence twice the decibels."""
    heard = filtered(np.random.default_rng(seed), click()[None], 6)[0]
    gains = 20 * np.log10(np.abs(np.fft.rfft(heard)))
    assert np.argmax(np.abs(heard)) == CLICK
    assert np.abs(gains).max() < 12.1
    assert np.ptp(gains) > 1


def test_each_source_gets_a_tone_of_its_own() -> None:
    one, other = filtered(np.random.default_rng(3), np.stack([click(), click()]), 6)
    assert np.abs(one - other).max() > 0.05


def test_nothing_of_the_end_is_heard_at_the_beginning() -> None:
    audio = np.zeros((1, SAMPLES), np.float32)
    audio[0, -1] = 1
    for seed in range(8):
        assert level(filtered(np.random.default_rng(seed), audio, 9)[0, : SAMPLES // 2]) < -60


@pytest.mark.parametrize("seed", range(4))
def test_a_room_answers_after_the_sound_and_dies_away(seed: int) -> None:
    dry = click()
    wet = reverberant(np.random.default_rng(seed), dry, 0.5, -12)
    answer = CLICK + round(PREDELAY_SECONDS * SAMPLE_RATE)
    np.testing.assert_allclose(wet[:answer], dry[:answer], atol=1e-6)
    room = wet - dry
    assert -31 < level(room) < -11
    early, late = room[answer : answer + 1600], room[answer + 6400 : answer + 8000]
    assert level(early) > level(late) + 15
    assert np.abs(room[CLICK + round(0.6 * SAMPLE_RATE) :]).max() < 1e-4


def test_silence_stays_silence() -> None:
    nothing = np.zeros(SAMPLES, np.float32)
    assert not filtered(np.random.default_rng(0), nothing[None], 9).any()
    assert not reverberant(np.random.default_rng(0), nothing, 0.5, 0).any()
