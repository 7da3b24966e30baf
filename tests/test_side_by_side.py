"""`make repro` trains several specialists at a time; what goes wrong in one of them leaves the others whole.

That they all come out as they should is seen in the clone that all tests of the graph share (`project_clone.whole_graph`).
"""

import os
import re
import signal

import pytest

from project_clone import SIDE_BY_SIDE, TIMEOUT, Outcome, Project, wait_for
from stemscribe.stages import INTERRUPTED, STEMS

pytestmark = pytest.mark.graph

TOOL = ("python", "tools/side_by_side.py")
INTERRUPTION = "stemscribe: interrupted; the next run continues from what is finished"


def said(outcome: Outcome) -> list[str]:
    """What the trainings told the person, with their stems."""
    return [line for line in outcome.out.splitlines() if " | stemscribe: " in line]


def test_several_were_trained_at_a_time(first_run: tuple[Project, Outcome]) -> None:
    _, outcome = first_run

    assert "Running stages finetune_bass, finetune_drums, finetune_vocals, finetune_other, 2 at a time:" in outcome.out
    order = re.findall(r"\| (Running stage|\w+: validation onset F1)", outcome.out)
    assert order[:2] == ["Running stage"] * 2  # the second one began before the first one was through
    assert order[2] != "Running stage"
    for stem in STEMS:
        assert f"{stem} | {stem}: validation onset F1" in outcome.out


def test_where_nothing_is_due_nothing_is_said(finished: Project) -> None:
    outcome = finished.run(*TOOL, **SIDE_BY_SIDE)

    assert outcome.out == ""


def test_one_thread_trains_one_stem_after_the_other(project: Project) -> None:
    project.edit("finetune.weight_decay", 0.02)

    assert project.run(*TOOL, STEMSCRIBE_THREADS="1").out == ""


def test_a_training_that_fails_leaves_the_other_one_whole(project: Project) -> None:
    project.edit("stems.bass.finetune.steps", 5)
    project.edit("stems.drums.finetune.steps", 5)
    (project.root / "work").mkdir()
    (project.root / "work/bass").write_text("in the way")

    failed = project.run(*TOOL, expect=None, **SIDE_BY_SIDE)

    assert failed.code != 0
    (line,) = said(failed)
    assert line.startswith("bass | stemscribe: cannot write work/bass/")
    assert "Traceback" not in failed.out + failed.err
    assert sorted(failed.stages) == ["finetune_bass", "finetune_drums"]
    assert project.dvc("repro", "--dry", "finetune_bass", "finetune_drums").stages == ["finetune_bass"]


def test_ctrl_c_reaches_all_trainings(project: Project) -> None:
    for stem in ("bass", "drums"):
        project.edit(f"stems.{stem}.finetune.steps", 200)
    project.edit("finetune.patience", 100)

    running = project.start(*TOOL, **SIDE_BY_SIDE)
    try:
        wait_for(lambda: len(list(project.root.glob("work/*/*/last.ckpt"))) == 2 or running.poll() is not None, "checkpoints")
        os.killpg(running.pid, signal.SIGINT)
        out, err = running.communicate(timeout=TIMEOUT)
    finally:
        running.terminate()
        running.wait(TIMEOUT)
    stopped = Outcome(running.returncode, out, err)

    assert stopped.code == INTERRUPTED
    assert sorted(said(stopped)) == [f"{stem} | {INTERRUPTION}" for stem in ("bass", "drums")]
    assert "Traceback" not in stopped.out + stopped.err
    assert project.partial_results() == []
    for stem in ("bass", "drums"):
        assert not (project.root / "models" / stem).exists()
