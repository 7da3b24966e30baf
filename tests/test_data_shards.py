"""Shards: every sample where the manifest says, the same bytes on any number of workers, nothing half written."""

import json
import pickle
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.testing import assert_array_equal

from music import note
from stemscribe.audio import Audio
from stemscribe.data.sharding import FileRecording, PlannedSource, PlannedTrack, lay_out, to_int16, write_shards
from stemscribe.data.shards import ShardReader, verify_shards
from stemscribe.errors import DataError
from stemscribe.notes import Note, load_notes, notes_to_columns

HEADER = {"stem": "bass", "programs": [33], "channels": [4], "sample_rate": 16000, "corpus": "band"}


@dataclass(frozen=True)
class Ramp:
    """Audio that says where it is: sample n of source k is k * 1000 + n, in 16-bit steps."""

    first: int

    def read(self, samples: int) -> Audio:
        return (self.first + np.arange(samples, dtype=np.float32)) / np.float32(32768)


@dataclass(frozen=True)
class Interrupted:
    """Somebody presses ctrl-c while this is read."""

    def read(self, samples: int) -> Audio:
        raise KeyboardInterrupt


def source(number: int, *notes: Note, recording: object = None) -> PlannedSource:
    heard = recording or Ramp(1000 * number)
    return PlannedSource(f"S{number:02d}", 33, "plugin", notes_to_columns(notes), heard)  # type: ignore[arg-type]


def track(number: int, samples: int, *sources: PlannedSource, split: str = "train") -> PlannedTrack:
    return PlannedTrack(f"Track{number:05d}", split, samples, sources)


E1, G1, A1 = note("E1", 0.5, 1.0, 33), note("G1", 0.25, 0.75, 33), note("A1", 2.0, 3.0, 34)
BAND = (
    track(1, 100, source(1, E1), source(2, G1, A1)),
    track(2, 50, split="test"),
    track(3, 80, source(3), split="test"),
)


def shards_in(folder: Path, tracks: Sequence[PlannedTrack] = BAND, shard_bytes: int = 10_000, workers: int = 1) -> ShardReader:
    write_shards(folder, HEADER, tracks, shard_bytes, workers, "writing")
    return ShardReader(folder)


def steps(audio: Audio) -> list[int]:
    return [round(float(sample) * 32768) for sample in audio]


