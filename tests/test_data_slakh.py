"""The layout of Slakh2100 and babyslakh: files count, flags do not, and what is broken is named."""

from pathlib import Path

import pytest
import yaml

from music import drum, note
from slakh_tree import Part, facts, write_track
from stemscribe.data.slakh import read_track
from stemscribe.errors import DataError

BAND = {
    "S00": Part(33, [note("E1", 0.5, 1.0)], plugin="scarbee_rickenbacker_bass.nkm"),
    "S01": Part(128, [drum("kick", 0.25)]),
    "S02": Part(103, audio=False, midi=False, plugin="None"),
}


@pytest.mark.parametrize(("suffix", "rate"), [(".flac", 44100), (".wav", 16000)], ids=["slakh2100", "babyslakh"])
def test_both_layouts_read_alike_whatever_their_flags_say(tmp_path: Path, suffix: str, rate: int) -> None:
    track = read_track(write_track(tmp_path / "Track00001", BAND, suffix=suffix, rate=rate))
    assert [(stem.name, stem.program, stem.is_drum) for stem in track.stems] == [
        ("S00", 33, False),
        ("S01", 128, True),
        ("S02", 103, False),
    ]
    assert track.stems[0].audio == track.folder / "stems" / f"S00{suffix}"
    assert track.stems[0].midi == track.folder / "MIDI" / "S00.mid"
    assert (track.stems[2].audio, track.stems[2].midi, track.stems[2].plugin) == (None, None, "")
    assert track.mix == track.folder / f"mix{suffix}"


def test_a_drum_kit_is_a_drum_kit_whatever_its_program_number(tmp_path: Path) -> None:
    folder = write_track(tmp_path / "Track00001", BAND)
    entry = {**facts(Part(0)), "is_drum": True}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"stems": {"S01": entry}}))
    assert read_track(folder).stems[0].program == 128


def test_files_that_the_metadata_does_not_know_are_named(tmp_path: Path) -> None:
    folder = write_track(tmp_path / "Track00001", BAND)
    (folder / "MIDI" / "S07.mid").touch()
    (folder / "MIDI" / "notes.txt").touch()
    assert read_track(folder).unlisted == ("S07",)


def entry(**changes: object) -> str:
    return yaml.safe_dump({"stems": {"S00": {**facts(Part(33)), **changes}}})


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        (None, "no metadata"),
        ("stems: {S00: [", "cannot read"),
        ("stems: \x00", "cannot read"),
        ("!!python/object/apply:os.getcwd []", "cannot read"),
        ("just a text", "lists no stems"),
        ("stems: {}", "lists no stems"),
        ("stems: {drums: {}}", "'drums' is no stem"),
        ("stems: {S00: 5}", "'S00' is no stem"),
        (entry(program_num=129), "S00 needs program_num"),
        (entry(program_num="33"), "S00 needs program_num"),
        (entry(program_num=True), "S00 needs program_num"),
        (entry(is_drum=None), "S00 needs program_num"),
    ],
)
def test_unreadable_metadata_is_refused_in_one_line_that_names_it(tmp_path: Path, metadata: str | None, complaint: str) -> None:
    folder = write_track(tmp_path / "Track00001", BAND)
    (folder / "metadata.yaml").unlink()
    if metadata is not None:
        (folder / "metadata.yaml").write_text(metadata)
    with pytest.raises(DataError, match=complaint) as refusal:
        read_track(folder)
    assert str(folder / "metadata.yaml") in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "restore it" in str(refusal.value)
