"""What a first `make repro` costs: time of each stage, memory and disk, measured in a fresh copy of this repository.

    python benchmarks/repro.py                       # as a newcomer would: installs everything, runs everything
    python benchmarks/repro.py --test                # the same, and `make test` afterwards
    python benchmarks/repro.py --reuse-environment --profile profiles/ci.yaml    # a quick look

A clean working tree is cloned into a temporary folder; of another one, or with a profile, the files that git knows or would
take are copied there and committed. So nothing here is touched. Stages are told apart by the lines that DVC prints, and those
that run side by side are one. CPU time is the sum over the whole tree of processes. Memory is the sum of their resident sizes,
sampled; pages that processes share count more than once, so the true peak is a little lower. It prints Markdown for
docs/benchmarks.md.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from stemscribe.report.markdown import table

STAGE = re.compile(r"Running stages? '?([\w, ]+?)'?(?:, \d+ at a time)?:")  # one by DVC, or several by tools/side_by_side.py
SAMPLE_SECONDS = 0.25
SHOWN_LINES = 20  # of the output of a command that failed


@dataclass(frozen=True)
class Phase:
    """A stage, or a whole command."""

    name: str
    wall: float  # seconds
    cpu: float  # seconds


@dataclass(frozen=True)
class Measured:
    """A command from start to end."""

    total: Phase
    stages: tuple[Phase, ...]
    peak_bytes: int


class Watch:
    """Looks at a process and all its descendants until they are gone."""

    def __init__(self, pid: int) -> None:
        self._root = psutil.Process(pid)
        self._gone = threading.Event()
        self.peak_bytes = 0
        self.cpu = 0.0
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def look(self) -> float:
        """CPU seconds that the tree has used so far; an ended process is counted by the parent that waited for it."""
        resident, cpu = 0, 0.0
        try:
            processes = [self._root, *self._root.children(recursive=True)]
        except psutil.Error:
            return self.cpu
        for process in processes:
            try:
                times, memory = process.cpu_times(), process.memory_info()
            except psutil.Error:
                continue  # ended in between
            cpu += times.user + times.system + times.children_user + times.children_system
            resident += memory.rss
        self.peak_bytes, self.cpu = max(self.peak_bytes, resident), max(self.cpu, cpu)
        return self.cpu

    def stop(self) -> None:
        """End the sampling."""
        self._gone.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._gone.wait(SAMPLE_SECONDS):
            self.look()


def measure(name: str, command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Measured:
    """Run a command and show its output; its stages are what DVC announces.

    Raises:
        SystemExit: if the command fails.
    """
    print(f"\n$ {' '.join(command)}", file=sys.stderr, flush=True)
    started, used = time.monotonic(), _own_children()
    marks: list[tuple[str, float, float]] = []
    lines: list[str] = []
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        watch = Watch(process.pid)
        assert process.stdout is not None
        for line in process.stdout:
            sys.stderr.write(line)
            lines.append(line)
            if found := STAGE.match(line):
                marks.append((found[1], time.monotonic() - started, watch.look()))
        process.wait()
        watch.stop()
    wall, cpu = time.monotonic() - started, _own_children() - used
    if process.returncode:
        sys.exit(f"benchmark: `{' '.join(command)}` ended with {process.returncode}:\n{''.join(lines[-SHOWN_LINES:])}")
    ends = [*marks[1:], ("", wall, cpu)][: len(marks)]
    stages = [Phase(stage, end[1] - at, end[2] - spent) for (stage, at, spent), end in zip(marks, ends, strict=True)]
    if marks:
        stages.insert(0, Phase("before the first stage", marks[0][1], marks[0][2]))
    return Measured(Phase(name, wall, cpu), tuple(stages), watch.peak_bytes)


def _own_children() -> float:
    times = os.times()
    return times.children_user + times.children_system


def copy_repository(source: Path, target: Path, environment: Mapping[str, str], profile: str | None) -> None:
    """A clone, or where something is not committed the files that git knows or would take, in a repository of their own."""
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=source, check=True, capture_output=True, text=True).stdout
    if not changed and not profile:
        subprocess.run(["git", "clone", "-q", str(source), str(target)], check=True)
        return
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=source, check=True, capture_output=True, text=True
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, target / name)
    if profile:
        subprocess.run([sys.executable, "tools/apply_profile.py", profile], cwd=target, env=environment, check=True)
    git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run([*git[:1], "init", "-q"], cwd=target, check=True)
    subprocess.run([*git, "add", "-A"], cwd=target, check=True)
    subprocess.run([*git, "commit", "-q", "-m", "benchmark"], cwd=target, check=True)


def disk_bytes(folder: Path) -> int:
    """Bytes allocated below a folder; hard links count once."""
    seen: dict[tuple[int, int], int] = {}
    for root, _, names in os.walk(folder):
        for name in names:
            facts = (Path(root) / name).lstat()
            seen[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
    return sum(seen.values())


def phase_rows(phases: Iterable[Phase]) -> list[list[str]]:
    """Seconds of wall and CPU time."""
    return [[phase.name, f"{phase.wall:.1f}", f"{phase.cpu:.1f}"] for phase in phases]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure `make repro` in a fresh copy of this repository.")
    parser.add_argument("--profile", help="apply this profile of params.yaml first (profiles/ci.yaml: a quick look)")
    parser.add_argument("--reuse-environment", action="store_true", help="install nothing; use the Python that runs this")
    parser.add_argument("--test", action="store_true", help="also measure `make test`")
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    options = parser.parse_args()
    source = Path(__file__).resolve().parent.parent
    folder = Path(tempfile.mkdtemp(prefix="stemscribe-benchmark-"))
    environment = {**os.environ, "PYTHONPATH": str(folder / "src")}
    try:
        copy_repository(source, folder, environment, options.profile)
        commands: dict[str, list[str]] = {}
        if options.reuse_environment:
            environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
            commands["`make repro`"] = ["sh", "-c", "python tools/side_by_side.py && dvc repro"]
        else:
            environment.pop("PYTHONPATH")
            environment["PATH"] = f"{folder / '.venv/bin'}{os.pathsep}{environment['PATH']}"
            commands |= {"`make env`": ["make", "env"], "`make repro` after it": ["make", "repro"]}
        first = [measure(name, command, folder, environment) for name, command in commands.items()]
        second = measure("second `dvc repro`", ["dvc", "repro"], folder, environment)
        if second.stages:
            sys.exit(f"benchmark: the second run ran {second.stages[1].name} again; something is not reproducible")
        peak = max(measured.peak_bytes for measured in first)
        parts = {part or "all": disk_bytes(folder / part) for part in ("", ".venv", ".dvc/cache")}
        rest = [second.total]
        if options.test:
            rest.append(measure("`make test`", ["make", "test"], folder, environment).total)
        both = Phase("**first run in all**", sum(m.total.wall for m in first), sum(m.total.cpu for m in first))
        rows = [phase for m in first for phase in (m.total, *(Phase(f"- {s.name}", s.wall, s.cpu) for s in m.stages))]
        print(table(("what", "wall, s", "CPU, s"), phase_rows([*rows, both, *rest])))
        sizes = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in parts.items())
        print()
        print(table(("what", "value"), [["peak memory", f"{peak / 1e9:.2f} GB"], ["disk", sizes], ["machine", _machine()]]))
    finally:
        if options.keep:
            print(f"kept {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _machine() -> str:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 1e9
    return f"{cores} cores, {memory:.0f} GB, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
