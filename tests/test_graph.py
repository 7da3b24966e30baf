"""What dvc.yaml promises, held against the code: every stage depends on exactly what it imports and reads.

Nothing runs here; tests/test_repro.py runs the graph.
"""

import ast
import importlib
import importlib.util
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from dvc.dependency import ParamsDependency
from dvc.repo import Repo
from dvc.stage import PipelineStage

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "src/stemscribe"
STEMS = ("bass", "drums", "vocals", "other")
STAGES = [
    *("corpus", "index"),
    *("prepare_bass", "prepare_drums", "prepare_vocals", "prepare_other", "prepare_mix"),
    *("base", "finetune_bass", "finetune_drums", "finetune_vocals", "finetune_other"),
    *("separate", "predict_base", "predict_bass", "predict_drums", "predict_vocals", "predict_other"),
    *("evaluate_bass", "evaluate_drums", "evaluate_vocals", "evaluate_other"),
    *("poc", "report"),
]
# Files of the package that are no code, by the stage that reads them.
ASSETS = {
    "corpus": {"src/stemscribe/weights/small/provenance.json"},  # the songs that the base has heard
    "base": {"src/stemscribe/weights/small"},
    "report": {"src/stemscribe/report/page.css", "src/stemscribe/report/page.js"},
}
# Which way imports point: a package or module may import those before it, and none after it.
ORDER = (
    *(
        "errors",
        "atomic",
        "progress",
        "interruption",
        "memory",
        "runtime",
        "executor",
        "strict_yaml",
        "config",
        "audio",
        "provenance",
        "download",
    ),
    *("notes", "vocabulary", "tokenizer", "midi"),
    *("model", "checkpoint", "merging", "torch_archive", "lightning_checkpoint"),
    *("corpora", "data"),
    "scoring",
    *("transcriber", "training"),
    "report",
    *("stages", "cli", "pretraining"),
)
HARDWARE = r"gpu|cuda|cpu|device|worker|thread|process|node|cluster|scheduler|dask|slurm|logger|host|address"


@pytest.fixture(scope="module")
def stages() -> dict[str, PipelineStage]:
    """Every stage of dvc.yaml as DVC resolves it."""
    with Repo(str(REPOSITORY)) as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


@pytest.fixture(scope="module")
def stage_deps() -> ModuleType:
    """tools/stage_deps.py, which prints what belongs into dvc.yaml."""
    spec = importlib.util.spec_from_file_location("stage_deps", REPOSITORY / "tools/stage_deps.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def module_and_arguments(stage: PipelineStage) -> tuple[str, list[str]]:
    """What a stage runs: `exec python -m MODULE [STEM]`."""
    match = re.fullmatch(r"exec python -m (stemscribe\.stages\.\w+)((?: \w+)?)", str(stage.cmd))
    assert match, f"{stage.addressing}: {stage.cmd}"
    return match[1], match[2].split()


def declared_params(stage: PipelineStage) -> set[str]:
    (found,) = [dep.params for dep in stage.deps if isinstance(dep, ParamsDependency)]
    return set(found)


def test_stages_have_literal_names(stages: dict[str, PipelineStage]) -> None:
    text = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())

    assert list(text["stages"]) == STAGES
    assert set(stages) == set(STAGES)  # no foreach or matrix, whose names would hold an @


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_is_named_after_its_module_and_its_stem(stages: dict[str, PipelineStage], name: str) -> None:
    module, arguments = module_and_arguments(stages[name])

    assert "_".join([module.split(".")[-1], *arguments]) == name


def test_hardware_is_no_matter_of_the_experiment(stages: dict[str, PipelineStage]) -> None:
    settings = re.findall(r"^ *(\w+):", (REPOSITORY / "params.yaml").read_text(), re.MULTILINE)
    words = [word for stage in stages.values() for word in str(stage.cmd).split()] + settings

    assert [word for word in words if re.search(HARDWARE, word, re.IGNORECASE)] == []


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_code_it_can_import(
    stages: dict[str, PipelineStage], stage_deps: ModuleType, name: str
) -> None:
    declared = {dep.def_path for dep in stages[name].deps if dep.def_path.startswith("src/")}
    module, _ = module_and_arguments(stages[name])

    imported = {path.as_posix() for path in stage_deps.closure(module)}

    assert declared == imported | ASSETS.get(name.split("_")[0], set())


def test_every_asset_of_the_package_is_somebodys_dependency() -> None:
    code = {path.parent for path in PACKAGE.rglob("*.py")}
    assets = {path for folder in code for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".typed")}
    assets |= {path for path in (PACKAGE / "weights").iterdir() if path.is_dir()}

    assert {path.relative_to(REPOSITORY).as_posix() for path in assets} <= set.union(*ASSETS.values())


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_exactly_the_parameters_it_reads(stages: dict[str, PipelineStage], name: str) -> None:
    module, arguments = module_and_arguments(stages[name])

    assert declared_params(stages[name]) == set(importlib.import_module(module).reads(*arguments))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_a_use_for_every_parameter_it_declares(stages: dict[str, PipelineStage], name: str) -> None:
    module, _ = module_and_arguments(stages[name])
    tree = ast.parse((REPOSITORY / "src" / module.replace(".", "/")).with_suffix(".py").read_text())
    used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}

    # stems.bass.programs is read as params.stems[stem].programs
    declared = {part for param in declared_params(stages[name]) for part in param.split(".") if part not in STEMS}

    assert declared <= used


def test_stages_read_parameters_only_as_they_declare_them() -> None:
    for path in (PACKAGE / "stages").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "load_params":
                assert isinstance(node.args[0], ast.Call), path
                assert getattr(node.args[0].func, "id", "") == "reads", path


def test_only_metrics_live_in_git_and_nothing_persists(stages: dict[str, PipelineStage]) -> None:
    outs = {out.def_path: out for stage in stages.values() for out in stage.outs}

    in_git = {path for path, out in outs.items() if not out.use_cache}

    assert in_git == {f"metrics/{name}.json" for name in (*STEMS, "poc")}
    assert all(outs[path].metric for path in in_git)
    assert not any(out.persist for out in outs.values())


def test_imports_point_one_way(stage_deps: ModuleType) -> None:
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        own = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for module in stage_deps.imported_modules(path):
            name = [*module.split("."), ""][1]
            if own != "__init__" and name not in ("", own) and ORDER.index(name) > ORDER.index(own):
                wrong.append(f"{own} imports {name} ({path.relative_to(PACKAGE)})")

    assert wrong == []


def test_modules_do_not_import_each_other_in_circles(stage_deps: ModuleType) -> None:
    files = {".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    # `from stemscribe import runtime` names the package too; what counts is the module
    edges = {module: stage_deps.imported_modules(path) & set(files) - {module} for module, path in files.items()}

    assert set(TopologicalSorter(edges).static_order()) == set(files)


def test_no_import_is_relative() -> None:
    # tools/stage_deps.py follows absolute imports only
    for path in PACKAGE.rglob("*.py"):
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not any(node.level for node in nodes), path


def test_the_model_knows_tensors_and_nothing_else() -> None:
    ours = ("stemscribe.model", "stemscribe.errors")
    for path in (PACKAGE / "model").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            others = [name for name in names if name.split(".")[0] not in sys.stdlib_module_names | {"torch", "numpy"}]
            assert all(name.startswith(ours) for name in others), (path, others)