def test_every_source_is_where_the_manifest_says(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    raw = np.fromfile(tmp_path / "bass/shard-00000.i16", "<i2")
    for place in bass.tracks():
        for number, each in enumerate(place.sources):
            expected = raw[each.offset_samples : each.offset_samples + place.samples]
            assert_array_equal(steps(bass.source_audio(place, 0, place.samples)[number]), expected)
            assert expected[0] == 1000 * int(each.stem[1:])
    assert len(raw) == 2 * 100 + 80


def test_a_crop_is_the_sum_of_the_sources(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    assert steps(bass.audio("Track00001", 10, 3)) == [3020, 3022, 3024]
    assert steps(bass.audio("Track00001", 10, 3, sources=[1])) == [2010, 2011, 2012]
    assert steps(bass.audio("Track00001", 10, 3, sources=[])) == [0, 0, 0]
    assert bass.source_audio("Track00001", 10, 3).shape == (2, 3)
    assert bass.audio("Track00001", 10, 3).dtype == np.float32


def test_outside_the_track_there_is_silence(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    assert steps(bass.audio("Track00003", 78, 4)) == [3078, 3079, 0, 0]
    assert steps(bass.audio("Track00003", -2, 4)) == [0, 0, 3000, 3001]
    assert steps(bass.audio("Track00003", -2, 84)) == [0, 0, *range(3000, 3080), 0, 0]
    assert steps(bass.audio("Track00003", 200, 2)) == steps(bass.audio("Track00003", -9, 2)) == [0, 0]


def test_a_track_without_the_stem_stays_and_is_silent(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    place = bass.track("Track00002")
    assert (place.samples, place.sources, place.shard) == (50, (), None)
    assert not bass.audio(place, 0, 50).any()
    assert bass.source_audio(place, 0, 50).shape == (0, 50)
    assert bass.notes(place) == []


def test_notes_belong_to_their_sources(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    assert bass.notes_by_source("Track00001") == [[E1], [G1, A1]]
    assert bass.notes("Track00001") == [G1, E1, A1]
    assert bass.notes_between("Track00001", 0.8, 2.0) == [[E1], []]
    assert load_notes(tmp_path / "bass/notes.npz") == {"Track00001": [E1, G1, A1], "Track00002": [], "Track00003": []}


def test_tracks_are_listed_by_split(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    assert [each.track for each in bass.tracks("test")] == ["Track00002", "Track00003"]
    assert len(bass.tracks()) == 3
    with pytest.raises(DataError, match="no track 'Track9'"):
        bass.track("Track9")


def test_a_new_file_begins_where_one_would_grow_too_large_and_no_track_is_split() -> None:
    placed, sizes = lay_out(BAND, shard_bytes=400)
    assert sizes == {"shard-00000.i16": 400, "shard-00001.i16": 160}
    assert [each.shard for each in placed] == ["shard-00000.i16", None, "shard-00001.i16"]
    assert [[each.offset_samples for each in place.sources] for place in placed] == [[0, 100], [], [0]]
    assert lay_out(BAND, shard_bytes=1)[1] == sizes  # larger than a file may be, but whole
    assert lay_out([], shard_bytes=1) == ([], {})


def test_bytes_are_the_same_for_any_number_of_workers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for n in range(3):
        soundfile.write(tmp_path / f"{n}.flac", rng.uniform(-0.5, 0.5, 44100), 44100, subtype="PCM_16")
    tracks = [track(n, 16000, source(n, recording=FileRecording(tmp_path / f"{n}.flac", 16000))) for n in range(3)]
    shards_in(tmp_path / "one", tracks, shard_bytes=70_000, workers=1)
    shards_in(tmp_path / "three", tracks, shard_bytes=70_000, workers=3)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == ["manifest.json", "notes.npz", "shard-00000.i16", "shard-00001.i16"]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_sixteen_bit_audio_at_the_right_rate_is_kept_exactly(tmp_path: Path) -> None:
    samples = np.random.default_rng(2).integers(-32768, 32768, 5000).astype(np.int16)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="PCM_16")
    assert_array_equal(to_int16(FileRecording(tmp_path / "a.wav", 16000).read(5000)), samples)


def test_resampling_keeps_a_tone_and_its_length(tmp_path: Path) -> None:
    time_ = np.arange(2 * 44100) / 44100
    soundfile.write(tmp_path / "a.flac", 0.5 * np.sin(2 * np.pi * 440 * time_), 44100, subtype="PCM_16")
    heard = FileRecording(tmp_path / "a.flac", 16000).read(32000)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(32000) / 16000)
    assert np.abs(heard - expected)[100:-100].max() < 2e-3


def test_beyond_full_scale_is_limited_not_wrapped() -> None:
    assert to_int16(np.array([2.0, -2.0, 1.0], np.float32)).tolist() == [32767, -32768, 32767]


def test_a_slightly_shorter_stem_is_padded_and_a_much_shorter_one_refused(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(16000, 0.5), 16000, subtype="PCM_16")
    recording = FileRecording(tmp_path / "a.wav", 16000)
    heard = recording.read(24000)
    assert (heard[:16000] == 0.5).all()
    assert not heard[16000:].any()
    with pytest.raises(DataError, match=r"a\.wav lasts 1\.00 s, but its track 1\.50 s"):
        recording.read(24001)


def damage(path: Path, kind: str) -> None:
    data = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif kind == "flipped":
        path.write_bytes(data[:-2000] + bytes(200) + data[-1800:])
    elif kind == "gone":
        path.unlink()
    elif kind == "not a number":
        soundfile.write(path.with_suffix(".wav"), np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
        path.with_suffix(".wav").rename(path)


@pytest.mark.parametrize("kind", ["truncated", "flipped", "gone", "not a number"])
def test_broken_audio_is_refused_by_name_and_leaves_the_old_shards_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(1).uniform(-0.5, 0.5, 16000), 16000, subtype="PCM_16")
    damage(path, kind)
    before = shards_in(tmp_path / "out/bass").manifest
    tracks = [*BAND, track(9, 16000, source(9, recording=FileRecording(path, 16000)))]
    with pytest.raises(DataError, match=r"a\.flac") as refusal:
        shards_in(tmp_path / "out/bass", tracks)
    assert "\n" not in str(refusal.value)
    assert [each.name for each in (tmp_path / "out").iterdir()] == ["bass"]
    assert ShardReader(tmp_path / "out/bass").manifest == before


def test_an_interruption_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        shards_in(tmp_path / "out/bass", [*BAND, track(9, 10, source(9, recording=Interrupted()))])
    assert list((tmp_path / "out").iterdir()) == []


def test_verification_finds_a_flipped_bit_a_missing_and_a_shorter_file(tmp_path: Path) -> None:
    shards_in(tmp_path / "bass")
    shard = tmp_path / "bass/shard-00000.i16"
    data = shard.read_bytes()
    assert verify_shards(tmp_path / "bass") == len(data) == 560
    shard.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(DataError, match=r"shard-00000\.i16 differs"):
        verify_shards(tmp_path / "bass")
    shard.write_bytes(data[:-2])
    with pytest.raises(DataError, match=r"has 558 bytes instead of 560"):
        ShardReader(tmp_path / "bass").audio("Track00001", 0, 1)
    shard.unlink()
    with pytest.raises(DataError, match=r"shard-00000\.i16 is missing"):
        verify_shards(tmp_path / "bass")
    with pytest.raises(DataError, match="cannot read"):
        ShardReader(tmp_path / "bass").audio("Track00001", 0, 1)


def test_a_missing_or_foreign_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no shards at"):
        ShardReader(tmp_path / "bass")
    shards_in(tmp_path / "bass")
    manifest = tmp_path / "bass/manifest.json"
    content = json.loads(manifest.read_text())
    for broken, complaint in [
        ("{", "cannot read"),
        ("[]", "format"),
        (json.dumps({**content, "format": "other"}), "format"),
        (json.dumps({key: value for key, value in content.items() if key != "channels"}), "lacks 'channels'"),
        (json.dumps({**content, "shards": [{"file": "x"}]}), "lacks 'bytes'"),
        (json.dumps({**content, "shards": [{}]}), "lacks 'file'"),
        (json.dumps({**content, "tracks": [{}]}), "lacks 'track'"),
    ]:
        manifest.write_text(broken)
        with pytest.raises(DataError, match=complaint):
            ShardReader(tmp_path / "bass")


def _crop(reader: ShardReader) -> list[int]:
    return steps(reader.audio("Track00003", 5, 2))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_reader_that_is_in_use_goes_to_other_processes(tmp_path: Path, method: str) -> None:
    bass = shards_in(tmp_path / "bass")
    assert _crop(bass) == [3005, 3006]
    assert bass.notes("Track00001")
    with get_context(method).Pool(1) as pool:
        assert pool.apply(_crop, (bass,)) == [3005, 3006]


def test_a_pickled_reader_carries_neither_audio_nor_notes(tmp_path: Path) -> None:
    bass = shards_in(tmp_path / "bass")
    fresh = len(pickle.dumps(bass))
    _crop(bass)
    bass.notes("Track00001")
    assert len(pickle.dumps(bass)) == fresh


def test_a_thousand_random_crops_take_less_than_a_second(tmp_path: Path) -> None:
    minute = 60 * 16000
    bass = shards_in(tmp_path / "bass", [track(n, minute, source(n % 30)) for n in range(8)], shard_bytes=3 * minute)
    rng = np.random.default_rng(0)
    places = [(f"Track{rng.integers(8):05d}", int(rng.integers(minute - 32767))) for _ in range(1000)]
    bass.audio("Track00000", 0, 1)
    started = time.process_time()
    for name, start in places:
        bass.audio(name, start, 32767)
    assert time.process_time() - started < 1.0  # of the processor, whatever else runs
