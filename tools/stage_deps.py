"""Which source files a stage runs: the closure of its imports, for dvc.yaml's `deps`.

    python tools/stage_deps.py   # brings the code dependencies in dvc.yaml and pretrain/dvc.yaml up to date

Imports inside functions count too, and so do the `__init__.py` of the packages on the way. Whatever else stands in the two
files stays as it is. tests/test_graph.py compares the result with dvc.yaml.
"""

import ast
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ROOT = REPOSITORY / "src"
PIPELINES = ("dvc.yaml", "pretrain/dvc.yaml")
COMMAND = re.compile(r"    cmd: exec python -m (stemscribe\.[\w.]+)")
CODE = re.compile(r"      - (?P<up>(\.\./)?)src/stemscribe/[\w/]+\.py")


def module_file(name: str) -> Path | None:
    """The source file of a dotted module name, if it is one of ours."""
    path = ROOT.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported_modules(path: Path) -> set[str]:
    """Our modules that a source file names in its import statements, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        found.update(name for name in names if name.split(".")[0] == "stemscribe" and module_file(name))
    return found


def closure(module: str) -> list[Path]:
    """All our source files that running `module` can import, relative to the repository, sorted."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        parts = name.split(".")
        waiting.extend(".".join(parts[:end]) for end in range(1, len(parts)))
        path = module_file(name)
        assert path is not None, name
        waiting.extend(imported_modules(path))
    files = {path for name in seen if (path := module_file(name))}
    return sorted(path.relative_to(ROOT.parent) for path in files)


def with_dependencies(pipeline: str) -> str:
    """The text of a dvc.yaml in which each stage depends on exactly the code that its command can import."""
    lines: list[str] = []
    files: list[Path] = []
    for line in pipeline.splitlines():
        if command := COMMAND.match(line):
            files = closure(command[1])
        if code := CODE.fullmatch(line):
            lines.extend(f"      - {code['up']}{file.as_posix()}" for file in files)
            files = []
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name in PIPELINES:
        path = REPOSITORY / name
        before = path.read_text(encoding="utf-8")
        after = with_dependencies(before)
        path.write_text(after, encoding="utf-8")
        print(f"{name}: {'as it was' if after == before else 'updated'}")
