"""The index: notes that really sound, errata applied, everything odd in the audit."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from music import drum, note
from slakh_tree import Part, write_raw_corpus, write_score
from stemscribe.corpora.inventory import read_inventory
from stemscribe.corpora.sources import Errata, ExcludedStem, OctaveRule
from stemscribe.data import duplicates
from stemscribe.data.index import Index, load_index, save_index
from stemscribe.data.survey import survey
from stemscribe.errors import DataError
from stemscribe.notes import Note, notes_to_columns

NO_ERRATA = Errata((), ())
SLAP = "scarbee_jay_bass_slap_both.nkm"
BASS_OCTAVE = Errata((OctaveRule((32, 33), -12, (SLAP,), "Slakh"),), ())
RIFF = [note("E2", 0.25, 0.5), note("G2", 0.75, 1.25)]


def index_of(
    folder: Path, songs: Mapping[str, Mapping[str, Part]], errata: Errata = NO_ERRATA, workers: int = 1
) -> tuple[Index, dict[str, Any]]:
    write_raw_corpus(folder, "band", songs)
    return survey(read_inventory(folder / "data/raw/band"), errata, workers)


def sounding(notes: list[Note]) -> list[tuple[float, float, int]]:
    return [(round(each.onset, 2), round(each.offset, 2), each.pitch) for each in notes]


def test_the_truth_is_the_stems_own_midi(tmp_path: Path) -> None:
    index, audit = index_of(tmp_path, {"train/Track00001": {"S00": Part(33, RIFF), "S01": Part(128, [drum("kick", 1)])}})
    assert sounding(index.notes("Track00001", "S00")) == [(0.25, 0.5, 40), (0.75, 1.25, 43)]
    assert {each.program for each in index.notes("Track00001", "S00")} == {33}
    assert [(each.onset, each.pitch, each.is_drum) for each in index.notes("Track00001", "S01")] == [(1.0, 36, True)]
    assert index.tracks[0].seconds == 2.0
    assert audit["notes"] == 3


def test_bass_sounds_an_octave_below_what_is_written_except_with_the_slap_plugin(tmp_path: Path) -> None:
    parts = {"S00": Part(33, RIFF), "S01": Part(33, RIFF, plugin=SLAP), "S02": Part(26, RIFF)}
    index, audit = index_of(tmp_path, {"train/Track00001": parts}, BASS_OCTAVE)
    assert [each.pitch for each in index.notes("Track00001", "S00")] == [28, 31]
    assert [each.pitch for each in index.notes("Track00001", "S01")] == [40, 43]
    assert [each.pitch for each in index.notes("Track00001", "S02")] == [40, 43]
    assert audit["octave_corrected_stems"] == ["Track00001/S00"]


def test_notes_that_a_correction_moves_out_of_midi_are_dropped_and_counted(tmp_path: Path) -> None:
    parts = {"S00": Part(33, [note("C0", 0.1, 0.5), replace(RIFF[0], pitch=5)])}
    index, audit = index_of(tmp_path, {"train/Track00001": parts}, BASS_OCTAVE)
    assert [each.pitch for each in index.notes("Track00001", "S00")] == [0]
    assert audit["notes_outside_midi_pitches_dropped"] == 1


def test_notes_end_with_their_audio(tmp_path: Path) -> None:
    part = Part(0, [note("C4", 1.5, 2.5), note("E4", 2.5, 3.0)])  # the audio lasts 2 s
    index, audit = index_of(tmp_path, {"train/Track00001": {"S00": part}})
    assert sounding(index.notes("Track00001", "S00")) == [(1.5, 2.0, 60)]
    assert audit["notes_after_the_audio_dropped"] == 1
    assert audit["notes_cut_at_the_end_of_the_audio"] == 1


def test_what_is_incomplete_is_recorded_and_not_used(tmp_path: Path) -> None:
    parts = {
        "S00": Part(33, RIFF, audio=False),
        "S01": Part(0, RIFF, midi=False),
        "S02": Part(0, []),
        "S03": Part(0, RIFF),
        "S04": Part(99, audio=False, midi=False),
    }
    errata = Errata((), (ExcludedStem("Track00001", "S03", "constant tone", "a list"),))
    index, audit = index_of(tmp_path, {"test/Track00001": parts}, errata)
    assert audit["midi_without_audio"] == ["Track00001/S00"]
    assert audit["audio_without_midi"] == ["Track00001/S01"]
    assert audit["stems_without_notes"] == ["Track00001/S02"]
    assert audit["excluded_stems"] == [{"stem": "Track00001/S03", "reason": "constant tone"}]
    assert [stem.stem for stem in index.stems] == ["S00", "S01", "S02", "S03"]
    assert [stem.stem for stem in index.stems_of("Track00001")] == ["S02"]  # silent by its label, and kept
    assert index.notes("Track00001", "S02") == []
    with pytest.raises(DataError, match="no notes of Track00001/S03"):
        index.notes("Track00001", "S03")


def test_a_track_without_bass_is_no_failure(tmp_path: Path) -> None:
    index, _ = index_of(tmp_path, {"test/Track00001": {"S00": Part(0, RIFF)}})
    assert index.stems_of("Track00001", range(32, 40)) == []


def test_a_missing_mix_is_recorded(tmp_path: Path) -> None:
    raw = write_raw_corpus(tmp_path, "band", {"test/Track00001": {"S00": Part(0, RIFF)}})
    (raw / "test/Track00001/mix.flac").unlink()
    _, audit = survey(read_inventory(raw), NO_ERRATA, workers=1)
    assert audit["tracks_without_mix"] == ["Track00001"]


def test_the_index_on_disk_is_the_index_in_memory_and_does_not_depend_on_workers(tmp_path: Path) -> None:
    songs = {
        "train/Track00002": {"S00": Part(33, RIFF), "S10": Part(128, [drum("snare", 0.5)])},
        "train/Track00001": {"S00": Part(0, []), "S01": Part(52, RIFF, audio=False, plugin='a "quoted", name\nhere')},
        "test/Track00003": {"S00": Part(64, [note("C4", 1.5, 2.5)])},
    }
    index, audit = index_of(tmp_path, songs, BASS_OCTAVE)
    again, audit_again = survey(read_inventory(tmp_path / "data/raw/band"), BASS_OCTAVE, workers=2)
    save_index(tmp_path / "one", index, audit)
    save_index(tmp_path / "two", again, audit_again)
    for name in ("tracks.csv", "stems.csv", "notes.npz", "audit.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    loaded = load_index(tmp_path / "one")
    assert loaded.tracks == index.tracks
    assert loaded.stems == index.stems
    assert [track.track for track in loaded.tracks] == ["Track00001", "Track00002", "Track00003"]
    for stem in index.stems:
        if stem.usable:
            assert loaded.notes(stem.track, stem.stem) == index.notes(stem.track, stem.stem)
    assert json.loads((tmp_path / "one/audit.json").read_text())["tracks"] == {"train": 2, "validation": 0, "test": 1}


@pytest.mark.parametrize("damage", ["track,split\n", "", "track,split,seconds,folder\nTrack1,test,long,x\n"])
def test_a_damaged_index_is_refused(tmp_path: Path, damage: str) -> None:
    index, audit = index_of(tmp_path, {"test/Track00001": {"S00": Part(0, RIFF)}})
    save_index(tmp_path / "index", index, audit)
    (tmp_path / "index/tracks.csv").write_text(damage)
    with pytest.raises(DataError, match=r"tracks\.csv"):
        load_index(tmp_path / "index")


def test_broken_midi_names_the_file_from_a_worker_too(tmp_path: Path) -> None:
    songs = {f"train/Track0000{n}": {"S00": Part(0, RIFF)} for n in (1, 2)}
    raw = write_raw_corpus(tmp_path, "band", songs)
    broken = raw / "train/Track00002/MIDI/S00.mid"
    broken.write_bytes(broken.read_bytes()[:30])
    with pytest.raises(DataError, match=r"Track00002.*S00\.mid"):
        survey(read_inventory(raw), NO_ERRATA, workers=2)


def columns(*notes: Note) -> dict[str, np.ndarray]:
    return notes_to_columns(notes)


def test_the_same_song_is_found_transposed_delayed_and_on_other_instruments() -> None:
    song = [columns(*RIFF), columns(drum("kick", 0.5))]
    moved = [replace(each, onset=each.onset + 3, offset=9, pitch=each.pitch + 5, program=24) for each in RIFF]
    assert duplicates.fingerprint([columns(drum("kick", 3.5)), columns(*moved)]) == duplicates.fingerprint(song)


@pytest.mark.parametrize(
    "other",
    [
        [columns(RIFF[0]), columns(drum("kick", 0.5))],
        [columns(RIFF[0], replace(RIFF[1], pitch=44)), columns(drum("kick", 0.5))],
        [columns(RIFF[0], replace(RIFF[1], onset=0.8)), columns(drum("kick", 0.5))],
        [columns(*RIFF), columns(drum("snare", 0.5))],
    ],
    ids=["a note less", "another pitch", "another onset", "another drum"],
)
def test_another_song_is_another_song(other: list[dict[str, np.ndarray]]) -> None:
    assert duplicates.fingerprint(other) != duplicates.fingerprint([columns(*RIFF), columns(drum("kick", 0.5))])


def test_silence_is_no_duplicate_of_silence() -> None:
    assert duplicates.fingerprint([]) == duplicates.fingerprint([columns()]) == ""
    assert duplicates.groups({"a": "", "b": ""}) == []


def test_duplicates_within_and_across_splits_are_told_apart(tmp_path: Path) -> None:
    other = [note("A3", 0.5, 1.0)]
    songs = {
        "train/Track00001": {"S00": Part(0, RIFF)},
        "train/Track00002": {"S00": Part(0, other)},
        "train/Track00003": {"S00": Part(24, [replace(each, pitch=each.pitch - 3) for each in RIFF])},
        "test/Track00004": {"S00": Part(73, other)},
        "validation/Track00005": {"S00": Part(0, [])},
        "test/Track00006": {"S00": Part(0, [])},
    }
    _, audit = index_of(tmp_path, songs)
    assert audit["duplicate_tracks_within_a_split"] == [["Track00001", "Track00003"]]
    assert audit["duplicate_tracks_across_splits"] == [["Track00002", "Track00004"]]


def test_a_long_stem_shared_by_two_different_songs_is_reported(tmp_path: Path) -> None:
    groove = [drum("kick" if step % 3 else "snare", step * 0.025) for step in range(duplicates.ENOUGH_NOTES)]
    songs = {
        "train/Track00001": {"S00": Part(0, RIFF), "S01": Part(128, groove)},
        "test/Track00002": {"S00": Part(128, groove), "S01": Part(0, [note("A3", 0.5, 1.0)])},
    }
    _, audit = index_of(tmp_path, songs)
    assert audit["duplicate_tracks_across_splits"] == []
    assert audit["duplicate_stems_across_splits"] == [["Track00001/S01", "Track00002/S00"]]


def test_a_name_stands_for_one_track(tmp_path: Path) -> None:
    songs = {f"{split}/Track00001": {"S00": Part(33, RIFF)} for split in ("train", "test")}
    with pytest.raises(DataError, match=r"two tracks are called Track00001 \(.*train.* and .*test.*\); rename one"):
        index_of(tmp_path, songs)


def test_all_src_mid_is_never_read(tmp_path: Path) -> None:
    raw = write_raw_corpus(tmp_path, "band", {"test/Track00001": {"S00": Part(0, RIFF)}})
    (raw / "test/Track00001/all_src.mid").write_bytes(b"broken")
    index, _ = survey(read_inventory(raw), NO_ERRATA, workers=1)
    write_score(raw / "test/Track00001/all_src.mid", [note("C7", 0, 1)])
    assert survey(read_inventory(raw), NO_ERRATA, workers=1)[0].stems == index.stems
