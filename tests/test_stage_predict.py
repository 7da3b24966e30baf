"""Predicting leaves the notes of every head that the model has, side by side, and nothing that depends on the machine."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from shard_band import SECONDS, write_band
from stemscribe.checkpoint import save_model
from stemscribe.config import PredictParams
from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, UsageError
from stemscribe.midi import read_midi
from stemscribe.model import SMALL, YourMT3
from stemscribe.notes import load_notes
from stemscribe.stages.predict import Condition, predict
from tiny_model import eager_model, small_model

BASS = tuple(range(32, 40))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardReader:
    """A band with one test track, of six seconds."""
    return write_band(tmp_path_factory.mktemp("shards") / "bass")


@pytest.fixture(scope="module")
def eager(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bass"
    save_model(folder, eager_model(), {}, BASS)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_each_head_has_a_folder_and_equal_notes_give_equal_bytes(shards: ShardReader, eager: Path, tmp_path: Path) -> None:
    for decode in ("tokens", "frames"):  # the headline's head is no matter of the prediction
        predict([Condition(eager, shards.folder, BASS, tmp_path / decode)], PredictParams(decode, overlap=True))
    written = contents(tmp_path / "tokens")
    assert list(written) == [
        f"{head}/{name}" for head in ("frames", "tokens") for name in ("midi/Track00004.mid", "notes.npz", "summary.json")
    ]
    assert contents(tmp_path / "frames") == written
    predict([Condition(eager, shards.folder, BASS, tmp_path / "apart")], PredictParams("frames", overlap=False))
    apart = contents(tmp_path / "apart")
    changed = {name.split("/")[0] for name in apart if apart[name] != written[name]}
    assert changed == {"frames"}
    notes = load_notes(tmp_path / "tokens/frames/notes.npz")["Track00004"]
    assert len(notes) == len(read_midi(tmp_path / "tokens/frames/midi/Track00004.mid")) > 0
    for head in ("tokens", "frames"):
        summary = json.loads(written[f"{head}/summary.json"])
        assert (summary["decode"], summary["tracks"], summary["seconds"]) == (head, 1, SECONDS)


def test_a_model_without_a_frame_head_is_read_by_its_tokens_alone(shards: ShardReader, tmp_path: Path) -> None:
    model = YourMT3(replace(SMALL, frame_head=None, memory_frames=False), [4]).eval()
    model.load_state_dict(small_model([4]).state_dict(), strict=False)
    folder = tmp_path / "plain"
    save_model(folder, model, {}, BASS)
    predict([Condition(folder, shards.folder, BASS, tmp_path / "stem")], PredictParams("tokens", overlap=True))
    assert [path.name for path in (tmp_path / "stem").iterdir()] == ["tokens"]
    with pytest.raises(UsageError, match="this model has no frame head; decode tokens"):
        predict([Condition(folder, shards.folder, BASS, tmp_path / "other")], PredictParams("frames", overlap=True))
    assert not (tmp_path / "other").exists()


def test_a_corpus_without_a_test_track_is_told(tmp_path: Path, eager: Path) -> None:
    shards = tmp_path / "bass"
    write_band(shards)
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["tracks"] = [track for track in manifest["tracks"] if track["split"] != "test"]
    (shards / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=f"no track of the split test in {shards}; put songs into that split of the corpus"):
        predict([Condition(eager, shards, BASS, tmp_path / "out")], PredictParams(decode="frames", overlap=True))


def test_several_processes_find_what_one_finds(
    shards: ShardReader, eager: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEMSCRIBE_THREADS", "1")
    monkeypatch.setattr("stemscribe.stages.predict.WORKER_SECONDS", SECONDS)
    for workers in ("1", "2"):
        monkeypatch.setenv("STEMSCRIBE_WORKERS", workers)
        heard = [Condition(eager, shards.folder, BASS, tmp_path / workers / name) for name in ("stem", "separated")]
        predict(heard, PredictParams("frames", overlap=True))
    assert contents(tmp_path / "2") == contents(tmp_path / "1")
    assert len(contents(tmp_path / "1")) == 12
