"""One way to spread independent pieces of work over processes; results come back in the order of the items.

A worker's error reaches the caller as it was raised; the work still waiting is dropped. Ctrl-C ends the workers where they
are, so what they write must be the caller's to tidy up. With one worker everything runs in
this process, which is also the reference that tests compare with.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from typing import TypeVar

from stemscribe import progress
from stemscribe.errors import StemscribeError
from stemscribe.runtime import end_with_parent

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_in_processes(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, description: str, unit: str = "it"
) -> list[Result]:
    """Apply a module-level `function` to every item.

    Args:
        function: importable by name, with one argument.
        items: what to work on; each must be picklable when `workers` is above 1.
        workers: processes to use; 1 means this one.
        description: what progress calls the work.
        unit: what progress calls one item.

    Raises:
        StemscribeError: if a worker was killed; whatever `function` raises comes through as it is.
    """
    with closing(_results(function, items, min(workers, len(items)))) as results:  # no worker outlives what interrupts this
        return list(progress.track(results, description, len(items), unit))


def _results(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    if workers <= 1:
        yield from map(function, items)
        return
    # Spawned processes inherit no locks or threads of libraries that the caller has already started.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    # A worker whose caller was killed would wait for work for ever.
    pool = ProcessPoolExecutor(workers, context, initializer=end_with_parent, initargs=(signal.SIGKILL, os.getpid()))
    try:
        # A terminal sends Ctrl-C to all of them; it is for the caller alone, or each worker would show where it was. (Starting
        # the resource tracker would unblock it; the pool has done that by now.)
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            results = pool.map(function, items)  # starts the workers, which inherit the mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        yield from results
    except (KeyboardInterrupt, GeneratorExit):  # the latter where the caller was interrupted between two results
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()
        raise
    except BrokenProcessPool as error:
        raise StemscribeError(
            "a worker process was killed, perhaps for want of memory; run again with fewer, as in STEMSCRIBE_WORKERS=1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
