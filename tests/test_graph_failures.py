"""What goes wrong while the graph runs: one clear line, the right exit code, nothing half written, and `dvc repro` goes on.

Wrong use (a mistyped parameter) ends a stage with 2, anything else with 1; DVC reports that code and ends with its own.
"""

import csv
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from project_clone import TIMEOUT, Outcome, Project, wait_for

pytestmark = pytest.mark.graph


def refused(outcome: Outcome, project: Project, code: int, out: str) -> str:
    """Check that a stage failed as it should, and left no `out`; returns the one line that it said."""
    (line,) = outcome.complaints
    assert outcome.code != 0
    assert f"exited with {code}" in outcome.err
    assert "Traceback" not in outcome.err
    assert not (project.root / out).exists()
    assert project.partial_results() == []
    return line


def goes_on(project: Project) -> None:
    """Once the cause is mended, `dvc repro` has everything back; nothing is computed again."""
    project.git("checkout", "--quiet", "params.yaml")

    assert project.dvc("repro").stages == []
    assert project.git("status", "--porcelain").out == ""


def first_bass(project: Project) -> Path:
    """The folder of a track with a bass, relative to the project, and the name of the bass stem as its last part."""
    with (project.root / "data/index/stems.csv").open(newline="") as stream:
        stem = next(row for row in csv.DictReader(stream) if row["program"] in {"32", "33", "34", "35", "36", "37", "38", "39"})
    (folder,) = (project.root / "data/raw/demo").glob(f"*/{stem['track']}")
    return folder.relative_to(project.root) / stem["stem"]


def test_a_mistyped_parameter_is_named_with_the_nearest_known_one(project: Project) -> None:
    project.edit("finetune.batchsize", 4)

    outcome = project.dvc("repro", "finetune_bass", expect=None)

    line = refused(outcome, project, 2, "models/bass")
    assert line == "stemscribe: params.yaml: finetune: unknown key 'batchsize'; did you mean 'batch_size'?"
    goes_on(project)


def test_a_corpus_that_is_not_here_is_asked_for(project: Project) -> None:
    project.edit("corpus.name", "slakh2100")

    outcome = project.dvc("repro", expect=None)

    line = refused(outcome, project, 1, "data/raw/slakh2100")
    assert line.startswith("stemscribe: no data/archives/slakh2100.tar.gz; download https://")
    assert "STEMSCRIBE_CORPUS_DIR" in line
    goes_on(project)


@pytest.mark.parametrize(
    ("stage", "out", "damaged", "content"),
    [
        ("prepare_bass", "data/shards/bass", "stems/{stem}.flac", lambda whole: whole[: len(whole) // 2]),
        ("index", "data/index", "MIDI/{stem}.mid", lambda whole: whole[:40]),
        ("index", "data/index", "metadata.yaml", lambda whole: b"stems: [" + whole),
    ],
    ids=["truncated FLAC", "broken MIDI", "unreadable metadata"],
)
def test_a_broken_file_is_named(
    project: Project, stage: str, out: str, damaged: str, content: Callable[[bytes], bytes]
) -> None:
    bass = first_bass(project)
    file = f"{bass.parent}/{damaged.format(stem=bass.name)}"
    project.replace(file, content((project.root / file).read_bytes()))

    outcome = project.dvc("repro", "--single-item", stage, expect=None)

    assert file in refused(outcome, project, 1, out)
    goes_on(project)  # DVC sees that data/raw is not what the corpus stage wrote, and restores it


def test_a_stem_that_nobody_plays_cannot_be_learned(project: Project) -> None:
    project.edit("stems.vocals.programs", [101])

    outcome = project.dvc("repro", "finetune_vocals", expect=None)

    line = refused(outcome, project, 1, "models/vocals")
    assert line.startswith("stemscribe: no train track has a note of the stem vocals; choose its programs in params.yaml")
    goes_on(project)


def test_a_place_that_cannot_be_written_is_named(project: Project) -> None:
    # a file where a folder belongs, which stops even root
    scores = project.root / "metrics"
    for path in scores.glob("*"):
        path.unlink()
    scores.rmdir()
    scores.write_text("in the way")

    outcome = project.run("python", "-m", "stemscribe.stages.evaluate", "bass", expect=1)

    (line,) = outcome.complaints
    assert line.startswith("stemscribe: cannot write metrics/bass.json: ")
    assert "Traceback" not in outcome.err
    scores.unlink()
    project.git("checkout", "--quiet", "metrics")
    goes_on(project)


def test_a_folder_without_write_permission_is_named(project: Project) -> None:
    as_user = () if os.geteuid() else ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")  # root obeys
    if as_user and shutil.which("setpriv") is None:
        pytest.skip("root may write anywhere, and there is no setpriv to stop it")
    (project.root / "plots").chmod(0o555)

    outcome = project.run(*as_user, "python", "-m", "stemscribe.stages.evaluate", "bass", expect=1)
    (project.root / "plots").chmod(0o755)

    (line,) = outcome.complaints
    assert line.startswith("stemscribe: cannot write plots/bass: Permission denied")
    assert "Traceback" not in outcome.err
    goes_on(project)


def is_free(lock: Path) -> bool:
    """Whether no process holds the lock of a training."""
    with lock.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def interrupt(project: Project, send: Callable[[subprocess.Popen[str]], None]) -> Outcome:
    """Fine-tune the vocals, `send` a signal after the first new checkpoint, and wait until nobody trains any more."""
    work = project.root / "work/vocals"
    before = checkpoints(work)
    training = project.start("dvc", "repro", "finetune_vocals")
    try:
        wait_for(lambda: checkpoints(work) != before or training.poll() is not None, "a checkpoint")
        send(training)
        out, err = training.communicate(timeout=TIMEOUT)
    finally:
        training.kill()
    (lock,) = work.glob("*/lock")
    wait_for(lambda: is_free(lock), "the end of the training")
    return Outcome(training.returncode, out, err)


def checkpoints(work: Path) -> list[int]:
    return [path.stat().st_mtime_ns for path in work.glob("*/last.ckpt")]


def test_an_interrupted_training_goes_on_where_it_was(project: Project) -> None:
    project.edit("stems.vocals.finetune.steps", 12)
    project.edit("finetune.patience", 24)  # or a training that does not get better would end by itself before it is stopped

    stopped = {
        "SIGINT to the group": interrupt(project, lambda process: os.killpg(process.pid, signal.SIGINT)),
        "SIGTERM to dvc alone": interrupt(project, lambda process: process.terminate()),
    }
    left_over = (project.root / "models/vocals").exists(), project.partial_results()
    finished = project.dvc("repro", "finetune_vocals")

    for how, outcome in stopped.items():
        assert outcome.code != 0, how
        assert outcome.complaints == ["stemscribe: interrupted; the next run continues from what is finished"], (how, outcome)
        assert "Traceback" not in outcome.err, how
    assert left_over == (False, [])
    assert "resuming work/vocals/" in stopped["SIGTERM to dvc alone"].out
    assert "resuming work/vocals/" in finished.out
    assert finished.stages == ["finetune_vocals"]
    assert (project.root / "models/vocals/model.safetensors").is_file()
