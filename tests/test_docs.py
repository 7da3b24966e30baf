"""What README.md and docs/ say about the project is so: the graph, the files, the settings, the links, the tables."""

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx
import pytest

from scored_project import write_project
from stemscribe import runtime
from stemscribe.atomic import write_json
from stemscribe.checkpoint import CONFIG, WEIGHTS, save_model
from stemscribe.errors import DataError
from stemscribe.stages import STEMS, evaluate
from stemscribe.stages.base import SHIPPED, model_digest
from tiny_model import small_model

REPOSITORY = Path(__file__).parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PAGES = [REPOSITORY / "README.md", REPOSITORY / "CHANGELOG.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
LINE = 128  # characters, as in the code
ROUNDED = 0.0005 + 0.00005 + 1e-9  # README has three digits and metrics/ four, each rounded from the number itself
STEM_OF = re.compile(rf"_(?:{'|'.join(STEMS)})$")


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def first_cells(title: str) -> list[str]:
    return re.findall(r"^\| (`.+?) \|", section(title), re.MULTILINE)


def test_the_drawn_graph_is_the_graph_of_dvc() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "dag", "--mermaid"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    names = dict(re.findall(r'(node\d+)\["(.+?)"\]', done.stdout))
    short = {node: STEM_OF.sub("_S", name) for node, name in names.items()}
    true = networkx.DiGraph([(short[one], short[other]) for one, other in re.findall(r"(node\d+)-->(node\d+)", done.stdout)])
    drawn = networkx.DiGraph(re.findall(r"^  (\w+) --> (\w+)$", section("The graph"), re.MULTILINE))
    assert set(networkx.transitive_reduction(true).edges) == set(drawn.edges)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_of_prose_runs_off_the_screen(page: Path) -> None:
    prose = re.sub(r"(?ms)^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"))
    assert [line for line in prose.splitlines() if len(line) > LINE and not line.lstrip().startswith("|")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


def test_the_file_map_names_files_that_exist() -> None:
    named = [Path(name) for cell in first_cells("File map") for name in re.findall(r"`(.+?)`", cell)]
    missing = [
        path
        for path in named
        if not ((REPOSITORY / path).exists() or (REPOSITORY / "src/stemscribe" / path).exists())
        and path not in (Path("dvc.lock"), Path("metrics"))  # a run makes them
    ]
    assert missing == []


def test_the_file_map_covers_the_package() -> None:
    package = REPOSITORY / "src/stemscribe"
    parts = {path.name for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    text = section("File map")
    assert sorted(part for part in parts - {"__init__.py"} if f"{part}`" not in text and f"{part}/`" not in text) == []


def test_files_to_open_exist() -> None:
    cells = re.findall(r"^\| .+? \| (.+?) \|$", section("To change X, open Y"), re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([\w/]+\.\w+|[\w/]+/)`", cell)]
    assert len(named) > 20
    missing = [
        name for name in named if not (REPOSITORY / name).exists() and not (REPOSITORY / "src/stemscribe" / name).exists()
    ]
    assert missing == []


def test_every_hardware_setting_is_listed() -> None:
    listed = re.findall(r"^\| `(STEMSCRIBE_\w+)` \| `(\w+)` \|", section("Your hardware"), re.MULTILINE)
    assert dict(listed) == {f"STEMSCRIBE_{name.upper()}": name for name in runtime.SETTINGS}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_stages_that_are_named_exist(page: Path) -> None:
    stages = re.findall(r"^  (\w+):", (REPOSITORY / "dvc.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    commands = re.findall(r"dvc repro((?: -{1,2}[\w-]+)*)((?: \w+)*)", page.read_text(encoding="utf-8"))
    targets = [target for _, names in commands for target in names.split() if "_" in target]
    assert [target for target in targets if target not in stages] == []


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(write_project(tmp_path))
    for stem in STEMS:
        evaluate.main([stem])
    shutil.copy(REPOSITORY / "README.md", tmp_path)
    for model in ("base", *STEMS):
        folder = tmp_path / "models" / model
        folder.mkdir(parents=True, exist_ok=True)
        for name in (CONFIG, WEIGHTS):
            (folder / name).write_text(f"a model called {model}")
    for page in ("peers/results.json", "benchmarks/out_of_domain.json"):
        write_json(tmp_path / page, figures(digests(tmp_path / "models")))
    return tmp_path


def digests(models: Path) -> dict[str, str]:
    return {model: model_digest(models / model) for model in ("base", *STEMS)}


def figures(models: dict[str, str]) -> dict[str, Any]:
    """As `make peers` leaves them, of a peer that knows no drums, and of ours."""

    def scores(mean: float, second: str) -> dict[str, Any]:
        return {name: {"mean": mean, "half_width": 0.01} for name in ("onset", second)}

    seconds = {stem: "five_class" if stem == "drums" else "onset_offset" for stem in STEMS}
    ours = {stem: scores(0.75, second) for stem, second in seconds.items()}
    readers = [f"{who}, {head}" for who in ("base", "specialist") for head in ("tokens", "frames")]
    gain = {"mean": 0.1, "low": 0.05, "high": 0.15}
    return {
        "command": "make peers",
        "corpus": "four songs",
        "models": models,
        "f1": {"Peer": {"bass": scores(0.5, "onset_offset")}, **dict.fromkeys(readers, ours)},
        "differences": [
            {"one": f"specialist, {head}", "minus": f"base, {head}", **{stem: {"onset": gain} for stem in STEMS}}
            for head in ("tokens", "frames")
        ],
    }


def test_the_table_of_results_is_what_was_measured(scored: Path) -> None:
    readme_table = tool("readme_table")
    readme_table.main()
    text = (scored / "README.md").read_text(encoding="utf-8")
    (row,) = [line for line in text.splitlines() if line.startswith("| bass |") and "**" in line]
    metrics = json.loads((scored / "metrics/bass.json").read_text())
    shown = re.findall(r"\*\*([\d.]+) \N{PLUS-MINUS SIGN} ([\d.]+)\*\* \| ([+-][\d.]+) \(", row)
    measured = [metrics[name] for name in ("onset_f1", "onset_f1_ci", "delta_vs_base")]
    assert [list(map(float, numbers)) for numbers in shown] == [pytest.approx(measured, abs=ROUNDED)]
    assert "vocals (voice-like programs, no singing)" in text
    assert "simulated bleed (-12 dB)" in text
    assert text.split("<!-- /peers -->")[1] == README.split("<!-- /peers -->")[1]
    readme_table.main()
    assert (scored / "README.md").read_text(encoding="utf-8") == text


@pytest.mark.parametrize("changed", ["base", "drums"])
def test_pages_of_other_models_do_not_get_into_the_tables(scored: Path, changed: str) -> None:
    before = (scored / "README.md").read_text(encoding="utf-8")
    write_json(scored / "benchmarks/out_of_domain.json", figures({**digests(scored / "models"), changed: "ab" * 32}))
    complaint = f"^benchmarks/out_of_domain.json was measured with another models/{changed}; run `python"
    with pytest.raises(DataError, match=complaint):
        tool("readme_table").main()
    assert (scored / "README.md").read_text(encoding="utf-8") == before  # neither of the two


@pytest.mark.parametrize("page", ["peers/results", "benchmarks/out_of_domain"])
def test_the_other_transcribers_stand_beside_the_base_that_is_shipped(page: str) -> None:
    figures = json.loads((REPOSITORY / f"{page}.json").read_text(encoding="utf-8"))
    assert figures["models"]["base"] == model_digest(SHIPPED["small"])
    assert f"`{figures['models']['base'][:12]}...`" in (REPOSITORY / f"{page}.md").read_text(encoding="utf-8")


def committed(path: str) -> str:
    """A file as it was committed; here it may be another one, after an experiment or on another kind of processor."""
    shown = subprocess.run(["git", "show", f"HEAD:{path}"], cwd=REPOSITORY, check=True, capture_output=True)
    return shown.stdout.decode()


def test_the_headlines_in_the_readme_are_those_of_metrics() -> None:
    table = committed("README.md").split("<!-- results -->")[1].split("<!-- /results -->")[0]
    headlines = re.findall(r"\*\*(\d\.\d{3}) .*?\*\*", table)
    metrics = [json.loads(committed(f"metrics/{stem}.json")) for stem in STEMS]
    assert list(map(float, headlines)) == pytest.approx([each["onset_f1"] for each in metrics], abs=ROUNDED)


def test_other_transcribers_stand_in_a_table_of_their_own(scored: Path) -> None:
    readme_table = tool("readme_table")
    readme_table.main()
    text = (scored / "README.md").read_text(encoding="utf-8").split("<!-- peers -->")[1].split("<!-- /peers -->")[0]
    plus_minus, nothing = "\N{PLUS-MINUS SIGN}", "\N{EN DASH}"
    assert f"| demo | Peer | 0.500 {plus_minus} 0.010, 0.500 | {nothing} | {nothing} | {nothing} |" in text
    (row,) = [line for line in text.splitlines() if line.startswith("| out of domain |")]
    assert "| Peer |" in row
    gain = " | ".join(["**+0.100 (+0.050 to +0.150)**"] * len(STEMS))
    assert text.count(f"|  | specialist minus base | {gain} |") == 2
    assert text.count(" frames |") + text.count(" tokens |") == 4  # base and specialist, by one head
    assert "Demo: four songs (`make peers`)." in " ".join(text.split())
    write_json(scored / "peers/results.json", {"models": digests(scored / "models")})
    with pytest.raises(DataError, match=r"results\.json is broken or lacks 'f1'; run `make peers`"):
        readme_table.main()
    (scored / "peers/results.json").unlink()
    with pytest.raises(DataError, match=r"cannot read peers/results\.json .*; run `make peers`"):
        readme_table.main()


def test_the_table_of_results_refuses_numbers_of_two_runs(scored: Path) -> None:
    metrics = json.loads((scored / "metrics/drums.json").read_text())
    (scored / "metrics/drums.json").write_text(json.dumps({**metrics, "delta_vs_base": 0.5}))
    with pytest.raises(DataError, match=r"metrics/drums\.json and plots/drums/conditions\.csv disagree about delta_vs_base"):
        tool("readme_table").main()


def test_the_card_counts_the_songs_that_were_heard(tmp_path: Path) -> None:
    scores = {f"validation/{stem}_{heard}": 0.5 for stem in STEMS for heard in ("tokens", "frames", "mix")}
    facts = {
        "params": {"seed": 1, "train": {"batch_size": 2}},
        "training": {"steps": 3, "seconds": 60, "resumed": False},
        "commit": "abc",
        "uncommitted_changes": False,
        "versions": {"torch": "2"},
        "validation": scores,
    }
    save_model(tmp_path / "silent", small_model(), facts)
    with pytest.raises(DataError, match="lacks 'heard'"):
        tool("base_card").card(tmp_path / "silent")
    curve = [
        {f"{stem}_frames": 0.25 for stem in STEMS},
        {f"{stem}_{heard}": 0.5 for stem in STEMS for heard in ("frames", "mix")},
    ]
    curve = [{"step": 1000 * number, **point} for number, point in enumerate(curve, start=1)]
    more = {"params": {"seed": 2, "refine": {"batch_size": 4}}, "training": {"steps": 5, "seconds": 90, "resumed": False}}
    known = {**facts, **more, "commit": "def", "heard": ["a1", "b2", "c3"], "curve": curve, "before": facts}
    save_model(tmp_path / "base", small_model(), known)
    card = tool("base_card").card(tmp_path / "base").splitlines()
    rows = {"songs heard": "3", "steps": "3 of 2 segments, then 5 of 4 segments", "time": "2 minutes", "commits": "abc, def"}
    assert {f"| {name} | {value} |" for name, value in rows.items()} <= set(card)
    frames, mix = (card.index(f"How it rose: {title}, frames, with the threshold .4 for all.") for title in ("stem", "mix"))
    quarter, half = (f"{' | '.join([score] * len(STEMS))} |" for score in ("0.250", "0.500"))
    assert card[frames + 4 : frames + 6] == [f"| 1,000 | {quarter}", f"| 2,000 | {half}"]
    assert card[mix + 4] == f"| 2,000 | {half}"


def test_make_clean_removes_environments_and_unfinished_training_and_nothing_else(tmp_path: Path) -> None:
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    gone = (".venv", ".venv-reference", ".venv-peers", "build", "work/bass", "work/other", "work/peers", "pretrain/work/0a1b")
    kept = ("work/downloads", "work/raw", "pretrain/work/downloads", "pretrain/data", "data/shards", "models/bass")
    for name in (*gone, *kept):
        (tmp_path / name).mkdir(parents=True)
    for _ in range(2):  # where nothing is left to remove it is no error
        subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
    assert [name for name in gone if (tmp_path / name).exists()] == []
    assert [name for name in kept if not (tmp_path / name).exists()] == []
    shutil.rmtree(tmp_path / "pretrain")
    subprocess.run(["make", "clean"], cwd=tmp_path, capture_output=True, check=True)
