"""Temporary clones of this repository, in which git, dvc and stemscribe run as they do for a user.

    project, outcome = whole_graph(folder)              # the ci profile after one `make repro`, committed
    project.edit("stems.drums.finetune.steps", 6)
    assert project.dvc("repro").stages == ["finetune_drums", "predict_drums", "evaluate_drums", "report"]

A clone runs its own source code and has its own cache; it sees no settings of the machine's DVC. Downloads are shared with
the repository, so that the corpus is fetched once.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from stemscribe import runtime

REPOSITORY = Path(__file__).resolve().parents[1]
PROFILE = "profiles/ci.yaml"
RUNNING = re.compile(r"^(?:\w+ \| )?Running stage '(\w+)':$", re.MULTILINE)
SIDE_BY_SIDE = {"STEMSCRIBE_THREADS": "2"}  # two trainings at a time, of one thread each
GIT_IDENTITY = {f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
TIMEOUT = 900  # seconds, for the slowest command on a busy machine

# Every file that Python code of a stage opens, as lines "r PATH" and "w PATH"; libraries in C open theirs unseen.
TRACER = """
import os, sys
folder, stage = os.environ.get("PROJECT_TRACE"), os.environ.get("DVC_STAGE")
if folder and stage:
    trace = os.open(f"{folder}/{stage}.{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    def note(event, arguments):
        if event == "open" and isinstance(arguments[0], (str, os.PathLike)):
            kind = "w" if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) else "r"
            os.write(trace, f"{kind} {os.path.abspath(arguments[0])}\\n".encode())
    sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Outcome:
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def stages(self) -> list[str]:
        """The stages that ran, in order; those that DVC restored from the cache are not among them."""
        return RUNNING.findall(self.out)

    @property
    def complaints(self) -> list[str]:
        """The lines that stemscribe addressed to the person."""
        return [line for line in self.err.splitlines() if line.startswith("stemscribe:")]


@dataclass(frozen=True)
class Project:
    """A clone, by its folder."""

    root: Path

    def run(self, *command: str, expect: int | None = 0, **environment: str) -> Outcome:
        """Run a command in the clone; any exit code will do if `expect` is None."""
        done = subprocess.run(
            command, cwd=self.root, env=self._environment() | environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert expect in (None, done.returncode), f"{' '.join(command)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Outcome(done.returncode, done.stdout, done.stderr)

    def dvc(self, *arguments: str, expect: int | None = 0) -> Outcome:
        """Run DVC."""
        return self.run("dvc", *arguments, expect=expect)

    def git(self, *arguments: str) -> Outcome:
        """Run git."""
        return self.run("git", "-c", "commit.gpgsign=false", *arguments)

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a terminal does."""
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=self._environment() | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def edit(self, name: str, value: Any) -> None:
        """Set one dotted name in params.yaml, whether or not it exists."""
        path = self.root / "params.yaml"
        params = yaml.safe_load(path.read_text())
        *sections, key = name.split(".")
        block = params
        for section in sections:
            block = block[section]
        block[key] = value
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def replace(self, path: str, content: bytes) -> None:
        """Give a file other content; DVC's links are read-only."""
        (self.root / path).unlink()
        (self.root / path).write_bytes(content)

    def partial_results(self) -> list[Path]:
        """What an interrupted writer would leave beside its target."""
        return [path for path in self.root.rglob(".*.partial") if ".dvc" not in path.parts]

    def fork(self, root: Path) -> "Project":
        """An independent copy without what trainings left in work/; only DVC's cache, which nobody writes to, is shared."""
        shutil.copytree(self.root, root, symlinks=True, ignore=_scratch)
        shutil.copytree(self.root / ".dvc/cache", root / ".dvc/cache", copy_function=os.link)
        return Project(root)

    def clone(self, root: Path) -> "Project":
        """What `git clone` brings onto another machine."""
        self.git("clone", "--quiet", str(self.root), str(root))
        return Project(root)

    def _environment(self) -> dict[str, str]:
        beside = self.root.parent
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))}
        inherited.pop("STEMSCRIBE_CORPUS_DIR", None)
        downloads = runtime.downloads_dir()
        return inherited | {
            **GIT_IDENTITY,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join((str(self.root / "src"), str(beside / "tracer"))),
            "DVC_GLOBAL_CONFIG_DIR": str(beside / "no-settings"),
            "DVC_SYSTEM_CONFIG_DIR": str(beside / "no-settings"),
            "DVC_SITE_CACHE_DIR": str(beside / "site-cache"),
            "STEMSCRIBE_DOWNLOADS_DIR": str(downloads if downloads.is_absolute() else REPOSITORY / downloads),
            "STEMSCRIBE_DEVICE": "cpu",
            "SHELL": "/bin/sh",  # for DVC; where it is dash it does not make room for its last command, as bash does
            "STEMSCRIBE_THREADS": "1",  # several threads on busy processors wait for each other most of the time
        }


def _scratch(folder: str, names: Sequence[str]) -> set[str]:
    """The folder `work` beside a dvc.lock, and `cache` in .dvc."""
    unwanted = "cache" if Path(folder).name == ".dvc" else "work" if "dvc.lock" in names else ""
    return {unwanted} & set(names)


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Look until the condition holds, for a quarter of an hour at most."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def clone_working_tree(root: Path) -> Project:
    """The repository as it lies here, uncommitted changes included, as the only commit of a new clone."""
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"), cwd=REPOSITORY, capture_output=True, check=True
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, root / name)
    project = Project(root)
    project.git("init", "--quiet")
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "the working tree")
    return project


def whole_graph(root: Path) -> tuple[Project, Outcome]:
    """A clone in which `make repro` ran once with the ci profile; every stage left its trace in trace/ beside it."""
    (root.parent / "tracer").mkdir()
    (root.parent / "tracer" / "sitecustomize.py").write_text(TRACER)
    (root.parent / "trace").mkdir()
    project = clone_working_tree(root)
    project.run("python", "tools/apply_profile.py", PROFILE)
    tracing = {"PROJECT_TRACE": str(root.parent / "trace")}
    first = project.run("python", "tools/side_by_side.py", **SIDE_BY_SIDE, **tracing)
    rest = project.run("dvc", "repro", **tracing)
    project.git("add", "--all")
    project.git("commit", "--quiet", "--message", "the ci profile and its results")
    return project, Outcome(rest.code, first.out + rest.out, first.err + rest.err)


def traced(root: Path, stage: str) -> dict[str, set[str]]:
    """The paths below `root` that a stage opened, relative to it: those under "r" were read, those under "w" written.

    Code counts where it was imported, which shows in the look for its compiled form; what a stage merely hashes does not. A
    file written beside its target counts as the target.
    """
    paths: dict[str, set[str]] = {"r": set(), "w": set()}
    for trace in (root.parent / "trace").glob(f"{stage}.*"):
        for line in trace.read_text().splitlines():
            kind, path = line.split(" ", 1)
            compiled = re.fullmatch(r"(.*/)__pycache__/(\w+)\..*", path)
            if path.startswith(f"{root}/") and (kind == "r" if compiled else not path.endswith(".py")):
                target = f"{compiled[1]}{compiled[2]}.py" if compiled else re.sub(r"/\.([^/]+)\.partial(?=/|$)", r"/\1", path)
                paths[kind].add(target.removeprefix(f"{root}/"))
    return paths
