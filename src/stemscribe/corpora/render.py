"""MIDI to audio with a SoundFont, event by event: every note begins at the sample at which the file says it does.

The synthesizer is TinySoundFont: no reverb and no chorus, and the same file always gives the same samples. It runs at 48 kHz
and the result is brought to 16 kHz with a band-limiting filter; rendering at 16 kHz outright would fold what lies above 8 kHz
back into what is heard.
"""

from functools import lru_cache
from pathlib import Path

import mido
import numpy as np
import numpy.typing as npt
from scipy.signal import firwin, resample_poly

from stemscribe.audio import SAMPLE_RATE
from stemscribe.corpora.songs import DRUM_CHANNEL
from stemscribe.errors import DataError

SYNTH_RATE = 48_000  # Hz, three times SAMPLE_RATE
DECIMATION = SYNTH_RATE // SAMPLE_RATE
WHEEL_CENTRE = 8192
VOICES = 512

Waveform = npt.NDArray[np.float64]


@lru_cache(maxsize=8)
def _soundfont_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read the soundfont {path}: {error.strerror}; name another one") from error


class Player:
    """A synthesizer with one SoundFont and nothing sounding yet."""

    def __init__(self, soundfont: Path) -> None:
        try:
            import tinysoundfont
        except ImportError as error:  # its wheel asks for an audio device's library, so pyproject.toml does not ask for it
            way_out = "run `make env`, or `pip install --no-deps tinysoundfont`"
            raise DataError(f"songs are rendered with tinysoundfont, which cannot be loaded ({error}); {way_out}") from error
        self._synth = tinysoundfont.Synth(samplerate=SYNTH_RATE)
        try:
            self._font = self._synth.sfload(_soundfont_bytes(soundfont), max_voices=VOICES)
        except (RuntimeError, tinysoundfont.SoundFontException) as error:
            raise DataError(f"{soundfont} is no soundfont that can be played ({error}); name another one") from error
        self._name = soundfont.name

    def preset_name(self, program: int, is_drum: bool) -> str:
        """What the SoundFont calls an instrument."""
        bank = 128 if is_drum else 0
        name = self._synth.sfpreset_name(self._font, bank, program) or self._synth.sfpreset_name(self._font, bank, 0)
        return (name or "unnamed").strip()

    def play(self, message: mido.Message) -> None:
        """Obey one MIDI message."""
        synth = self._synth
        if message.type == "note_on" and message.velocity:
            synth.noteon(message.channel, message.note, message.velocity)
        elif message.type in ("note_on", "note_off"):
            synth.noteoff(message.channel, message.note)
        elif message.type == "pitchwheel":
            synth.pitchbend(message.channel, message.pitch + WHEEL_CENTRE)
        elif message.type == "control_change":
            synth.control_change(message.channel, message.control, message.value)
        elif message.type == "program_change":
            try:
                synth.program_change(message.channel, message.program, message.channel == DRUM_CHANNEL)
            except RuntimeError as error:
                raise DataError(f"{self._name} has no program {message.program}; name a General-MIDI soundfont") from error

    def sound(self, samples: int) -> Waveform:
        """The next `samples` at SYNTH_RATE, mono `(samples,)`."""
        stereo = np.frombuffer(self._synth.generate(samples), dtype=np.float32).reshape(-1, 2)
        mono: Waveform = stereo.mean(axis=1, dtype=np.float64)
        return mono


def render(midi: Path, soundfont: Path, seconds: float) -> Waveform:
    """Play a MIDI file.

    Args:
        midi: a standard MIDI file.
        soundfont: an .sf2 or .sf3 file with the General MIDI programs.
        seconds: length of the result; what lasts longer is cut off.
    Returns:
        `(round(seconds * 16000),)`, mono at 16 kHz, not normalised.
    Raises:
        DataError: if the soundfont cannot be played or lacks a program.
    """
    player = Player(soundfont)
    samples = round(seconds * SAMPLE_RATE) * DECIMATION
    pieces, now, clock = [np.zeros(0)], 0, 0.0
    for message in mido.MidiFile(midi):
        clock += message.time
        until = min(round(clock * SYNTH_RATE), samples)
        if until > now:
            pieces.append(player.sound(until - now))
            now = until
        if not message.is_meta:
            player.play(message)
    pieces.append(player.sound(samples - now))
    return _to_sample_rate(np.concatenate(pieces))


@lru_cache(maxsize=1)
def _low_pass() -> Waveform:
    """A linear-phase filter at SYNTH_RATE that passes up to 7 kHz and stops from 8.5 kHz on (65 dB)."""
    response: Waveform = firwin(151, 7_700, window=("kaiser", 6.0), fs=SYNTH_RATE)
    return response


def _to_sample_rate(audio: Waveform) -> Waveform:
    result: Waveform = resample_poly(audio, 1, DECIMATION, window=_low_pass())
    return result
