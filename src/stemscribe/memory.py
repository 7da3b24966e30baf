"""Too little memory for what was asked: one line that says what was asked, what would fit and where to change it.

The promise: what is said to fit has been tried. After a failure for want of memory the same work is done once with half as
much, and again, until it goes through; so the number errs on the safe side. Where a system kills a process instead of refusing
it memory (Linux with overcommitment, a container's limit), nobody is left to say anything.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from stemscribe.errors import StemscribeError

# Refusals that are plain RuntimeErrors: of torch's allocator on the CPU, and of the libraries that allocate for themselves.
_REFUSALS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


@contextmanager
def memory_for(asked: int, what: str, setting: str, attempt: Callable[[int], object]) -> Iterator[None]:
    """Tell people what would fit if the block runs out of memory.

    What the functions held that failed is let go first; what the block itself has named is not, so let it call one function.

    Args:
        asked: how many segments the block takes at a time.
        what: is done with them, e.g. `training on`.
        setting: where the number is chosen.
        attempt: does the block's work with that many segments, and leaves no trace.

    Raises:
        StemscribeError: instead of the allocator's error.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the failed attempt
        refused = f"too little memory for {what} {asked} segments at a time"
    else:
        return
    fitting = largest_fitting(asked // 2, attempt)
    raise StemscribeError(
        f"{refused}; {fitting} fit: set {setting} to {fitting}"
        if fitting
        else f"{refused}, and even for one; take a machine or a device with more"
    )


def largest_fitting(limit: int, attempt: Callable[[int], object]) -> int:
    """The first of limit, limit / 2, limit / 4 ... that `attempt` has memory for; 0 if none is."""
    size = limit
    while size > 0:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(size)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        else:
            return size
        size //= 2
    return 0


def out_of_memory(error: BaseException) -> bool:
    """Whether an allocator, of a device, a library or the CPU, has refused."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(refusal in str(error) for refusal in _REFUSALS)
