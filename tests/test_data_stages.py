"""The stages index, prepare and separate on a small band, run as DVC runs them: from the project folder."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from music import drum, note
from slakh_tree import Part, write_raw_corpus
from stemscribe.data.index import load_index
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, StemscribeError, UsageError
from stemscribe.stages import STEMS, run_stage
from stemscribe.stages import base as base_stage
from stemscribe.stages import index as index_stage
from stemscribe.stages import prepare as prepare_stage
from stemscribe.stages import separate as separate_stage

REPOSITORY = Path(__file__).parents[1]
BASS = [note("E2", 0.25, 0.5), note("G2", 0.75, 1.25)]
DRUMS = [drum("kick", 0.25), drum("snare", 0.75)]
VOICE = [note("C5", 0.5, 1.5)]
SONGS = {
    "train/Track00001": {"S00": Part(33, BASS), "S01": Part(128, DRUMS)},
    "validation/Track00002": {"S00": Part(34, BASS[:1]), "S01": Part(128, DRUMS[:1])},
    "test/Track00003": {"S00": Part(33, BASS[1:]), "S01": Part(38, BASS), "S02": Part(128, DRUMS[1:]), "S03": Part(52, VOICE)},
    "test/Track00004": {"S00": Part(0, VOICE)},
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with params, corpus descriptions and the band as its demo corpus."""
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    shutil.copytree(REPOSITORY / "data/sources", tmp_path / "data/sources")
    write_raw_corpus(tmp_path, "demo", SONGS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEMSCRIBE_WORKERS", "1")
    return tmp_path


def change(project: Path, section: str, **settings: object) -> None:
    path = project / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section].update(settings)
    path.write_text(yaml.safe_dump(params))


def prepare_all() -> None:
    index_stage.main([])
    for stem in ("mix", *STEMS):
        prepare_stage.main([stem])


def test_prepare_lays_out_each_stem_with_its_notes(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_all()
    bass = ShardReader("data/shards/bass")
    assert [(each.track, each.split, each.samples) for each in bass.tracks()] == [
        ("Track00001", "train", 32000),
        ("Track00002", "validation", 32000),
        ("Track00003", "test", 32000),
        ("Track00004", "test", 32000),
    ]
    assert bass.manifest["channels"] == [4]
    assert bass.manifest["programs"] == list(range(32, 40))
    assert [each.program for each in bass.track("Track00003").sources] == [33, 38]
    assert [each.pitch for each in bass.notes("Track00001")] == [40, 43]  # the demo has no octave rule
    assert {each.program for each in ShardReader("data/shards/drums").notes("Track00001")} == {128}
    assert [each.pitch for each in ShardReader("data/shards/vocals").notes("Track00003")] == [72]
    assert ShardReader("data/shards/vocals").manifest["channels"] == [5, 9, 10, 11]
    assert bass.track("Track00004").sources == ()
    assert "bass: 4 sources in 4 tracks, 1 tracks without it" in capsys.readouterr().out


def test_a_note_is_heard_where_it_is_written(project: Path) -> None:
    prepare_all()
    bass = ShardReader("data/shards/bass")
    (first, second) = bass.notes("Track00001")
    loud = np.abs(bass.audio("Track00001", 0, 32000)) > 0.02
    heard = np.flatnonzero(loud) / 16000
    assert heard.min() == pytest.approx(first.onset, abs=0.005)
    assert heard.max() == pytest.approx(second.offset, abs=0.005)
    assert not loud[int((first.offset + 0.01) * 16000) : int((second.onset - 0.01) * 16000)].any()


def test_the_mix_has_all_tracks_and_all_notes_and_is_the_sum_of_the_stems(project: Path) -> None:
    prepare_all()
    mix = ShardReader("data/shards/mix")
    assert [each.track for each in mix.tracks()] == [each.track for each in ShardReader("data/shards/bass").tracks()]
    assert [each.stem for each in mix.track("Track00003").sources] == ["mix"]
    stems = [ShardReader(Path("data/shards") / stem) for stem in STEMS]
    together = sum(each.audio("Track00003", 0, 32000) for each in stems)
    assert np.abs(together - mix.audio("Track00003", 0, 32000)).max() < 1e-3
    assert sorted(each.pitch for each in mix.notes("Track00003")) == sorted(
        each.pitch for stem in stems for each in stem.notes("Track00003")
    )


def test_any_stem_of_params_can_be_prepared(project: Path) -> None:
    """The pretraining pipeline has one stem called all."""
    params = yaml.safe_load((project / "params.yaml").read_text())
    params["stems"]["all"] = {**params["stems"]["bass"], "programs": list(range(129))}
    (project / "params.yaml").write_text(yaml.safe_dump(params))
    index_stage.main([])
    prepare_stage.main(["all"])
    everything = ShardReader("data/shards/all")
    assert everything.manifest["channels"] == list(range(13))
    assert len(everything.track("Track00003").sources) == 4


def rms(audio: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(audio))))


