"""The command line: answers, files, exit codes, and one line for whatever goes wrong."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import stemscribe
from music import drum, note
from shard_band import write_band
from stemscribe.audio import write_flac
from stemscribe.checkpoint import save_model
from stemscribe.cli import STAGES, STEM_STAGES, main
from stemscribe.midi import read_midi, write_midi
from stemscribe.model.initialisation import fresh_frame_head
from stemscribe.transcriber import Transcriber
from tiny_model import eager_model, small_model, tiny_model


@pytest.fixture(scope="module")
def bass_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bass specialist that has learned nothing, and hears notes everywhere."""
    folder = tmp_path_factory.mktemp("models") / "bass"
    save_model(folder, eager_model(), {}, list(range(32, 40)))
    return folder


@pytest.fixture
def song(tmp_path: Path) -> Path:
    path = tmp_path / "song.flac"
    write_flac(path, np.random.default_rng(0).uniform(-0.3, 0.3, 16000).astype(np.float32))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "--help")
    assert (code, err) == (0, "")
    assert {*STAGES, "transcribe", "score", "verify", "merge", "import-checkpoint"} <= set(out.split())


def test_help_of_a_stage_shows_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    for stage in STAGES:
        code, out, err = run(capsys, stage, "--help")
        assert (code, err) == (0, "")
        assert out.splitlines()[0].endswith(f" {stage} STEM [OPTIONS]" if stage in STEM_STAGES else f" {stage} [OPTIONS]")
        assert stage not in STEM_STAGES or f"STEM is {STEM_STAGES[stage]}." in out


def test_no_argument_asks_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys) == run(capsys, "--help")


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--version") == (0, f"{stemscribe.__version__}\n", "")


def test_help_does_not_wait_for_heavy_libraries() -> None:
    code = "import sys, stemscribe.cli; sys.exit(bool({'torch', 'numpy', 'pytorch_lightning', 'dvc'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["transcrib"], "No such command 'transcrib'"),
        (["transcribe"], "Missing argument"),
        (["transcribe", "--modl", "x", "a.wav"], "No such option: --modl"),
        (["transcribe", "a.wav", "b.wav"], "unexpected extra argument"),
        (["transcribe", "--decode", "notes", "a.wav"], "--decode is 'notes'; give tokens or frames"),
        (["transcribe", "--int8", "--decode", "frames", "a.wav"], "--int8 is for the token decoder"),
        (["transcribe", "--no-overlap", "--int8", "a.wav"], "leave one of them out"),
        (["transcribe", "--no-overlap", "--decode", "tokens", "a.wav"], "--no-overlap is for the frame head"),
        (["finetune"], "name one stem, not 0; stems are bass, drums, vocals, other"),
        (["finetune", "bas"], "no stem 'bas' in params.yaml; stems are bass, drums, vocals, other"),
        (["predict", "bass", "drums"], "name one stem, not 2; stems are base, bass"),
        (["report", "bass"], "report"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("stemscribe: ")
    assert expected in err
    assert len(err.splitlines()) == 1


def test_a_recording_becomes_midi_beside_it(capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path) -> None:
    code, out, err = run(capsys, "transcribe", song, "--model", bass_model)
    notes = read_midi(song.with_suffix(".mid"))
    assert code == 0
    assert err == f"{bass_model}: {len(notes)} notes (frames)\n"
    assert out == f"{song.with_suffix('.mid')}: {len(notes)} notes in 1.0 s of audio\n"
    assert {each.program for each in notes} == {33}


def test_what_was_done_to_a_recording_is_said(capsys: pytest.CaptureFixture[str], bass_model: Path, tmp_path: Path) -> None:
    loud = np.clip(4 * np.sin(np.arange(44100) / 20), -1, 1).astype(np.float32)
    write_flac(tmp_path / "loud.flac", loud, 44100)
    code, _, err = run(capsys, "transcribe", tmp_path / "loud.flac", "--model", bass_model, "--int8")
    resampled, clipped, found = err.splitlines()
    assert code == 0
    assert resampled.endswith("loud.flac: resampled from 44100 Hz to 16000 Hz")
    assert "% of it is clipped" in clipped
    assert found.startswith(f"{bass_model}: ")
    assert found.endswith("(tokens)")  # what is quantised is their decoder


def test_json_on_stdout_is_the_notes_in_the_midi_file(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path, tmp_path: Path
) -> None:
    target = tmp_path / "bass.mid"
    code, out, _ = run(capsys, "transcribe", song, "--model", bass_model, "--decode", "frames", "--output", target, "--json")
    notes = json.loads(out)
    assert code == 0
    assert notes
    assert all(set(each) == {"onset", "offset", "pitch", "program"} for each in notes)
    printed = sorted((each["pitch"], each["program"], each["onset"], each["offset"]) for each in notes)
    written = sorted((each.pitch, each.program, each.onset, each.offset) for each in read_midi(target))
    assert np.array(printed) == pytest.approx(np.array(written), abs=0.0011)  # MIDI counts in ticks


def test_a_midi_file_that_is_there_is_replaced_only_by_name(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path
) -> None:
    score = song.with_suffix(".mid")
    score.write_bytes(b"the composer's own")
    code, _, err = run(capsys, "transcribe", song, "--model", bass_model)
    assert (code, score.read_bytes()) == (2, b"the composer's own")
    assert "is there already" in err
    assert run(capsys, "transcribe", song, "--model", bass_model, "--output", score)[0] == 0
    assert read_midi(score)


def test_a_head_that_a_model_lacks_is_refused_before_it_listens(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path, tmp_path: Path
) -> None:
    save_model(tmp_path / "plain", tiny_model(), {})
    for options, expected in (
        (["--decode", "frames"], "--decode frames is for the frame head, and"),
        (["--no-overlap"], "--no-overlap is for the frame head, and"),
        (["--model", bass_model, "--decode", "frames"], f"and {tmp_path / 'plain'} has none"),
    ):
        code, out, err = run(capsys, "transcribe", song, "--model", tmp_path / "plain", *options)
        assert (code, out) == (2, "")
        assert expected in err
        assert len(err.splitlines()) == 1
    assert not song.with_suffix(".mid").exists()


def test_a_fresh_frame_head_is_read_only_if_asked_for(capsys: pytest.CaptureFixture[str], song: Path, tmp_path: Path) -> None:
    fresh = str(tmp_path / "fresh")
    model = small_model()
    model.frame_head = fresh_frame_head(model.config)
    save_model(fresh, model, {})
    for options, head in (((), "tokens"), (("--decode", "frames"), "frames")):
        code, _, err = run(capsys, "transcribe", song, "--model", fresh, "--output", tmp_path / f"{head}.mid", *options)
        assert code == 0
        assert err.rstrip().endswith(f"notes ({head})")
    code, _, err = run(capsys, "transcribe", song, "--model", fresh, "--no-overlap")
    assert code == 2
    assert "has none that was taught" in err


def test_a_recording_is_never_replaced(capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path) -> None:
    before = song.read_bytes()
    code, _, err = run(capsys, "transcribe", song, "--model", bass_model, "--output", song)
    assert code == 2
    assert "is the recording itself; name another file with --output" in err
    assert song.read_bytes() == before


def test_a_place_that_cannot_be_written_is_refused_before_anybody_listens(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Transcriber, "transcribe", None)  # a call would fail
    (tmp_path / "folder").mkdir()
    code, _, err = run(capsys, "transcribe", song, "--model", bass_model, "--output", tmp_path / "folder")
    assert (code, err) == (2, f"stemscribe: {tmp_path / 'folder'} is a folder; name a file in it with --output\n")
    monkeypatch.setattr("os.access", lambda path, mode: not mode & os.W_OK)
    code, _, err = run(capsys, "transcribe", song, "--model", bass_model, "--output", tmp_path / "folder/song.mid")
    assert code == 2
    assert f"{tmp_path / 'folder'} is no folder that can be written; name another place with --output" in err
    code, _, err = run(capsys, "transcribe", song, "--model", bass_model, "--output", song / "new/song.mid")
    assert code == 2
    assert f"{song} is no folder that can be written" in err


def test_verify_names_the_file_that_differs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "verify")
    assert code == 1
    assert "no shards in data/" in err
    shards = Path("data/shards/bass")
    write_band(shards)
    code, out, _ = run(capsys, "verify")
    assert (code, out.count("bytes as they should be")) == (0, 1)
    (file,) = shards.glob("*.i16")
    content = bytearray(file.read_bytes())
    content[0] ^= 1
    file.write_bytes(content)
    code, _, err = run(capsys, "verify", shards)
    assert code == 1
    assert f"{file} differs from its manifest" in err


