"""Peers hear what we hear and are scored as we are; whoever cannot take part is told why in one line."""

import csv
import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import compare
import environments
import numpy as np
import pytest
import recordings
import runner
import scores
import soundfile
import table

from band import band
from music import drum, note
from scored_project import PARAMS, SECONDS, TRACKS, tune, write_project
from slakh_tree import Part as SlakhPart
from slakh_tree import write_track
from stemscribe.atomic import sha256_file
from stemscribe.corpora.identity import identity
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import Note

REPOSITORY = Path(__file__).parents[1]

BASS = [note("E1", 0.5, 1.0), note("A1", 1.0, 2.0)]


def part(name: str, notes: dict[str, list[Note]], audio: Path = Path("audio"), seconds: float = 4.0) -> recordings.Part:
    tracks = tuple(recordings.Recorded(track, seconds, tuple(played)) for track, played in notes.items())
    return recordings.Part(name, (33,), audio, tracks)


def write_heard(folder: Path, notes: dict[str, list[Note]]) -> None:
    """What a runner leaves about these tracks."""
    sounds = folder / "audio"
    sounds.mkdir(parents=True)
    for track in notes:
        soundfile.write(sounds / f"{track}.wav", np.zeros(16), 16000)

    def transcribe(path: Path) -> Iterator[runner.HeardNote]:
        print("Predicting MIDI ...")
        for each in notes[path.stem]:
            yield each.onset, each.offset, each.pitch, each.velocity, each.program

    runner.run(transcribe, sounds, folder)


def test_notes_come_back_from_a_runner_as_they_were_heard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_heard(tmp_path, {"Track00001": BASS, "Track00002": []})
    heard = scores.read_heard(tmp_path, part("bass", {"Track00001": BASS, "Track00002": BASS}))
    assert heard.notes == {"Track00001": BASS, "Track00002": []}
    assert heard.wall > 0
    assert capsys.readouterr().out == ""


def test_peers_are_cleaned_as_we_are(tmp_path: Path) -> None:
    # the first E1 is struck again while it sounds, the A1 outlasts the recording
    write_heard(tmp_path, {"Track00001": [note("E1", 0.5, 1.5), note("E1", 1.0, 2.0), note("A1", 3.0, 9.0)]})
    heard = scores.read_heard(tmp_path, part("bass", {"Track00001": BASS}))
    assert heard.notes["Track00001"] == [note("E1", 0.5, 1.0), note("E1", 1.0, 2.0), note("A1", 3.0, 4.0)]


def test_a_track_that_was_not_transcribed_is_named(tmp_path: Path) -> None:
    write_heard(tmp_path, {"Track00001": BASS})
    with pytest.raises(DataError, match=r"lacks Track00002 \(1 of 2 tracks\)"):
        scores.read_heard(tmp_path, part("bass", {"Track00001": BASS, "Track00002": BASS}))


@pytest.mark.parametrize(
    "row",
    ["Track00001,0.5,1.0,high,90,0", "Track00001,nan,1.0,40,90,0", "Track00001,0.5,1.0,200,90,0", "Track00009,0,1,40,90,0"],
)
def test_a_broken_line_of_notes_is_named(tmp_path: Path, row: str) -> None:
    write_heard(tmp_path, {"Track00001": []})
    with (tmp_path / runner.NOTES).open("a") as stream:
        stream.write(f"{row}\n")
    with pytest.raises(DataError, match=r"notes\.csv, line 2: "):
        scores.read_heard(tmp_path, part("bass", {"Track00001": BASS}))


def test_of_a_mix_only_pitched_notes_count() -> None:
    mix = part("mix", {"Track00001": BASS})
    assert scores.scored(mix, {"Track00001": [*BASS, drum("kick", 0.5)]})["onset"] == (1.0,)


def test_a_unison_of_two_instruments_can_be_found_once_by_who_knows_no_instruments() -> None:
    unison = [note("E2", 0.5, 1.0, 33), note("E2", 0.5, 1.2, 29), note("E2", 1.5, 2.0, 33)]
    mix = part("mix", {"Track00001": unison})
    best = scores.heard_once(mix)
    assert best["Track00001"] == [unison[1], unison[2]]
    assert scores.scored(mix, best)["onset"] == (pytest.approx(4 / 5),)  # 2 of 3 found, none wrong


def contest(tmp_path: Path) -> table.Contest:
    """Three tracks of two notes: the specialist finds all of them, the peer the first."""
    bass = part("bass", {f"Track0000{k}": BASS for k in range(3)})
    drums = part("drums", {"Track00000": [drum("kick", 1.0)]})
    full, half = ({track.track: BASS[:count] for track in bass.tracks} for count in (2, 1))

    def result(of: recordings.Part, notes: dict[str, list[Note]]) -> scores.Result:
        return scores.Result(scores.scored(of, notes), scores.Heard(notes, wall=8.0, cpu=4.0))

    return table.Contest(
        "Peers",
        "make peers",
        "three songs",
        {"bass": bass, "drums": drums},
        {
            "Peer": {"bass": result(bass, half)},
            "specialist, tokens": {"bass": result(bass, full), "drums": result(drums, {"Track00000": [drum("kick", 1.0)]})},
        },
        [("specialist, tokens", "Peer")],
        "1 thread",
        {"base": "ab" * 32},
        100,
        1,
    )


