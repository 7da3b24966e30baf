"""The stages of dvc.yaml, one file each: `python -m stemscribe.stages.<stage> [stem]`.

A stage reads, does, writes; it touches only the paths that dvc.yaml declares for it. `run_stage` is their common way out:
one line for people and an exit code, 2 for wrong use and 1 for failure.
"""

import os
import sys
from collections.abc import Callable, Sequence
from types import TracebackType

from stemscribe import interruption, runtime
from stemscribe.errors import StemscribeError, UsageError

if "DVC_STAGE" in os.environ:  # an orphaned training would go on and write into a later run
    runtime.end_with_parent()  # here, as the libraries of a stage take seconds to load

# Before torch is loaded: its threads shall sleep while they wait for each other. By default they spin, and where anything else
# runs on the machine a training step then takes several times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

INTERRUPTED = 130  # the shell's exit code for Ctrl-C
INTERRUPTION = "stemscribe: interrupted; the next run continues from what is finished"
STEMS = ("bass", "drums", "vocals", "other")  # the names that dvc.yaml spells out


def run_stage(main: Callable[[Sequence[str]], None], argv: Sequence[str] | None = None) -> int:
    """Run a stage's `main`, turn errors for people into one line, and return the exit code."""
    try:
        with interruption.watching():
            main(sys.argv[1:] if argv is None else argv)
    except StemscribeError as error:
        print(f"stemscribe: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(INTERRUPTION, file=sys.stderr)
        return INTERRUPTED
    return 0


def _without_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What nobody caught, as Python shows it; of Ctrl-C while a stage is still loading its libraries one line."""
    if issubclass(kind, KeyboardInterrupt):
        print(INTERRUPTION, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _without_traceback


def one_stem(argv: Sequence[str], stems: Sequence[str] = STEMS) -> str:
    """The one of `stems` that a stage was asked for.

    Raises:
        UsageError: if there is not exactly one known name.
    """
    known = ", ".join(stems)
    if len(argv) != 1:
        raise UsageError(f"name one stem, not {len(argv)}; stems are {known}")
    if argv[0] not in stems:
        raise UsageError(f"no stem {argv[0]!r} in params.yaml; stems are {known}")
    return argv[0]
