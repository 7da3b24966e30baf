"""How long work shows itself: a bar with rate and remaining time on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

Item = TypeVar("Item")
PLAIN_SECONDS = 10.0  # between two plain lines


def track(items: Iterable[Item], description: str, total: int | None = None, unit: str = "it") -> Iterator[Item]:
    """Yield `items` unchanged while showing how far the work is.

    Args:
        items: what is worked on.
        description: what a person calls this work, such as "rendering".
        total: number of items; taken from `len(items)` where that exists.
        unit: what one item is called.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        yield from _bar(items, description, total, unit)
    else:
        yield from _lines(items, description, total, unit)


def _bar(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    started = time.monotonic()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=total, rate="")
        for done, item in enumerate(items, start=1):
            yield item
            rate = done / max(time.monotonic() - started, 1e-9)
            progress.update(task, completed=done, rate=f"{rate:.1f} {unit}/s")


def _lines(items: Iterable[Item], description: str, total: int | None, unit: str) -> Iterator[Item]:
    started = last = time.monotonic()
    done = 0
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= PLAIN_SECONDS:
            last = now
            rate = done / (now - started)
            left = f", {max(total - done, 0) / rate:.0f} s left" if total else ""
            print(f"{description}: {done}/{total or '?'} {unit}, {rate:.1f} {unit}/s{left}", file=sys.stderr, flush=True)
    print(f"{description}: {done} {unit} in {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
