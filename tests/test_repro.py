"""The graph at work: what `dvc repro` runs, what it leaves alone, and what DVC's tables say, on a temporary clone.

The clone runs the whole graph once with the ci profile; every test that changes something does so in a copy of it.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
import yaml

from project_clone import REPOSITORY, Outcome, Project, traced
from test_graph import STAGES, STEMS

pytestmark = pytest.mark.graph

OTHERS = ("bass", "vocals", "other")  # whom an edit of the drums does not concern


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def stem_outputs(project: Project, stems: tuple[str, ...]) -> dict[str, str]:
    """The hashes in dvc.lock of everything that the stages named after `stems` wrote."""
    locked = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    outs = [out for name, stage in locked.items() if name.endswith(stems) for out in stage["outs"]]
    return {out["path"]: out["md5"] for out in outs}


def test_the_whole_graph_runs_from_songs_to_report(first_run: tuple[Project, Outcome]) -> None:
    project, outcome = first_run
    declared = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    outs = [out["path"] for stage in declared.values() for out in stage["outs"]]

    assert sorted(outcome.stages) == sorted(STAGES)
    assert [out for out in outs if not (project.root / out).exists()] == []
    assert project.partial_results() == []


def test_a_stage_says_how_far_it_is(first_run: tuple[Project, Outcome]) -> None:
    _, outcome = first_run

    assert re.search(r"transcribing with models/base: 10 recordings in \d", outcome.err)
    assert re.search(r"bass \| step 2: onset_f1 \d", outcome.out)


def test_a_second_run_runs_nothing(finished: Project) -> None:
    outcome = finished.dvc("repro")

    assert outcome.stages == []
    assert "up to date" in outcome.out


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_touches_only_what_it_declares(finished: Project, stage: str) -> None:
    locked = yaml.safe_load((finished.root / "dvc.lock").read_text())["stages"][stage]
    outs = tuple(out["path"] for out in locked["outs"])
    deps = ("params.yaml", *(dep["path"] for dep in locked["deps"]))
    scratch = ("work/", ".dvc", ".git")  # a training's state; DVCLive asks DVC and git where it is
    seen = traced(finished.root, stage)

    assert seen["r"] > {"src/stemscribe/__init__.py", "params.yaml"}
    assert [path for path in seen["r"] if not path.startswith((*deps, *outs, *scratch))] == []
    assert [path for path in seen["w"] if not path.startswith((*outs, *scratch))] == []


def test_more_steps_for_the_drums_concern_only_the_drums(project: Project) -> None:
    before = stem_outputs(project, OTHERS)
    chain = ["finetune_drums", "predict_drums", "evaluate_drums", "report"]
    project.edit("stems.drums.finetune.steps", 6)

    affected = project.dvc("repro", "--dry", "--force", "--downstream", "finetune_drums")
    changed = project.dvc("repro")
    project.git("checkout", "--quiet", "params.yaml")
    back = project.dvc("repro")

    assert affected.stages == chain
    # where six steps keep the very weights that four steps kept, DVC sees nothing new to predict or to score
    assert changed.stages in (chain, ["finetune_drums", "predict_drums", "report"], ["finetune_drums", "report"])
    assert stem_outputs(project, OTHERS) == before
    assert back.stages == []  # the old result comes out of the run cache
    assert project.git("status", "--porcelain").out == ""


def test_other_programs_for_the_drums_leave_the_other_stems_alone(project: Project) -> None:
    before = stem_outputs(project, OTHERS)
    project.edit("stems.drums.programs", [128, 47])

    shared = project.dvc("repro", "predict_base")
    waiting = json.loads(project.dvc("status", "--json").out)

    # separate and predict_base cover all stems, so they run; what they write for the other stems is the same to the byte
    assert shared.stages == ["prepare_drums", "predict_base"]
    assert set(waiting) == {"finetune_drums", "separate", "predict_drums", "evaluate_drums", "poc", "report"}
    assert project.dvc("repro", "separate").stages == ["separate"]
    waiting = json.loads(project.dvc("status", "--json").out)
    assert set(waiting) == {"finetune_drums", "predict_drums", "evaluate_drums", "poc", "report"}
    assert stem_outputs(project, OTHERS) == before


def test_one_specialist_is_a_target(project: Project) -> None:
    project.edit("finetune.weight_decay", 0.02)

    # --dry names the stages that changed themselves, not those downstream of them
    assert project.dvc("repro", "--dry", "finetune_bass").stages == ["finetune_bass"]


def test_retraining_gives_the_same_weights_and_another_seed_does_not(project: Project) -> None:
    weights = project.root / "models/bass/model.safetensors"
    first = sha256(weights)

    again = project.dvc("repro", "--force", "--single-item", "--no-run-cache", "finetune_bass")
    second = sha256(weights)
    project.edit("seed", 2)
    project.dvc("repro", "--single-item", "finetune_bass")

    assert again.stages == ["finetune_bass"]
    assert "resuming" not in again.err + again.out
    assert second == first
    assert sha256(weights) != first


@pytest.fixture(scope="module")
def compared(first_run: tuple[Project, Outcome], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A project in which two parameters were changed since the last commit, and whose bass was scored again."""
    folder = tmp_path_factory.mktemp("compared")
    project = first_run[0].fork(folder / "project")
    project.edit("evaluate.onset_tolerance", 0.001)
    project.edit("stems.bass.finetune.learning_rate", 0.25)
    assert project.dvc("repro", "--single-item", "evaluate_bass").stages == ["evaluate_bass"]
    yield project
    shutil.rmtree(folder, ignore_errors=True)


