"""Markdown for pages that are committed: tables, scores with half of an interval, and differences."""

from collections.abc import Iterable, Sequence

PLUS_MINUS = "\N{PLUS-MINUS SIGN}"
NOTHING = "\N{EN DASH}"
"""Stands in a cell for what there is not."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table without a newline at its end."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def with_interval(mean: float, half_width: float) -> str:
    """A mean and half of its 95 % interval."""
    return f"{mean:.3f} {PLUS_MINUS} {half_width:.3f}"


def difference(mean: float, low: float, high: float) -> str:
    """A mean difference and its 95 % interval; bold where that lies above zero."""
    text = f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
    return f"**{text}**" if low > 0 else text