def test_the_oracle_hands_over_the_true_stem(project: Path) -> None:
    change(project, "separate", method="oracle")
    prepare_all()
    separate_stage.main([])
    true, separated = ShardReader("data/shards/bass"), ShardReader("data/separated/bass")
    assert separated.manifest["method"] == "oracle (the true stem)"
    assert [each.track for each in separated.tracks()] == ["Track00003", "Track00004"]
    assert (separated.audio("Track00003", 0, 32000) == true.audio("Track00003", 0, 32000)).all()
    assert not separated.audio("Track00004", 0, 32000).any()
    assert separated.notes("Track00003") == true.notes("Track00003")


@pytest.mark.parametrize("bleed_db", [-6.0, -20.0])
def test_simulated_bleed_lets_the_rest_of_the_band_through_at_its_level(project: Path, bleed_db: float) -> None:
    change(project, "separate", method="bleed", bleed_db=bleed_db)
    prepare_all()
    separate_stage.main([])
    mix = ShardReader("data/shards/mix")
    for stem in STEMS:
        separated, true = ShardReader(Path("data/separated") / stem), ShardReader(Path("data/shards") / stem)
        assert separated.manifest["method"] == f"simulated bleed ({bleed_db:g} dB)"
        for track in separated.tracks():
            heard, wanted, band = (each.audio(track, 0, track.samples) for each in (separated, true, mix))
            leaked, rest = rms(heard - wanted), rms(band - wanted)
            if rest > 1e-3:
                assert 20 * np.log10(leaked / rest) == pytest.approx(bleed_db, abs=0.1)
    assert rms(ShardReader("data/separated/bass").audio("Track00004", 0, 32000)) > 1e-3  # heard, although nobody plays


def test_separate_needs_the_shards(project: Path) -> None:
    index_stage.main([])
    prepare_stage.main(["mix"])
    with pytest.raises(DataError, match="no shards at data/shards/bass"):
        separate_stage.main([])
    assert not list(Path("data").glob("*separated*"))