def test_params_diff_names_the_parameter_and_both_values(compared: Project, finished: Project) -> None:
    before = yaml.safe_load((finished.root / "params.yaml").read_text())
    tolerance, rate = before["evaluate"]["onset_tolerance"], before["stems"]["bass"]["finetune"]["learning_rate"]

    header, *rows = [line.split() for line in compared.dvc("params", "diff").out.splitlines()]

    assert header == ["Path", "Param", "HEAD", "workspace"]
    assert rows == [
        ["params.yaml", "evaluate.onset_tolerance", str(tolerance), "0.001"],
        ["params.yaml", "stems.bass.finetune.learning_rate", str(rate), "0.25"],
    ]


def test_metrics_diff_names_stem_and_score_with_both_values(compared: Project) -> None:
    header, *rows = [line.split() for line in compared.dvc("metrics", "diff").out.splitlines()]

    changed = {(path, metric): (float(old), float(new), float(change)) for path, metric, old, new, change in rows}

    assert header == ["Path", "Metric", "HEAD", "workspace", "Change"]
    assert {path for path, _ in changed} == {"metrics/bass.json"}
    old, new, change = changed["metrics/bass.json", "onset_f1"]
    assert new < old  # hardly a note begins within a millisecond of where it should
    assert change == pytest.approx(new - old, abs=1e-4)


@pytest.mark.parametrize("stem", STEMS)
def test_metrics_are_at_most_eight_flat_numbers(finished: Project, stem: str) -> None:
    metrics = json.loads((finished.root / f"metrics/{stem}.json").read_text())
    expected = ["onset_f1", "onset_offset_f1", "frame_f1", "precision", "recall", "onset_f1_ci", "delta_vs_base"]
    expected += ["false_notes_per_minute"]

    assert list(metrics) == [name for name in expected if not (stem == "drums" and name == "onset_offset_f1")]
    assert all(isinstance(value, float) and round(value, 4) == value for value in metrics.values())


def test_plots_diff_shows_every_stem_before_and_after(compared: Project) -> None:
    said = compared.dvc("plots", "diff")
    page = Path(said.out.strip().removeprefix("file://")).read_text()
    rows = [json.loads(row) for row in re.findall(r'\{"stem": [^{}]*"condition": [^{}]*\}', page)]
    means = [row for row in rows if row["filename"].endswith("conditions.csv") and row["head"] == "frames"]
    shown = {(row["rev"], row["stem"], row["condition"]): float(row["onset_f1"]) for row in means}

    assert {(revision, stem) for revision, stem, _ in shown} == set(product(("HEAD", "workspace"), STEMS))
    assert shown["workspace", "bass", "base_stem"] < shown["HEAD", "bass", "base_stem"]
    assert shown["workspace", "drums", "base_mix"] == shown["HEAD", "drums", "base_mix"]
    for title in ("onset F1 by condition", "onset F1 by track", "validation onset F1"):
        assert f'<div id = "{title.replace(" ", "_")}">' in page


def test_a_clean_clone_knows_without_data_that_nothing_changed(finished: Project, tmp_path: Path) -> None:
    clone = finished.clone(tmp_path / "clone")

    unchanged = clone.dvc("repro", "--dry", "--allow-missing")
    clone.edit("predict.decode", "tokens")
    changed = clone.dvc("repro", "--dry", "--allow-missing", expect=None)

    assert unchanged.stages == []
    assert "up to date" in unchanged.out
    assert changed.code != 0  # DVC looks for the data that it would need


def test_the_committed_lock_is_true(tmp_path: Path) -> None:
    subprocess.run(("git", "clone", "--quiet", str(REPOSITORY), str(tmp_path / "clone")), check=True)
    clone = Project(tmp_path / "clone")
    assert (clone.root / "dvc.lock").is_file(), "dvc.lock is not committed"

    outcome = clone.dvc("repro", "--dry", "--allow-missing", expect=None)

    assert outcome.code == 0, outcome.err
    assert outcome.stages == []
