"""A request to stop, Ctrl-C or SIGTERM, as one KeyboardInterrupt that cannot get lost.

The promise: within `watching`, the first request raises KeyboardInterrupt in the main thread, and the ones after it do nothing,
so that what is half written can be removed in peace; a killed `dvc` has a SIGTERM sent for each of its threads. Python prints
and forgets an exception that a signal handler raises while a destructor runs; here it is raised again a moment later. A library
may make anything of it: nothing, SystemExit, an error of its own from tidying up (Lightning asks for the length of loaders that
were just being opened). Out of the block comes a KeyboardInterrupt.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

REQUESTS = (signal.SIGINT, signal.SIGTERM)
AGAIN_AFTER = 0.05  # s, by then the destructor is done

_requested = False


@contextmanager
def watching() -> Iterator[None]:
    """Turn the first request to stop into KeyboardInterrupt while the block runs; for the main thread.

    After a request the process is to end, and further ones stay without effect until it has.

    Raises:
        KeyboardInterrupt: if there was a request, however the block ended.
    """
    global _requested
    _requested = False
    handlers = {number: signal.signal(number, _request) for number in REQUESTS}
    handlers[signal.SIGALRM] = signal.signal(signal.SIGALRM, _raise)
    unraisable, sys.unraisablehook = sys.unraisablehook, _raise_later
    try:
        yield
        check()
    except (Exception, SystemExit) as error:
        if _requested:
            raise KeyboardInterrupt from error
        raise
    finally:
        sys.unraisablehook = unraisable
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, signal.SIG_IGN if _requested and number in REQUESTS else handler)
        _requested = False


def check() -> None:
    """Stop here if somebody asked for it: for long loops inside libraries that catch what they should not.

    Raises:
        KeyboardInterrupt: if so.
    """
    if _requested:
        signal.setitimer(signal.ITIMER_REAL, 0)  # one is enough; a second would fall into the tidying up
        raise KeyboardInterrupt


def _request(signum: int, frame: FrameType | None) -> None:
    global _requested
    first, _requested = not _requested, True
    if first:
        raise KeyboardInterrupt


def _raise(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _raise_later(lost: "sys.UnraisableHookArgs") -> None:
    if lost.exc_type is KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, AGAIN_AFTER)
    else:
        sys.__unraisablehook__(lost)
