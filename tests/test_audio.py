"""Audio comes in at the right pitch, level and length, or is refused in one line."""

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from stemscribe.audio import SAMPLE_RATE, Audio, clipped_share, read_audio, recording_length, resample, write_flac
from stemscribe.errors import DataError


def tone(frequency: float, seconds: float = 1.0, rate: int = 44100, level: float = 0.5) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    return (level * np.sin(2 * np.pi * frequency * time)).astype(np.float32)


def loudest_frequency(audio: Audio, rate: int = SAMPLE_RATE) -> float:
    spectrum = np.abs(np.fft.rfft(audio * np.hanning(len(audio)), 1 << 18))
    return float(np.argmax(spectrum)) * rate / (1 << 18)


def complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_audio(path)
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    return message


def test_16_bit_samples_survive_a_round_trip_exactly(tmp_path: Path) -> None:
    samples = np.arange(-32768, 32768, 7, dtype=np.int16)
    write_flac(tmp_path / "a.flac", samples)
    audio = read_audio(tmp_path / "a.flac")
    assert audio.dtype == np.float32
    np.testing.assert_array_equal(np.rint(audio * 32768).astype(np.int16), samples)


def test_equal_audio_gives_equal_bytes_those_of_libsndfile_itself(tmp_path: Path) -> None:
    for name in ("a.flac", "b.flac"):
        write_flac(tmp_path / name, tone(440))
    soundfile.write(tmp_path / "c.flac", tone(440), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    assert (tmp_path / "a.flac").read_bytes() == (tmp_path / "b.flac").read_bytes() == (tmp_path / "c.flac").read_bytes()


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000])
def test_resampling_keeps_pitch_level_and_duration(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", tone(440, rate=rate), rate)
    audio = read_audio(tmp_path / "a.wav")
    assert abs(len(audio) - SAMPLE_RATE) <= 1
    assert loudest_frequency(audio) == pytest.approx(440, abs=0.1)
    assert np.abs(audio[2000:-2000]).max() == pytest.approx(0.5, abs=0.01)


def test_what_16_khz_cannot_hold_becomes_silence_and_no_other_pitch() -> None:
    audio = resample(tone(10000), 44100, SAMPLE_RATE)
    assert np.abs(audio[500:-500]).max() < 0.005


def test_equal_rates_leave_the_samples_as_they_are() -> None:
    audio = tone(440)
    assert resample(audio, 44100, 44100) is audio


def test_channels_are_averaged(tmp_path: Path) -> None:
    left = tone(440, rate=SAMPLE_RATE)
    for right, expected in ((left, left), (-left, 0 * left), (0 * left, left / 2)):
        soundfile.write(tmp_path / "a.wav", np.stack((left, right), axis=1), SAMPLE_RATE, subtype="FLOAT")
        np.testing.assert_allclose(read_audio(tmp_path / "a.wav"), expected, atol=1e-7)


@pytest.mark.parametrize("format", ["WAV", "AIFF", "FLAC", "MP3"])
@pytest.mark.parametrize("kept", [0.99, 0.5, 0.1])
def test_a_recording_that_lost_its_end_is_refused(
    tmp_path: Path, format: str, kept: float, capfd: pytest.CaptureFixture[str]
) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 3 * 44100).astype(np.float32)
    path = tmp_path / f"a.{format.lower()}"
    soundfile.write(path, noise, 44100, format=format)
    assert len(read_audio(path)) == 3 * SAMPLE_RATE
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "replace the file" in complaint(path)


def test_libsndfile_alone_takes_a_cut_wav_for_a_shorter_one(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    path.write_bytes(path.read_bytes()[:-100])
    assert soundfile.info(str(path)).frames == 16000 - 50
    assert "tone.wav is truncated: 100 bytes are missing" in complaint(path)


def test_a_streamed_wav_without_known_size_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    soundfile.write(path, np.zeros(16000), 16000)
    data = bytearray(path.read_bytes())
    data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert recording_length(path).samples == len(read_audio(path)) == 16000


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_length_is_read_from_the_header(tmp_path: Path, suffix: str, rate: int) -> None:
    path = tmp_path / f"tone{suffix}"
    soundfile.write(path, np.zeros(3 * rate), rate)
    assert recording_length(path).seconds == 3.0


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, broken: float) -> None:
    audio = tone(440)
    audio[100] = broken
    soundfile.write(tmp_path / "a.wav", audio, 44100, subtype="FLOAT")
    assert "not numbers" in complaint(tmp_path / "a.wav")
    with pytest.raises(ValueError, match="not numbers"):
        write_flac(tmp_path / "a.flac", audio)
    assert not (tmp_path / "a.flac").exists()


def test_a_file_without_audio_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 44100)
    assert "holds no audio" in complaint(tmp_path / "a.wav")


def test_a_recording_longer_than_a_block_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stemscribe.audio.BLOCK", 1000)
    sides = np.random.default_rng(0).uniform(-1, 1, (4321, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sides, SAMPLE_RATE, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), sides.mean(axis=1, dtype=np.float32))


def test_clipping_is_measured() -> None:
    assert clipped_share(tone(440, level=0.9)) == 0.0
    assert clipped_share(np.clip(tone(440, level=5.0), -1, 1)) > 0.5
    assert clipped_share(np.zeros(0, np.float32)) == 0.0


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "no such file" in complaint(tmp_path / "a.wav")
    (tmp_path / "b.wav").mkdir()
    assert "no such file" in complaint(tmp_path / "b.wav")


@pytest.mark.parametrize("content", [b"", b"RIFF", b"FORM", b"fLaC", b"these are only words\n"])
def test_what_is_no_audio_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    assert "cannot read" in complaint(tmp_path / "a.wav")


def test_a_length_that_no_memory_holds_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", np.zeros(1000), 16000)
    content = bytearray((tmp_path / "a.flac").read_bytes())
    content[21] |= 0x0F  # the length's highest bits: STREAMINFO has it in 36 bits
    content[22:26] = b"\xff" * 4
    (tmp_path / "a.flac").write_bytes(content)
    message = complaint(tmp_path / "a.flac")
    assert "claims 68719476735 samples, more than memory holds" in message or "truncated" in message  # where pages are lent


def test_a_rate_that_would_take_gigabytes_to_resample_is_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(1000), 11127)
    assert "11127 Hz; convert it to 44100 Hz" in complaint(tmp_path / "a.wav")


def test_mp3_has_the_length_and_pitch_it_was_made_of(tmp_path: Path) -> None:
    encoded = io.BytesIO()
    soundfile.write(encoded, tone(440, seconds=2.0), 44100, format="MP3")
    (tmp_path / "a.mp3").write_bytes(encoded.getvalue())
    audio = read_audio(tmp_path / "a.mp3")
    assert abs(len(audio) - 2 * SAMPLE_RATE) < 0.1 * SAMPLE_RATE
    assert loudest_frequency(audio) == pytest.approx(440, abs=0.5)