def test_the_demo_refuses_a_song_in_two_splits_and_a_published_corpus_reports_it(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = [replace(each, pitch=each.pitch + 2) for each in BASS]
    leak = {"train/Track00001": {"S00": Part(33, BASS)}, "test/Track00002": {"S00": Part(24, copied)}}
    for name in ("demo", "slakh2100"):
        shutil.rmtree(project / "data/raw", ignore_errors=True)
        write_raw_corpus(project, name, leak)
        change(project, "corpus", name=name)
        if name == "demo":
            with pytest.raises(DataError, match="Track00001 and Track00002 are the same song in different splits"):
                index_stage.main([])
            assert not Path("data/index").exists()
        else:
            index_stage.main([])
            assert "duplicate tracks across splits: 1 (Track00001 = Track00002)" in capsys.readouterr().out


def test_slakh_basses_come_down_an_octave_on_the_way(project: Path) -> None:
    write_raw_corpus(project, "slakh2100", SONGS)
    change(project, "corpus", name="slakh2100")
    index_stage.main([])
    prepare_stage.main(["bass"])
    assert [each.pitch for each in ShardReader("data/shards/bass").notes("Track00001")] == [28, 31]


def files_made() -> list[Path]:
    return sorted(path for path in Path("data").rglob("*") if path.is_file() and "raw" not in path.parts)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


Breakage = tuple[str, Callable[[Path], None], Callable[[Sequence[str]], None], list[str], str]
BREAKAGES: dict[str, Breakage] = {
    "truncated FLAC": ("train/Track00001/stems/S00.flac", cut, prepare_stage.main, ["bass"], "S00.flac"),
    "truncated mix": ("test/Track00003/mix.flac", cut, prepare_stage.main, ["mix"], "mix.flac"),
    "missing mix": ("test/Track00003/mix.flac", Path.unlink, prepare_stage.main, ["mix"], "no mix.flac"),
    "missing stem": ("train/Track00001/stems/S00.flac", Path.unlink, prepare_stage.main, ["bass"], "no S00.flac"),
    "broken MIDI": ("train/Track00001/MIDI/S00.mid", cut, index_stage.main, [], "S00.mid"),
    "unreadable metadata": ("train/Track00001/metadata.yaml", cut, index_stage.main, [], "metadata.yaml"),
    "missing track": ("train/Track00001", shutil.rmtree, index_stage.main, [], "Track00001"),
    "missing corpus": ("", shutil.rmtree, index_stage.main, [], "data/raw/demo"),
}


@pytest.mark.parametrize("kind", BREAKAGES)
def test_broken_input_is_one_line_exit_code_1_and_nothing_half_written(
    project: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    place, breaking, stage, argv, complaint = BREAKAGES[kind]
    if stage is prepare_stage.main:
        index_stage.main([])
    before = files_made()
    breaking(project / "data/raw/demo" / place)
    capfd.readouterr()
    assert run_stage(stage, argv) == 1
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("stemscribe: ")]
    assert len(said) == 1
    assert complaint in said[0]
    assert "; " in said[0]  # and then the way out
    assert files_made() == before


def test_a_stem_of_another_length_is_refused_by_name(project: Path) -> None:
    songs = {"train/Track00001": {"S00": Part(33, BASS, seconds=1.0)}}
    shutil.rmtree(project / "data/raw/demo")
    write_raw_corpus(project, "demo", songs)
    index_stage.main([])
    with pytest.raises(DataError, match=r"S00\.flac lasts 1\.00 s, but its track 2\.00 s"):
        prepare_stage.main(["bass"])


@pytest.mark.parametrize(
    ("stage", "argv"),
    [
        (prepare_stage.main, []),
        (prepare_stage.main, ["bass", "drums"]),
        (prepare_stage.main, ["bas"]),
        (index_stage.main, ["bass"]),
        (separate_stage.main, ["bass"]),
        (base_stage.main, ["full"]),
    ],
)
def test_wrong_use_is_exit_code_2(project: Path, stage: Callable[[Sequence[str]], None], argv: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        stage(argv)
    assert refusal.value.exit_code == 2


def test_the_next_run_goes_on_after_a_repair(project: Path) -> None:
    broken = project / "data/raw/demo/train/Track00001/stems/S00.flac"
    whole = broken.read_bytes()
    index_stage.main([])
    cut(broken)
    with pytest.raises(StemscribeError):
        prepare_stage.main(["bass"])
    broken.write_bytes(whole)
    prepare_stage.main(["bass"])
    assert len(ShardReader("data/shards/bass").tracks()) == 4


def test_the_index_names_every_stem_once(project: Path) -> None:
    index_stage.main([])
    index = load_index(Path("data/index"))
    assert [(each.track, each.stem) for each in index.stems if each.track == "Track00003"] == [
        ("Track00003", f"S0{number}") for number in range(4)
    ]
    audit = json.loads(Path("data/index/audit.json").read_text())
    assert audit["tracks"] == {"train": 1, "validation": 1, "test": 2}
