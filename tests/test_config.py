"""params.yaml is read once, strictly, and shows a stage only what it declared."""

import re
from pathlib import Path

import pytest
import yaml

from stemscribe.config import load_params
from stemscribe.errors import UsageError

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")


@pytest.fixture
def params_file(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_text(SHIPPED, encoding="utf-8")
    return path


def change(path: Path, name: str, value: object) -> Path:
    """Give a parameter, named as DVC names it, another value."""
    params = section = yaml.safe_load(path.read_text(encoding="utf-8"))
    *sections, key = name.split(".")
    for each in sections:
        section = section[each]
    assert key in section
    section[key] = value
    path.write_text(yaml.safe_dump(params), encoding="utf-8")
    return path


def rewrite(path: Path, pattern: str, new: str) -> Path:
    """Change the text itself, at the first line that matches."""
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count == 1
    path.write_text(text, encoding="utf-8")
    return path


def complaint(path: Path, *reads: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_params(reads or ("seed",), path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_the_shipped_file_is_complete(params_file: Path) -> None:
    params = load_params(("seed", "stems", "finetune"), params_file)
    assert params.stems["bass"].programs == tuple(range(32, 40))
    assert set(params.stems) == {"bass", "drums", "vocals", "other"}


def test_the_four_stems_share_no_program_and_leave_out_only_effects(params_file: Path) -> None:
    stems = load_params(("stems",), params_file).stems
    programs = [program for stem in stems.values() for program in stem.programs]
    assert len(programs) == len(set(programs))
    unclaimed = set(range(129)) - set(programs)
    assert unclaimed == {*range(96, 100), *range(102, 128)}


def test_a_mistyped_key_is_named_with_the_nearest_known_one(params_file: Path) -> None:
    message = complaint(rewrite(params_file, "learning_rate:", "lerning_rate:"))
    assert "stems.bass.finetune" in message
    assert "'lerning_rate'" in message
    assert "did you mean 'learning_rate'" in message


def test_a_missing_key_is_named(params_file: Path) -> None:
    assert "missing key 'patience'" in complaint(rewrite(params_file, "^ *patience:", "  # patience:"))


def test_an_unknown_stem_is_answered_with_the_stems_there_are(params_file: Path) -> None:
    assert "no stem 'bas'" in (message := complaint(params_file, "stems.bas"))
    assert "bass, drums, vocals, other" in message
    assert "no stem 'bass.programs.programs'" in complaint(params_file, "stems.bass.programs.programs")
    assert "no stem 'bass.colour'" in complaint(params_file, "stems.bass.colour")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("seed", "one", "a whole number"),
        ("finetune.batch_size", 1.5, "a whole number"),
        ("predict.decode", "notes", "tokens or frames"),
        ("stems.drums.programs", [129], "programs from 0 to 128"),
        ("stems.drums.programs", 128, "a list"),
        ("demo.songs", 10, "more songs"),
        ("separate.method", "demux", "oracle or bleed"),
        ("finetune.shares", [0.5, 1.5], "at least one share from 0"),
        ("finetune.shares", [], "at least one share from 0"),
        ("finetune.shift_smoothing", [0.4, 0.24], "a list of 3"),
        ("finetune.augment.bleed_share", 1.5, "a share from 0 to 1"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(params_file: Path, name: str, value: object, expected: str) -> None:
    assert f"{name}: expected {expected}" in complaint(change(params_file, name, value))


def test_a_key_written_twice_is_refused(params_file: Path) -> None:
    assert "'seed' stands twice" in complaint(rewrite(params_file, "^seed: (.*)$", r"seed: \1\nseed: 2"))


def test_broken_yaml_is_one_line_with_its_place(params_file: Path) -> None:
    assert "line" in complaint(rewrite(params_file, "^seed: .*$", "seed: [1"))


def test_a_missing_file_says_where_to_run(tmp_path: Path) -> None:
    assert "run this in the project folder" in complaint(tmp_path / "params.yaml")


def test_numbers_as_dvc_writes_them_are_numbers(params_file: Path) -> None:
    rewrite(params_file, "learning_rate: .*$", "learning_rate: 3e-05")  # YAML 1.1 reads this as a text
    assert load_params(("stems.bass",), params_file).stems["bass"].finetune.learning_rate == 3e-5


def test_a_stage_sees_only_what_it_declared(params_file: Path) -> None:
    change(change(change(params_file, "seed", 7), "predict.overlap", True), "predict.decode", "tokens")
    params = load_params(("seed", "stems.bass.programs"), params_file)
    assert params.seed == 7
    assert len(params.stems["bass"].programs) == 8
    for peek in (
        lambda: params.evaluate.bootstrap_draws,
        lambda: params.stems["bass"].finetune.steps,
        lambda: bool(params.finetune),
    ):
        with pytest.raises(LookupError, match="without declaring it"):
            peek()
    assert "drums" not in params.stems
    assert load_params(("predict.decode",), params_file).predict.decode == "tokens"
    assert load_params(("predict", "predict.decode"), params_file).predict.overlap
    for reads, complaint in (
        (("predict.decode",), "without declaring it"),
        (("predict.decod",), "no field 'decod' in predict"),
    ):
        with pytest.raises(LookupError, match=complaint):
            bool(load_params(reads, params_file).predict.overlap)
