"""Train the specialists that are due, as many at a time as there are processors; `make repro` does so before `dvc repro`.

    python tools/side_by_side.py

One `dvc repro` runs one stage at a time, and the training of a small model does not keep two processors busy. So everything
before the trainings is brought up to date; then each training that is due is a `dvc repro -s` of its own with its share of the
threads (STEMSCRIBE_THREADS). Where one training fills the machine, on a GPU or with a large base, nothing happens here, and
`dvc repro` trains one stem after the other. Ctrl-C and SIGTERM are handed on to the trainings, which keep what they have.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from stemscribe import interruption, runtime
from stemscribe.errors import StemscribeError
from stemscribe.stages import INTERRUPTED, STEMS
from stemscribe.stages.finetune import BASE
from stemscribe.stages.predict import is_small

TRAININGS = tuple(f"finetune_{stem}" for stem in STEMS)
BEFORE = ("base", "prepare_mix", *(f"prepare_{stem}" for stem in STEMS))


def main() -> int:
    """Train what is due; the exit code is that of the first command that failed."""
    if runtime.device() != "cpu" or min(runtime.workers(), runtime.threads()) == 1 or not due():
        return 0
    code = subprocess.run(("dvc", "repro", *BEFORE)).returncode
    if code or not is_small(BASE):
        return code
    stages = due(TRAININGS)
    at_once = min(runtime.workers(), runtime.threads(), len(stages))
    if at_once < 2:
        return 0
    print(f"Running stages {', '.join(stages)}, {at_once} at a time:", flush=True)
    with ThreadPoolExecutor(at_once) as pool, Trainings(runtime.threads() // at_once) as trainings:
        codes = list(pool.map(trainings.run, stages))
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


class Trainings:
    """Runs stages, each from a thread of the caller's; whoever leaves the block by an exception takes them along.

    A training is in a process group of its own. So that Ctrl-C reaches it once, and with it the whole of it, as DVC expects.
    """

    def __init__(self, threads: int) -> None:
        self._environment = os.environ | {"STEMSCRIBE_THREADS": str(threads)}
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = False
        self._lock = threading.Lock()

    def __enter__(self) -> "Trainings":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        with self._lock:
            self._ended = True
            running = tuple(self._running)
        for process in running:
            os.killpg(process.pid, signal.SIGINT)
        for process in running:
            process.wait()

    def run(self, stage: str) -> int:
        """Run a stage, show its lines behind its stem's name, and return its exit code."""
        with self._process(stage) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip():
                    print(f"{stage.removeprefix('finetune_')} | {line.rstrip()}", flush=True)
        return process.returncode

    @contextmanager
    def _process(self, stage: str) -> Iterator[subprocess.Popen[str]]:
        with self._lock:
            if self._ended:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                ("dvc", "--wait-for-lock", "repro", "--single-item", stage),
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                process_group=0,
            )
            self._running.add(process)
        try:
            with process:
                yield process
        finally:
            with self._lock:
                self._running.discard(process)


if __name__ == "__main__":
    try:
        with interruption.watching():
            sys.exit(main())
    except StemscribeError as error:
        sys.exit(f"stemscribe: {error}")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
