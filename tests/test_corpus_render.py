"""Rendering: what is heard is what is written, levelled as in Slakh2100, and the same bytes every time."""

import hashlib
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pyloudnorm
import pytest
import soundfile
import yaml

from band import DRUMS, Line, band, beat, midi, walk
from stemscribe.corpora.identity import identity
from stemscribe.corpora.inventory import read_inventory
from stemscribe.corpora.mixdown import integrated_loudness, mix_down
from stemscribe.corpora.planning import plan_tracks
from stemscribe.corpora.render import render
from stemscribe.corpora.revoice import revoice
from stemscribe.corpora.songs import Song, read_song
from stemscribe.corpora.soundfont import find_soundfont
from stemscribe.corpora.sources import SOURCES, SoundFont, WheelSource, read_source
from stemscribe.corpora.stem_midi import write_part
from stemscribe.corpora.tracks import PlannedTrack, build_corpus
from stemscribe.data.slakh import read_track
from stemscribe.errors import DataError
from stemscribe.midi import read_midi

RATE = 16000
SOURCE = read_source("demo", Path(__file__).parents[1] / SOURCES)
assert isinstance(SOURCE, WheelSource)
FONT = find_soundfont(SOURCE.soundfont)
SECONDS = 8.0


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small songs of three splits, one of them sung, rendered by one process."""
    folder = tmp_path_factory.mktemp("corpus") / "tiny"
    build_corpus(folder, "tiny", planned(), FONT, "CC0", workers=1)
    return folder


def planned() -> list[PlannedTrack]:
    effect = Line(5, 97, walk(60, 16))
    song = read_song(
        midi(Line(0, 38, walk(40, 16)), Line(1, 81, walk(60, 16)), effect, Line(DRUMS, 0, beat(16))), "FX", "tests"
    )
    return [
        *plan_tracks({"test": [band(60)], "train": [band(61)]}, SECONDS, 1.0, seed=1),
        PlannedTrack("Track00003", "validation", song, identity(song), SECONDS),
    ]


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pcm(path: Path) -> np.ndarray:
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    return samples


def test_two_workers_write_the_same_bytes_as_one(corpus: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path / "tiny", "tiny", planned(), FONT, "CC0", workers=2)
    assert contents(tmp_path / "tiny") == contents(corpus)


def test_each_part_may_have_a_soundfont_of_its_own(corpus: Path, tmp_path: Path) -> None:
    """The same soundfont under two names: the sound stays, and the metadata tells who plays what."""
    fonts = [tmp_path / name for name in ("one.sf2", "other.sf2")]
    for path in fonts:
        path.symlink_to(FONT)
    plain = planned()[0]
    several = replace(plain, soundfonts=tuple(fonts[index % 2] for index in range(len(plain.song.parts))))
    build_corpus(tmp_path / "tiny", "tiny", [several], FONT, "CC0", workers=1)
    old, new = (yaml.safe_load((root / "test/Track00001/metadata.yaml").read_text()) for root in (corpus, tmp_path / "tiny"))
    assert new["source"]["soundfont"] == "one.sf2, other.sf2"
    names = [stem["plugin_name"].split(":")[0] for stem in new["stems"].values()]
    assert names == ["one.sf2", "other.sf2", "one.sf2", "other.sf2", "one.sf2"]
    assert {name: stem["plugin_name"].split(":")[1] for name, stem in new["stems"].items()} == {
        name: stem["plugin_name"].split(":")[1] for name, stem in old["stems"].items()
    }
    for path in (corpus / "test/Track00001/stems").iterdir():
        assert path.read_bytes() == (tmp_path / "tiny/test/Track00001/stems" / path.name).read_bytes()


def test_the_layout_is_that_of_slakh2100_redux(corpus: Path) -> None:
    inventory = read_inventory(corpus)
    assert [(track.track, track.split, track.folder) for track in inventory.tracks] == [
        ("Track00001", "test", "test/Track00001"),
        ("Track00002", "train", "train/Track00002"),
        ("Track00003", "validation", "validation/Track00003"),
    ]
    track = read_track(inventory.root / "validation/Track00003")
    assert [(stem.program, stem.audio is not None, stem.midi is not None) for stem in track.stems] == [
        (38, True, True),
        (81, True, True),
        (97, False, False),  # an effect: named in the metadata, not rendered
        (128, True, True),
    ]
    assert track.mix is not None
    assert track.unlisted == ()
    assert (track.folder / "all_src.mid").read_bytes() == planned()[2].song.midi
    assert inventory.tracks[2].bytes == sum(path.stat().st_size for path in track.folder.rglob("*") if path.is_file())


def test_the_metadata_has_the_keys_of_slakh2100_and_names_the_song(corpus: Path) -> None:
    metadata = yaml.safe_load((corpus / "validation/Track00003/metadata.yaml").read_text(encoding="utf-8"))
    slakh = {"UUID", "audio_dir", "lmd_midi_dir", "midi_dir", "normalization_factor", "normalized", "overall_gain", "stems"}
    assert set(metadata) == slakh | {"target_peak", "source"}
    assert (metadata["normalization_factor"], metadata["target_peak"]) == (-13.0, -1.0)
    assert metadata["source"]["licence"] == "CC0"
    assert (metadata["source"]["name"], metadata["source"]["title"]) == ("FX", "A Song")
    assert set(metadata["stems"]["S00"]) == {
        *("audio_rendered", "inst_class", "integrated_loudness", "is_drum"),
        *("midi_program_name", "midi_saved", "plugin_name", "program_num"),
    }
    assert metadata["stems"]["S02"] == {
        **{"audio_rendered": False, "inst_class": "Sound Effects", "is_drum": False, "midi_saved": False},
        **{"midi_program_name": "FX 2 (soundtrack)", "plugin_name": "None", "program_num": 97},
    }
    assert metadata["stems"]["S03"]["inst_class"] == metadata["stems"]["S03"]["midi_program_name"] == "Drums"


def test_a_revoiced_stem_says_so(corpus: Path) -> None:
    metadata = yaml.safe_load((corpus / "test/Track00001/metadata.yaml").read_text(encoding="utf-8"))
    (sung,) = [stem for stem in metadata["stems"].values() if "revoiced_from" in stem]
    assert sung["program_num"] in (52, 53, 54)
    assert sung["revoiced_from"] in (48, 81)
    assert "re-voiced from" in sung["plugin_name"]
    assert sung["inst_class"] == "Strings (continued)"


def test_stems_add_up_to_the_mix_which_peaks_at_minus_one_decibel(corpus: Path) -> None:
    for folder in corpus.glob("*/Track*"):
        mix = pcm(folder / "mix.flac").astype(int)
        stems = [pcm(path).astype(int) for path in (folder / "stems").iterdir()]
        np.testing.assert_array_equal(sum(stems), mix)
        assert 20 * np.log10(np.abs(mix).max() / 32767) == pytest.approx(-1, abs=0.01)
        assert len(mix) == SECONDS * RATE


def test_every_stem_is_equally_loud(corpus: Path) -> None:
    folder = corpus / "train/Track00002"
    gain = yaml.safe_load((folder / "metadata.yaml").read_text(encoding="utf-8"))["overall_gain"]
    for path in (folder / "stems").iterdir():
        loudness = pyloudnorm.Meter(RATE).integrated_loudness(pcm(path) / 32767)
        assert loudness == pytest.approx(-13 + 20 * np.log10(gain), abs=0.1)


def test_every_onset_is_heard_when_it_is_written(corpus: Path) -> None:
    """Onsets that come out of silence: the sound begins within 25 ms of the note (a hammer needs a little), never before it."""
    heard = 0
    for folder in corpus.glob("*/Track*"):
        for stem in read_track(folder).stems:
            if stem.audio is None or stem.midi is None:
                continue
            notes = read_midi(stem.midi, program=stem.program, is_drum=stem.is_drum)
            sound = np.abs(pcm(stem.audio).astype(float))
            assert len(notes) >= 8
            first = round(notes[0].onset * RATE)
            assert sound[: max(first - 16, 0)].max(initial=0) == 0
            begin = int(np.argmax(sound > 0.05 * sound[first : first + RATE // 4].max())) / RATE
            assert begin - notes[0].onset == pytest.approx(0.0125, abs=0.0135), stem
            heard += 1
    assert heard == 13


def test_each_note_sounds_at_its_own_pitch(tmp_path: Path) -> None:
    song = read_song(midi(Line(0, 80, [(4 * n, 3, pitch) for n, pitch in enumerate((57, 69, 81))])), "S", "c")
    write_part(tmp_path / "S00.mid", song, song.parts[0])
    audio = render(tmp_path / "S00.mid", FONT, 6.0)
    for n, hertz in enumerate((220, 440, 880)):
        piece = audio[2 * n * RATE + 1600 : 2 * n * RATE + 1600 + RATE]
        spectrum = np.abs(np.fft.rfft(piece * np.hanning(RATE)))  # one bin a hertz
        low = spectrum[: hertz * 3 // 2]
        assert int(np.argmax(low)) == pytest.approx(hertz, rel=0.01)


def test_pitch_bends_are_heard_in_the_range_that_the_song_set(tmp_path: Path) -> None:
    octave = [(0, mido.Message("control_change", channel=0, control=c, value=v)) for c, v in ((101, 0), (100, 0), (6, 12))]
    bend = (4, mido.Message("pitchwheel", channel=0, pitch=8191))
    song = read_song(midi(Line(0, 80, [(0, 8, 57)], [*octave, bend])), "S", "c")
    write_part(tmp_path / "S00.mid", song, song.parts[0])
    audio = render(tmp_path / "S00.mid", FONT, 4.0)
    spectra = [np.abs(np.fft.rfft(audio[start : start + RATE] * np.hanning(RATE)))[:600] for start in (3200, 3200 + 2 * RATE)]
    assert int(np.argmax(spectra[0][:330])) == pytest.approx(220, rel=0.01)
    assert int(np.argmax(spectra[1])) == pytest.approx(440, rel=0.01)


def test_a_written_part_reads_back_as_it_was(tmp_path: Path) -> None:
    song = band(60)
    for part in song.parts:
        write_part(tmp_path / "S00.mid", song, part)
        notes = read_midi(tmp_path / "S00.mid")
        written = sorted((round(song.seconds_at(s.start), 6), s.pitch) for s in part.strokes)
        assert sorted((round(note.onset, 6), note.pitch) for note in notes) == written
        assert {note.program for note in notes} == {part.program}


def test_loudness_of_a_full_scale_sine_is_that_of_the_standard() -> None:
    """BS.1770: a 997 Hz sine at full scale in one channel measures -3.01 LUFS; half the amplitude, 6.02 less."""
    sine = np.sin(2 * np.pi * 997 * np.arange(4 * RATE) / RATE)
    assert integrated_loudness(sine) == pytest.approx(-3.01, abs=0.1)
    assert integrated_loudness(sine / 2) == pytest.approx(integrated_loudness(sine) - 6.0206, abs=1e-3)


def test_a_single_soft_short_note_has_a_loudness_too() -> None:
    blip = np.zeros(60 * RATE)
    blip[RATE : RATE + 800] = 1e-4 * np.sin(np.arange(800) / 3)
    assert -110 < integrated_loudness(blip) < -60
    assert np.isfinite(integrated_loudness(blip[RATE : RATE + 800]))
    assert integrated_loudness(np.zeros(RATE)) == float("-inf")


def test_a_silent_stem_is_left_out_of_the_mix() -> None:
    sine = np.sin(np.arange(2 * RATE) / 10)
    mixdown = mix_down({"S00": sine, "S01": np.zeros(2 * RATE)})
    assert list(mixdown.stems) == ["S00"]
    np.testing.assert_array_equal(mixdown.mix, mixdown.stems["S00"])


def test_stems_that_cancel_in_the_mix_are_not_clipped() -> None:
    sine = np.sin(np.arange(2 * RATE) / 10)
    mixdown = mix_down({"S00": sine, "S01": -0.999 * sine, "S02": np.roll(sine, 7) * 1e-3})
    assert max(int(np.abs(stem.astype(int)).max()) for stem in mixdown.stems.values()) <= 32767
    assert int(np.abs(sum(stem.astype(int) for stem in mixdown.stems.values()) - mixdown.mix).max()) == 0


def test_nothing_half_rendered_is_left_when_a_song_fails(tmp_path: Path) -> None:
    mute: Song = replace(band(60), parts=(replace(band(60).parts[0], program=97),))
    tracks = [*planned()[:1], PlannedTrack("Track00002", "train", mute, "0", SECONDS)]
    with pytest.raises(DataError, match="makes no sound") as caught:
        build_corpus(tmp_path / "tiny", "tiny", tracks, FONT, "CC0", workers=1)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"RIFFxxxxsfbk", b"no soundfont"])
def test_a_broken_soundfont_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.sf2").write_bytes(content)
    write_part(tmp_path / "S00.mid", band(60), band(60).parts[0])
    with pytest.raises(DataError, match=r"bad\.sf2") as caught:
        render(tmp_path / "S00.mid", tmp_path / "bad.sf2", 1.0)
    assert "\n" not in str(caught.value)


def test_the_soundfont_must_be_the_one_described() -> None:
    with pytest.raises(DataError, match="sha256 differs"):
        find_soundfont(SoundFont("pretty_midi", "TimGM6mb.sf2", "0" * 64))
    with pytest.raises(DataError, match=r"no Other\.sf2 in the package"):
        find_soundfont(SoundFont("pretty_midi", "Other.sf2", "0" * 64))
    with pytest.raises(DataError, match="install the versions"):
        find_soundfont(SoundFont("no_such_package", "Other.sf2", "0" * 64))


def test_revoicing_changes_the_sound_of_one_stem_only(tmp_path: Path) -> None:
    song = band(60)
    plain = PlannedTrack("Track00001", "test", song, "0", SECONDS)
    sung = replace(plain, song=revoice(song, identity(song), seed=1))
    for name, track in (("plain", plain), ("sung", sung)):
        build_corpus(tmp_path / name, name, [track], FONT, "CC0", workers=1)
    midis = [contents(tmp_path / name / "test/Track00001/MIDI") for name in ("plain", "sung")]
    assert sum(midis[0][stem] != midis[1][stem] for stem in midis[0]) == 1
