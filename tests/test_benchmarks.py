"""The benchmarks start; what they say of predictions is what was predicted."""

import importlib.util
import runpy
import sys
from pathlib import Path
from types import ModuleType

import pytest

from scored_project import write_project
from stemscribe.stages import STEMS

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMMANDS = sorted(path.name for path in BENCHMARKS.glob("*.py") if "argparse" in path.read_text(encoding="utf-8"))


def benchmark(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_a_benchmark_takes(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
    assert ended.value.code == 0
    assert f"usage: {name}" in capsys.readouterr().out


def test_limits_are_those_of_the_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(write_project(tmp_path))
    monkeypatch.setattr(sys, "argv", ["limits.py", "--head", "tokens"])
    benchmark("limits").main()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    header, _, *scores = rows
    assert [row[:2] for row in scores] == [[stem, reader] for stem in STEMS for reader in ("base", "specialist")]
    for row in scores:
        within = [float(cell) for name, cell in zip(header, row, strict=True) if name.startswith("within")]
        assert within == sorted(within)
        assert 0 < within[-1] <= 1
