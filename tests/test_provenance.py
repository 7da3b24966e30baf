"""A run's name changes with everything that decides its result, and with nothing else."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

import stemscribe
from stemscribe import provenance
from stemscribe.config import StemTuning

TUNING = StemTuning(learning_rate=1e-3, steps=100)
PARAMS = {"seed": 1, "stems.bass": TUNING}
INPUTS = {"data/shards/bass/manifest.json": "ab12", "models/base/model.safetensors": "cd34"}


def test_the_same_run_has_the_same_name_in_any_order() -> None:
    name = provenance.fingerprint(PARAMS, INPUTS)
    assert name == provenance.fingerprint(dict(reversed(PARAMS.items())), dict(reversed(INPUTS.items())))
    assert len(name) == 12
    assert int(name, 16) >= 0


@pytest.mark.parametrize(
    "params",
    [
        {**PARAMS, "seed": 2},
        {**PARAMS, "stems.bass": replace(TUNING, steps=101)},
        {**PARAMS, "stems.bass": replace(TUNING, learning_rate=1.0000001e-3)},
        {"seed": 1, "stems.drums": TUNING},
    ],
)
def test_another_parameter_is_another_run(params: dict[str, object]) -> None:
    assert provenance.fingerprint(params, INPUTS) != provenance.fingerprint(PARAMS, INPUTS)


def test_another_input_is_another_run() -> None:
    changed = {**INPUTS, "data/shards/bass/manifest.json": "ab13"}
    fewer = {"models/base/model.safetensors": "cd34"}
    assert len({provenance.fingerprint(PARAMS, inputs) for inputs in (INPUTS, changed, fewer)}) == 3


def test_other_learning_code_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in provenance.LEARNING_CODE:
        folder = tmp_path / part
        (folder.parent if part.endswith(".py") else folder).mkdir(parents=True, exist_ok=True)
        (folder if part.endswith(".py") else folder / "moe.py").write_text("one = 1\n")
    monkeypatch.setattr(stemscribe, "__file__", str(tmp_path / "__init__.py"))
    before = provenance.fingerprint(PARAMS, INPUTS)
    assert provenance.fingerprint(PARAMS, INPUTS) == before
    (tmp_path / "report.py").write_text("elsewhere = True\n")
    assert provenance.fingerprint(PARAMS, INPUTS) == before
    names = {before}
    for part in provenance.LEARNING_CODE:
        file = tmp_path / part if part.endswith(".py") else tmp_path / part / "moe.py"
        file.write_text("one = 2\n")
        names.add(provenance.fingerprint(PARAMS, INPUTS))
    (tmp_path / "model" / "moe.py").rename(tmp_path / "model" / "mixture.py")
    names.add(provenance.fingerprint(PARAMS, INPUTS))
    assert len(names) == len(provenance.LEARNING_CODE) + 2


def test_all_learning_code_exists() -> None:
    root = Path(stemscribe.__file__).parent
    assert all((root / part).exists() for part in provenance.LEARNING_CODE)


def test_the_description_is_json_and_says_what_it_was_made_of() -> None:
    params = {"seed": 1, "finetune": StemTuning(learning_rate=1e-3, steps=6)}
    facts = json.loads(json.dumps(provenance.describe(params, INPUTS)))
    assert facts["params"] == {"seed": 1, "finetune": {"learning_rate": 1e-3, "steps": 6}}
    assert facts["inputs"] == INPUTS
    assert facts["stemscribe"] == stemscribe.__version__
    assert set(facts["versions"]) == {"python", *provenance.PACKAGES}


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    return subprocess.run(("git", *identity, *arguments), check=True, capture_output=True, text=True).stdout.strip()


def test_git_state_is_the_commit_and_whether_code_or_parameters_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.git_state() == {"commit": None, "uncommitted_changes": None}
    git("init", "-q")
    for name in ("params.yaml", "dvc.lock", "src/model.py", "pretrain/songs.yaml", "pretrain/soundfonts.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    assert provenance.git_state() == {"commit": git("rev-parse", "HEAD"), "uncommitted_changes": False}
    (tmp_path / "dvc.lock").write_text("2\n")  # as every run does
    assert provenance.git_state()["uncommitted_changes"] is False
    for name in ("params.yaml", "src/new.py", "pretrain/songs.yaml", "pretrain/soundfonts.yaml", "data/sources/demo.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("2\n")
        assert provenance.git_state()["uncommitted_changes"] is True
        git("add", ".")
        git("commit", "-q", "-m", name)
    monkeypatch.chdir(tmp_path / "src")
    (tmp_path / "params.yaml").write_text("3\n")
    assert provenance.git_state()["uncommitted_changes"] is True