def test_the_page_shows_scores_differences_and_speed(tmp_path: Path) -> None:
    text = table.page(contest(tmp_path))
    onset = text.split("## Onset F1")[1].split("##")[0]
    assert "| Peer | 0.667 \N{PLUS-MINUS SIGN} 0.000 | \N{EN DASH} | \N{EN DASH} |" in onset
    assert "| specialist, tokens | 1.000 \N{PLUS-MINUS SIGN} 0.000 | 1.000 \N{PLUS-MINUS SIGN} 1.000 |" in onset
    assert "| specialist, tokens minus Peer | **+0.333 (+0.333 to +0.333)** |" in text
    assert "| Peer | 4 (8) | \N{EN DASH} |" in text
    assert "Our base has the digest `abababababab...`" in " ".join(text.split())
    assert "Peer know no drums" in " ".join(text.split())
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= table.LINE


def test_the_figures_are_those_of_the_page(tmp_path: Path) -> None:
    figures = table.figures(contest(tmp_path))
    assert figures["tracks"] == {"bass": 3, "drums": 1}
    assert figures["f1"]["Peer"] == {
        "bass": {score: {"mean": pytest.approx(2 / 3, abs=1e-4), "half_width": 0} for score in ("onset", "onset_offset")}
    }
    third = pytest.approx(1 / 3, abs=1e-4)
    (pair,) = figures["differences"]
    assert (pair["one"], pair["minus"]) == ("specialist, tokens", "Peer")
    assert pair["bass"]["onset"] == {"mean": third, "low": third, "high": third}
    assert "drums" not in pair


def test_before_make_repro_the_way_out_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"^no model models/base: `make repro` trains it; run it first$"):
        compare.main(["--peers"])
    with pytest.raises(UsageError, match=r"^no data/shards/bass: .*`make repro`.*; run it first$"):
        recordings.record(recordings.SHARDS, tmp_path / "audio")


def test_without_a_frame_head_only_tokens_are_compared(tmp_path: Path) -> None:
    for name in ("base", "bass", "drums", "vocals", "other"):
        (tmp_path / name).mkdir()
        head = "null" if name == "other" else "{}"
        (tmp_path / name / "config.json").write_text(f'{{"model": {{"frame_head": {head}}}}}')
    assert compare.heads_of(tmp_path) == ("tokens",)


def test_a_wheel_that_cannot_be_had_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        failed = "pip" in command
        said = "WARNING: retrying\nERROR: No matching distribution found for harmonica-amt==0.3.0\n"
        return subprocess.CompletedProcess(command, int(failed), "", said if failed else "")

    monkeypatch.setattr(environments.subprocess, "run", offline)
    with pytest.raises(DataError) as error:
        environments.python_of(environments.PEERS["harmonica"], tmp_path)
    assert "\n" not in str(error.value)
    assert "No matching distribution found for harmonica-amt==0.3.0" in str(error.value)
    assert "--peers basic_pitch" in str(error.value)
    assert not (tmp_path / "harmonica" / environments.READY).exists()


def test_an_environment_is_made_anew_when_its_lock_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        made.append(command)
        (tmp_path / "basic_pitch").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments.subprocess, "run", run)
    peer = environments.PEERS["basic_pitch"]
    assert environments.python_of(peer, tmp_path) == tmp_path / "basic_pitch/bin/python"
    first = len(made)
    environments.python_of(peer, tmp_path)
    assert len(made) == first > 0
    (tmp_path / "basic_pitch" / environments.READY).write_text("another lock")
    environments.python_of(peer, tmp_path)
    assert len(made) == 2 * first


@pytest.mark.parametrize("name", sorted(environments.PEERS))
def test_locks_pin_every_package_and_the_wheel_of_the_peer(name: str) -> None:
    peer = environments.PEERS[name]
    pins = [line for line in peer.lock.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 and "://" not in line for line in pins)
    assert peer.wheel in pins
    assert peer.runner.is_file()


def test_everybody_hears_the_samples_of_the_shards_and_silent_tracks_are_left_out(tmp_path: Path) -> None:
    shards = write_project(tmp_path) / "data/shards"
    recorded = recordings.record(shards, tmp_path / "audio", ("bass", "vocals"))
    assert [track.track for track in recorded["vocals"].tracks] == list(TRACKS[:-1])
    assert list(recorded["bass"].tracks[0].notes) == tune("bass", 0)
    audio, rate = soundfile.read(tmp_path / "audio/bass" / f"{TRACKS[0]}.wav", dtype="float32")
    assert (len(audio), rate) == (SECONDS * 16000, 16000)
    assert abs(audio).max() == pytest.approx(0.1, abs=1e-4)


