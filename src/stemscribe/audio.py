"""Audio files in and out: mono float32 at the rate that is asked for, checked before anything is computed from it.

Decoding is libsndfile's (WAV, FLAC, OGG, MP3, AIFF), resampling is torchaudio's band-limited interpolation. libsndfile notices
a cut FLAC or MP3 while decoding, but takes a cut WAV or AIFF for a shorter one, so their own size fields are read. A cut OGG
cannot be told from a short one.
"""

import io
import math
import os
import struct
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile

from stemscribe.errors import DataError

Audio = npt.NDArray[np.float32]
SAMPLE_RATE = 16000  # Hz, what YourMT3+ hears
SEGMENT_SAMPLES = 32767  # that it hears at once
LARGEST_KERNEL = 32_000_000  # taps; the resampler's grow with the rates over their common divisor, and odd rates take gigabytes
BLOCK = 1 << 20  # samples that are decoded at a time
CLIPPED_FROM = 0.999  # of full scale
STREAMED = 0xFFFFFFFF  # size of the samples in a WAV whose writer did not know it


@dataclass(frozen=True, slots=True)
class Length:
    """Length of a recording at its own rate."""

    samples: int
    rate: int  # Hz

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.samples / self.rate


def recording_length(path: str | os.PathLike[str]) -> Length:
    """Length of an audio file from its header, without decoding it.

    Raises:
        DataError: if the file is missing, has no readable header, is empty, or is a WAV or AIFF shorter than it says.
    """
    place = Path(path)
    if not place.is_file():
        raise DataError(f"no such file {place}; check the path")
    try:
        facts = soundfile.info(str(place))
        missing = _missing_bytes(place)
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise DataError(f"cannot read {place}: {str(error).splitlines()[0].rstrip('.')}; replace the file") from error
    if missing > 0:
        raise DataError(f"{place} is truncated: {missing} bytes are missing; replace the file")
    if facts.frames < 1 or facts.samplerate < 1:
        raise DataError(f"{place} holds no audio; replace the file")
    return Length(int(facts.frames), int(facts.samplerate))


def _missing_bytes(path: Path) -> int:
    """How many bytes a WAV or AIFF is short of what its samples' chunk claims; 0 for any other file."""
    total = path.stat().st_size
    with path.open("rb") as stream:
        container = stream.read(12)[:4]
        if container not in (b"RIFF", b"FORM"):  # RF64 and RIFX: left to libsndfile
            return 0
        head, samples = ("<4sI", b"data") if container == b"RIFF" else (">4sI", b"SSND")
        while len(chunk := stream.read(8)) == 8:
            kind, size = struct.unpack(head, chunk)
            if kind == samples:
                return 0 if size == STREAMED else stream.tell() + size - total
            stream.seek(size + size % 2, os.SEEK_CUR)
    return 0


def read_audio(path: str | os.PathLike[str], sample_rate: int = SAMPLE_RATE) -> Audio:
    """Read a file as mono.

    Args:
        path: any format libsndfile reads.
        sample_rate: Hz of the result.
    Returns:
        `(N,)` in [-1, 1] (beyond it only if the file itself is); channels are averaged.
    Raises:
        DataError: if the file is missing, broken, truncated, empty or holds values that are no numbers.
    """
    length = recording_length(path)
    if _kernel_taps(length.rate, sample_rate) > LARGEST_KERNEL:
        raise DataError(f"{path} has an odd sample rate, {length.rate} Hz; convert it to 44100 Hz")
    try:
        audio, read = np.empty(length.samples, np.float32), 0
        with soundfile.SoundFile(path) as file:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):  # an hour of stereo is over a gigabyte
                mono = block.mean(axis=1, dtype=np.float32)[: len(audio) - read]
                audio[read : read + len(mono)] = mono
                read += len(block)
    except MemoryError:
        raise DataError(
            f"{path} claims {length.samples} samples, more than memory holds; cut it, or replace the file"
        ) from None
    except (soundfile.SoundFileError, RuntimeError, OSError) as error:
        raise DataError(f"cannot decode {path}: {str(error).splitlines()[0].rstrip('.')}; replace the file") from error
    if read != length.samples:
        raise DataError(f"{path} is truncated: {read} of {length.samples} samples; replace the file")
    if not np.isfinite(audio).all():
        raise DataError(f"{path} holds samples that are not numbers; replace the file")
    return resample(audio, length.rate, sample_rate)


def clipped_share(audio: Audio) -> float:
    """Share of the samples of `(N,)` that stand at full scale or beyond it, as they do where a recording was too loud."""
    return float((np.abs(audio) >= CLIPPED_FROM).mean()) if len(audio) else 0.0


def _kernel_taps(rate: int, new_rate: int) -> int:
    """About how many numbers the resampler's filters take."""
    common = math.gcd(rate, new_rate)
    return 0 if rate == new_rate else (rate // common) * (new_rate // common)


def resample(audio: Audio, rate: int, new_rate: int) -> Audio:
    """Band-limited resampling of `(N,)` from `rate` to `new_rate` Hz; the same samples when the rates agree."""
    if rate == new_rate:
        return audio
    import torch

    with torch.inference_mode():
        resampled = _torchaudio().functional.resample(torch.from_numpy(audio), rate, new_rate)
    return np.ascontiguousarray(resampled.numpy(), dtype=np.float32)


def write_flac(path: str | os.PathLike[str], audio: npt.NDArray[Any], sample_rate: int = SAMPLE_RATE) -> None:
    """Write `(N,)` as 16-bit mono FLAC; floats are in [-1, 1], int16 is written as it is.

    Raises:
        ValueError: if a sample is not a number.
        OSError: if the operating system refuses.
    """
    if not np.isfinite(audio).all():
        raise ValueError(f"{path} was to hold samples that are not numbers")
    encoded = io.BytesIO()  # libsndfile itself says nothing of a full disk
    soundfile.write(encoded, audio, sample_rate, format="FLAC", subtype="PCM_16")
    Path(path).write_bytes(encoded.getvalue())


def _torchaudio() -> Any:
    """torchaudio, also where its compiled extension finds no CUDA libraries.

    PyPI's torchaudio wheels are linked against CUDA and fail to import beside a CPU build of torch, although
    everything used here is plain torch code. In that case the extension is declared absent and the import repeated.
    """
    try:
        import torchaudio
    except OSError:
        for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
            del sys.modules[name]
        absent: Any = types.ModuleType("torchaudio._extension")
        absent._IS_TORCHAUDIO_EXT_AVAILABLE = False
        absent._IS_ALIGN_AVAILABLE = False
        absent._check_cuda_version = lambda: None
        absent.fail_if_no_align = lambda function: function
        sys.modules["torchaudio._extension"] = absent
        import torchaudio
    return torchaudio