def test_what_is_missing_is_one_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments, expected in (
        (["transcribe", tmp_path / "none.wav", "--model", bass_model], "no such file"),
        (["transcribe", ".", "--model", bass_model], "no such file ."),
        (["transcribe", song, "--model", tmp_path / "none"], "no model folder"),
        (["transcribe", song], "no model in models/; `dvc pull models/bass`"),
        (["score", tmp_path / "a.mid", tmp_path / "b.mid"], "cannot read"),
    ):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (1, "")
        assert expected in err
        assert len(err.splitlines()) == 1
    assert not song.with_suffix(".mid").exists()


def test_without_model_the_specialists_of_the_project_are_used(
    capsys: pytest.CaptureFixture[str], bass_model: Path, song: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "bass").symlink_to(bass_model)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "transcribe", song, "--decode", "frames")
    assert code == 0
    assert [line.split(":")[0] for line in err.splitlines()] == ["models/bass"]


def test_score_compares_two_midi_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    truth, found = tmp_path / "truth.mid", tmp_path / "found.mid"
    write_midi(truth, [note("E1", 0.5, 1.0, 33), note("A1", 1.0, 1.5, 33), drum("kick", 0.5)])
    write_midi(found, [note("E1", 0.5, 1.0, 33)])
    code, out, _ = run(capsys, "score", truth, found, "--json")
    onset = json.loads(out)["onset"]
    assert code == 0
    assert (onset["precision"], onset["recall"], onset["matched"]) == (1.0, 0.5, 1)
    code, out, _ = run(capsys, "score", truth, found)
    assert code == 0
    assert "0.667" in out
    code, _, err = run(capsys, "score", found, truth, "--drums")
    assert code == 2
    assert "no drum hit" in err


def test_ctrl_c_is_one_line_and_exit_code_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(argv: list[str]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("stemscribe.stages.index.main", interrupted)
    code, _, err = run(capsys, "index")
    assert code == 130
    assert err == "stemscribe: interrupted; the next run continues from what is finished\n"


def test_a_terminated_stage_cleans_up_on_its_way_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaned = []

    def terminated(argv: list[str]) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append(True)

    monkeypatch.setattr("stemscribe.stages.index.main", terminated)
    assert run(capsys, "index")[0] == 130
    assert cleaned == [True]


def test_a_defect_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(argv: list[str]) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("stemscribe.stages.index.main", broken)
    with pytest.raises(ZeroDivisionError):
        main(["index"])
