"""What a room, a microphone and a mixing desk do to sounds without moving a note: gentle filters and a little reverberation.

Both are functions of a generator and of the sound, and cost about a millisecond a crop. Filters are drawn in decibels over
octaves, as a mixing desk has them; reverberation is noise that dies away exponentially (Moorer 1979), after the sound itself,
so a note still begins where it began.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import fftconvolve

from stemscribe.audio import SAMPLE_RATE, Audio

CURVE_POINTS = 33  # of a filter's curve from LOWEST_HZ to half the sample rate, evenly over octaves
LOWEST_HZ = 31.25
CENTRE_HZ = 500.0  # of the tilt
PADDING = 1024  # samples of silence, so that nothing of the end is heard at the beginning
PREDELAY_SECONDS = 0.004
SHORTEST_DECAY = 0.1  # seconds until reverberation has lost 60 dB
WET_RANGE_DB = 18.0  # between the loudest and the faintest reverberation

Curve = npt.NDArray[np.float32]


def filtered(generator: np.random.Generator, sources: Audio, decibels: float) -> Audio:
    """Give each source a tone of its own: a tilt over the octaves and one broad peak or dip.

    Args:
        generator: decides the tones.
        sources: `(n, N)`.
        decibels: what a filter adds or takes away at most, for the tilt and for the peak.
    Returns:
        `(n, N)`; no sound is moved in time.
    """
    samples = sources.shape[-1]
    size = next_fast_len(samples + PADDING, real=True)
    spectra = rfft(sources, size, axis=-1)
    for spectrum in spectra:
        spectrum *= _gains(size, _curve(generator, decibels))
    return np.ascontiguousarray(irfft(spectra, size, axis=-1)[..., :samples], dtype=np.float32)


def _curve(generator: np.random.Generator, decibels: float) -> Curve:
    """Decibels at each point of a filter's curve."""
    octaves = np.linspace(np.log2(LOWEST_HZ), np.log2(SAMPLE_RATE / 2), CURVE_POINTS)
    distance = octaves - np.log2(CENTRE_HZ)
    tilt = generator.uniform(-decibels, decibels) * distance / np.abs(distance).max()
    centre, width = generator.uniform(octaves[0] + 1, octaves[-1]), generator.uniform(0.5, 1.5)
    peak = generator.uniform(-decibels, decibels) * np.exp(-0.5 * ((octaves - centre) / width) ** 2)
    return np.asarray(tilt + peak, dtype=np.float32)


def _gains(size: int, curve: Curve) -> Curve:
    """A filter's gain at each frequency of a Fourier transform of `size` samples."""
    point, share = _places(size)
    decibels = curve[point] * (1 - share) + curve[point + 1] * share
    return np.exp(decibels * np.float32(np.log(10) / 20))


@lru_cache(maxsize=8)
def _places(size: int) -> tuple[npt.NDArray[np.intp], Curve]:
    """For each frequency the point of the curve before it, and how far it is on the way to the next."""
    hertz = np.maximum(np.fft.rfftfreq(size, 1 / SAMPLE_RATE), LOWEST_HZ)
    place = (CURVE_POINTS - 1) * np.log2(hertz / LOWEST_HZ) / np.log2(SAMPLE_RATE / 2 / LOWEST_HZ)
    point = np.minimum(place.astype(np.intp), CURVE_POINTS - 2)
    return point, (place - point).astype(np.float32)


def reverberant(generator: np.random.Generator, waveform: Audio, longest_decay: float, loudest_db: float) -> Audio:
    """Play a sound in a room.

    Args:
        generator: decides how large the room is, and how loud.
        waveform: `(N,)`.
        longest_decay: seconds until the room has lost 60 dB, at most.
        loudest_db: level of the room below the sound itself; the faintest is WET_RANGE_DB below that.
    Returns:
        `(N,)`, the sound and its reverberation; what would follow the end is cut off.
    """
    decay = generator.uniform(SHORTEST_DECAY, max(longest_decay, SHORTEST_DECAY))
    seconds = np.arange(round(decay * SAMPLE_RATE), dtype=np.float32) / np.float32(SAMPLE_RATE)
    tail = generator.standard_normal(len(seconds), dtype=np.float32) * np.exp(seconds * np.float32(-np.log(1000) / decay))
    level = 10 ** (generator.uniform(loudest_db - WET_RANGE_DB, loudest_db) / 20)
    tail *= np.float32(level / np.sqrt(np.square(tail).sum()))
    delay = round(PREDELAY_SECONDS * SAMPLE_RATE)
    room = fftconvolve(waveform, tail)[: len(waveform) - delay]
    heard = waveform.copy()
    heard[delay:] += room
    return heard
