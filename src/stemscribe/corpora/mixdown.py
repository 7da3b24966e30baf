"""Levels as in Slakh2100: every stem equally loud, summed, and one gain for all of them so that the mix just fits.

Each stem is brought to -13 LUFS (ITU-R BS.1770-4, gated, measured by pyloudnorm), and one overall gain lets the mix peak at
-1 dBFS. Stems are rounded to 16 bits first and the mix is their sum, so stems add up to the mix exactly.
After Manilow et al. 2019, section 3.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyloudnorm

from stemscribe.audio import SAMPLE_RATE

STEM_LUFS = -13.0
PEAK_DBFS = -1.0
LOUDEST_STEP = 32767  # of 16 bits
SHORTEST_SECONDS = 0.4  # one measuring block of BS.1770

Samples = npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Mixdown:
    """Stems and mix as 16-bit samples, all `(N,)`."""

    stems: dict[str, Samples]
    mix: Samples
    loudness: dict[str, float]  # LUFS of each stem before anything was done to it
    overall_gain: float  # what every stem was multiplied by after it had been brought to STEM_LUFS


def integrated_loudness(audio: npt.NDArray[np.float64]) -> float:
    """Gated loudness of `(N,)` at 16 kHz in LUFS, rounded to 6 decimals; minus infinity for silence.

    Measured at full scale, so that the absolute gate (-70 LUFS) cannot swallow a stem that is merely soft. A stem shorter than
    a measuring block is measured with silence after it.
    """
    peak = float(np.max(np.abs(audio), initial=0.0))
    if peak == 0.0:
        return float("-inf")
    missing = round(SHORTEST_SECONDS * SAMPLE_RATE) - len(audio)
    padded = np.pad(audio / peak, (0, max(missing, 0)))
    measured = float(pyloudnorm.Meter(SAMPLE_RATE).integrated_loudness(padded))
    # Rounded, so that the last bits of a logarithm, which differ between processors, never reach a sample.
    return round(measured + 20 * float(np.log10(peak)), 6)


def mix_down(audio: Mapping[str, npt.NDArray[np.float64]]) -> Mixdown:
    """Level and sum stems; a stem without any sound is left out.

    Args:
        audio: equally long stems `(N,)` by name, at least one with sound.
    """
    measured = {name: integrated_loudness(stem) for name, stem in audio.items()}
    loudness = {name: value for name, value in measured.items() if np.isfinite(value)}
    levelled = {name: audio[name] * 10 ** ((STEM_LUFS - value) / 20) for name, value in loudness.items()}
    peak = float(np.max(np.abs(sum(levelled.values()))))
    gain = round(10 ** (PEAK_DBFS / 20) / peak, 9)
    # One stem may peak higher than the sum of all; then it decides.
    loudest = max(float(np.max(np.abs(stem))) for stem in levelled.values())
    gain = min(gain, round(1 / loudest, 9))
    stems = {name: np.rint(stem * gain * LOUDEST_STEP).astype(np.int16) for name, stem in levelled.items()}
    mix: Samples = np.stack(list(stems.values())).sum(axis=0, dtype=np.int32).astype(np.int16)
    return Mixdown(stems, mix, loudness, gain)
