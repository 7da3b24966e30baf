"""One machine trains and pushes; another pulls a single specialist and transcribes with it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from project_clone import Outcome, Project
from stemscribe.midi import read_midi

pytestmark = pytest.mark.graph


@pytest.fixture(scope="module")
def elsewhere(first_run: tuple[Project, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """Another machine: a fresh `git clone` of a project that pushed to a remote folder, after `dvc pull models/bass`."""
    folder = tmp_path_factory.mktemp("pull")
    project = first_run[0].fork(folder / "here")
    project.dvc("remote", "add", "--default", "storage", str(folder / "storage"))
    project.git("commit", "--quiet", "--message", "where the data lies", ".dvc/config")
    project.dvc("push")
    clone = project.clone(folder / "elsewhere")
    clone.dvc("pull", "models/bass")
    yield clone
    shutil.rmtree(folder, ignore_errors=True)


def test_pull_brings_one_checkpoint_and_nothing_else(elsewhere: Project, finished: Project) -> None:
    pulled = {path.name: path.read_bytes() for path in (elsewhere.root / "models/bass").iterdir()}

    assert pulled == {path.name: path.read_bytes() for path in (finished.root / "models/bass").iterdir()}
    assert [path.name for path in (elsewhere.root / "models").iterdir() if path.is_dir()] == ["bass"]
    assert [name for name in ("data/raw", "data/shards", "predictions", "report") if any_file(elsewhere.root / name)] == []
    objects = [path for path in (elsewhere.root / ".dvc/cache/files/md5").rglob("*") if path.is_file()]
    assert len(objects) == len(pulled) + 1  # and the list of the folder's files


def any_file(folder: Path) -> bool:
    return any(path.name != ".gitignore" for path in folder.rglob("*") if path.is_file())


def test_the_pulled_specialist_transcribes(elsewhere: Project, finished: Project, tmp_path: Path) -> None:
    recording = next((finished.root / "data/raw/demo/test").glob("*/mix.flac"))
    score = tmp_path / "out.mid"
    command = ("python", "-m", "stemscribe.cli", "transcribe", str(recording), "--model", "models/bass", "-o", str(score))

    said = elsewhere.run(*command)

    notes = read_midi(score)
    assert f"{score}: {len(notes)} notes in " in said.out
    assert notes
    assert {note.program for note in notes} <= set(range(32, 40))


def test_without_a_model_the_way_to_one_is_told(elsewhere: Project, finished: Project, tmp_path: Path) -> None:
    recording = next((finished.root / "data/raw/demo/test").glob("*/mix.flac"))
    empty = elsewhere.clone(tmp_path / "empty")

    outcome = empty.run("python", "-m", "stemscribe.cli", "transcribe", str(recording), expect=1)

    assert outcome.complaints == [
        "stemscribe: no model in models/; `dvc pull models/bass`, `make repro`, or name a folder with --model"
    ]
