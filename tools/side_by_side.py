"""Train the specialists that are due, two at a time; `make repro` does so before `dvc repro`.

    python tools/side_by_side.py

One `dvc repro` runs one stage at a time, and the training of a small model makes little of a second thread. So everything
before the trainings is brought up to date; then each training that is due is a `dvc repro -s` of its own with half of the
threads (STEMSCRIBE_THREADS), also where it is the only one: the number of threads decides the rounding, and a training that was
interrupted shall go on as it began. Where one training fills the machine (a GPU, a large base, a single thread) nothing happens
here, and `dvc repro` trains one stem after the other. Ctrl-C, SIGTERM and SIGHUP end all of it as Ctrl-C ends a `dvc repro`.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from stemscribe import interruption, runtime
from stemscribe.errors import StemscribeError
from stemscribe.stages import INTERRUPTED, STEMS
from stemscribe.stages.finetune import BASE
from stemscribe.stages.predict import is_small

AT_ONCE = 2  # each takes up to 2.2 GB; README promises that 6 GB are enough
TRAININGS = tuple(f"finetune_{stem}" for stem in STEMS)
BEFORE = ("base", "prepare_mix", *(f"prepare_{stem}" for stem in STEMS))
PATIENCE_SECONDS = 60.0  # for a command that was asked to stop


def main() -> int:
    """Train what is due; the exit code is that of the first command that failed."""
    if runtime.device() != "cpu" or runtime.threads() < AT_ONCE or not due():
        return 0
    with Commands() as commands:
        code = commands.run(("dvc", "repro", *BEFORE))
    if code or not is_small(BASE):
        return code
    stages = due(TRAININGS)
    if not stages:
        return 0
    print(f"Running stages {', '.join(stages)}, {AT_ONCE} at a time:", flush=True)
    environment = os.environ | {"STEMSCRIBE_THREADS": str(runtime.threads() // AT_ONCE)}
    with ThreadPoolExecutor(AT_ONCE) as pool, Commands(environment) as commands:
        codes = list(pool.map(lambda stage: train(stage, commands), stages))
    return next((code for code in codes if code), 0)


def due(stages: Sequence[str] = ()) -> list[str]:
    """Those of the stages, all by default, that DVC takes for changed.

    Raises:
        StemscribeError: if DVC does not say.
    """
    asked = subprocess.run(("dvc", "status", "--json", *stages), stdout=subprocess.PIPE, text=True)
    if asked.returncode:
        raise StemscribeError("`dvc status` failed; see above")
    changed: dict[str, Any] = json.loads(asked.stdout)
    return [name for name in stages or changed if name in changed]


def train(stage: str, commands: "Commands") -> int:
    """Run a stage whose inputs are there, its lines behind the stem's name."""
    command = ("dvc", "--wait-for-lock", "repro", "--single-item", stage)
    return commands.run(command, stage.removeprefix("finetune_"))


class Commands:
    """Runs commands, each from a thread of the caller's; whoever leaves the block by an exception takes them along.

    Each is in a process group of its own. The terminal's Ctrl-C does not reach that group, so `dvc` and its stage get exactly
    the one request to stop that is sent from here.
    """

    def __init__(self, environment: dict[str, str] | None = None) -> None:
        self._environment = environment
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def __enter__(self) -> "Commands":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            self._ended = True
            running = tuple(self._running)
        for process in running:
            _signal(process, signal.SIGINT)
        for process in running:
            try:
                process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)

    def run(self, command: Sequence[str], label: str | None = None) -> int:
        """Run a command and return its exit code; with a label, its lines are shown behind that."""
        with self._started(command, subprocess.PIPE if label else None) as process:
            for line in process.stdout or ():
                if line.strip():
                    print(f"{label} | {line.rstrip()}", flush=True)
            process.wait()
        return process.returncode

    @contextmanager
    def _started(self, command: Sequence[str], output: int | None) -> Iterator[subprocess.Popen[str]]:
        with self._lock:
            if self._ended:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                text=True,
                process_group=0,
            )
            self._running.add(process)
        yield process  # if this raises, `__exit__` sees to the process
        with self._lock:
            self._running.discard(process)


def _signal(process: "subprocess.Popen[str]", number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _hang_up(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, _hang_up)
    try:
        with interruption.watching():
            code = main()
    except StemscribeError as error:
        print(f"stemscribe: {error}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)