def test_any_tracks_of_slakhs_layout_can_be_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)  # params.yaml and data/sources
    monkeypatch.setenv("STEMSCRIBE_WORKERS", "1")
    hits = [drum("kick", 0.5), drum("snare", 1.0)]
    parts = {"S00": SlakhPart(33, BASS), "S01": SlakhPart(128, hits)}
    write_track(tmp_path / "in/some/Track00007", parts, seconds=4.0, rate=16000, suffix=".wav")
    shards = recordings.shards_of_tracks(tmp_path / "in", "demo", tmp_path / "shards")
    recorded = recordings.record(shards, tmp_path / "audio")
    assert {name: len(each.tracks) for name, each in recorded.items()} == {
        "bass": 1,
        "drums": 1,
        "vocals": 0,
        "other": 0,
        "mix": 1,
    }
    assert [each.pitch for each in recorded["mix"].tracks[0].notes] == [28, 33]  # without the drums
    with pytest.raises(UsageError, match=r"no track in .*empty"):
        recordings.shards_of_tracks(tmp_path / "empty", "demo", tmp_path / "shards")


def test_a_comparison_from_shards_to_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = write_project(tmp_path)
    (project / "data/shards/mix").symlink_to(project / "data/shards/other")  # whose notes are pitched as well
    monkeypatch.chdir(project)
    monkeypatch.setattr(compare, "heads_of", lambda models: ("tokens",))
    monkeypatch.setattr(compare, "model_digest", lambda folder: f"digest of {folder}")
    listener = tmp_path / "listener.py"
    listener.write_text(
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'peers')!r})\n"
        "import runner\n"
        "options = runner.arguments('hears one note').parse_args()\n"
        "runner.run(lambda path: [(0.5, 0.6, 36, 90, 0)], options.audio, options.out)\n"
    )
    turn = compare.Turn("base, tokens", "bass", (sys.executable, str(listener)))
    monkeypatch.setattr(compare, "our_turns", lambda models, heads, parts: [turn])
    compare.main(["--peers", "--output", "page.md"])
    # of 32 notes the first is found in the first track; the others begin 10 ms later each
    assert "| base, tokens | 0.061 " in (project / "page.md").read_text()
    figures = json.loads((project / "page.json").read_text())
    assert figures["models"] == {name: f"digest of models/{name}" for name in ("base", "bass", "drums", "vocals", "other")}
    assert figures["f1"]["base, tokens"]["bass"]["onset"]["mean"] == pytest.approx(0.061, abs=0.001)
    with (project / "work/peers/demo/notes/base-tokens/bass/notes.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == len(TRACKS)


@pytest.mark.parametrize("given", [[], ["--tracks", "songs"], ["--parts", "bass"], ["--peers"], ["--models", "elsewhere"]])
def test_only_a_whole_comparison_on_the_demo_is_the_one_in_the_readme(given: list[str]) -> None:
    options = compare._parser().parse_args(given)
    assert compare.is_complete(options, "demo") == (not given)
    assert not compare.is_complete(options, "slakh2100")


def test_a_runner_that_fails_says_why(tmp_path: Path) -> None:
    turn = compare.Turn("Peer", "bass", (sys.executable, "-c", "raise SystemExit('no such weights')"))
    with pytest.raises(DataError, match=r"^Peer failed on audio \(it said: no such weights\)"):
        compare.hear(turn, part("bass", {}), tmp_path)


@pytest.fixture(scope="module")
def out_of_domain() -> ModuleType:
    spec = importlib.util.spec_from_file_location("out_of_domain", REPOSITORY / "benchmarks/out_of_domain.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["out_of_domain"] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def test_out_of_domain_songs_are_none_that_training_heard(out_of_domain: ModuleType) -> None:
    new, heard, arranged = (band(lowest, name=name) for lowest, name in ((60, "NEW"), (61, "HEARD"), (62, "ARRANGED")))
    demo = [band(62, lead=56)]  # the same tune with a trumpet
    fit, left_out = out_of_domain.unheard([new, heard, arranged], {identity(heard)}, demo)
    assert [song.name for song in fit] == ["NEW"]
    assert left_out == ["ARRANGED", "HEARD"]


def test_files_of_a_package_are_those_described(out_of_domain: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "songs/music").mkdir(parents=True)
    for name in ("a.mid", "b.mid"):
        (tmp_path / "songs/music" / name).write_text(name)
    files = sorted((tmp_path / "songs/music").glob("*"))
    listed = subprocess.run(["sha256sum", "a.mid", "b.mid"], cwd=files[0].parent, capture_output=True, check=True).stdout
    (tmp_path / "list").write_bytes(listed)
    described = out_of_domain.Package("songs", "music/*.mid", sha256_file(tmp_path / "list"), "none")
    assert out_of_domain.fetch(described, tmp_path) == files
    files[1].write_text("another song")
    with pytest.raises(DataError, match=r"does not hold the music/\*\.mid described"):
        out_of_domain.fetch(described, tmp_path)
