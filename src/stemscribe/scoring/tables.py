"""Rows for plots/<stem>/: one file, one kind of row, columns that `dvc plots` and a spreadsheet read alike.

    tracks.csv      a row for each head, condition and test track with a note of the stem
    conditions.csv  a row for each head and condition: means over tracks, intervals, pooled rates, gain over the base
    on the mix, gain over the headline's head
    classes.csv     a row for each head, condition and part of the stem: drums by class, pitched notes by instrument
    silence.csv     a row for each head, condition and test track: notes reported where the stem is silent; the header
    alone if there is no silence

The headline's head comes first. The shuffled-time baseline has no place in tracks.csv, where it would be one more dot; it
stands in conditions.csv for context.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from stemscribe.scoring.conditions import SHUFFLED_TIME
from stemscribe.scoring.counts import Counts
from stemscribe.scoring.summary import Summary, score_names

DIGITS = 6  # after the point; of a p-value in all

Cell = str | int | float | None
Row = dict[str, Cell]

SILENCE_COLUMNS = ("stem", "track", "head", "condition", "false_notes", "silent_seconds", "false_notes_per_minute")


def track_rows(stem: str, summaries: Mapping[str, Summary], drums: bool) -> list[Row]:
    """Rows of tracks.csv for one head."""
    return [
        {
            "stem": stem,
            "track": track.track,
            "head": summary.head,
            "condition": condition,
            "reference_notes": track.card["onset"].reference,
            "estimated_notes": track.card["onset"].estimated,
            "precision": track.card["onset"].precision,
            "recall": track.card["onset"].recall,
            **{f"{score}_f1": _f1_where_defined(track.card[score]) for score in score_names(drums)},
        }
        for condition, summary in summaries.items()
        if condition != SHUFFLED_TIME
        for track in summary.scored
    ]


def _f1_where_defined(counts: Counts) -> float | None:
    return counts.f1 if counts.defined else None


def condition_rows(stem: str, summaries: Mapping[str, Summary], drums: bool) -> list[Row]:
    """Rows of conditions.csv for one head."""
    return [{"stem": stem, **_condition_row(summary, drums)} for summary in summaries.values()]


def _condition_row(summary: Summary, drums: bool) -> Row:
    pooled, against, head = summary.pooled("onset"), summary.against_base, summary.against_head
    row: Row = {
        "head": summary.head,
        "condition": summary.condition,
        "tracks": len(summary.scored),
        "onset_f1": summary.onset.mean,
        "onset_f1_ci": summary.onset.half_width,
        "onset_f1_low": summary.onset.low,
        "onset_f1_high": summary.onset.high,
        "precision": summary.mean("onset", "precision"),
        "recall": summary.mean("onset", "recall"),
    }
    row |= {f"{score}_f1": summary.mean(score) for score in score_names(drums) if score != "onset"}
    row |= {
        "pooled_onset_f1": pooled.f1,
        "pooled_precision": pooled.precision,
        "pooled_recall": pooled.recall,
        "reference_notes": pooled.reference,
        "estimated_notes": pooled.estimated,
        "delta_vs_base": against.gain.mean if against else None,
        "delta_ci": against.gain.half_width if against else None,
        "delta_low": against.gain.low if against else None,
        "delta_high": against.gain.high if against else None,
        "p_value": against.p_value if against else None,
        "improved_tracks": against.improved if against else None,
        "delta_vs_head": head.gain.mean if head else None,
        "delta_vs_head_low": head.gain.low if head else None,
        "delta_vs_head_high": head.gain.high if head else None,
        # Notes turned in time fall into silence by construction; the number would mean nothing.
        "false_notes_per_minute": None if summary.condition == SHUFFLED_TIME else summary.false.per_minute,
        "silent_minutes": summary.false.silent_seconds / 60,
    }
    return row


def class_rows(stem: str, head: str, classes: Mapping[str, Mapping[tuple[str, str], Counts]]) -> list[Row]:
    """Rows of classes.csv for one head, pooled over tracks; classes that only a prediction names have no F1."""
    return [
        {
            "stem": stem,
            "head": head,
            "grouping": grouping,
            "class": name,
            "condition": condition,
            "reference_notes": counts.reference,
            "estimated_notes": counts.estimated,
            "precision": counts.precision,
            "recall": counts.recall,
            "onset_f1": _f1_where_defined(counts),
        }
        for condition, parts in classes.items()
        if condition != SHUFFLED_TIME
        for (grouping, name), counts in parts.items()
    ]


def silence_rows(stem: str, summaries: Mapping[str, Summary]) -> list[Row]:
    """Rows of silence.csv for one head, for tracks with any silence."""
    cells = [
        (stem, track.track, summary.head, condition, track.false.notes, track.false.silent_seconds, track.false.per_minute)
        for condition, summary in summaries.items()
        if condition != SHUFFLED_TIME
        for track in summary.tracks
        if track.false.silent_seconds > 0
    ]
    return [dict(zip(SILENCE_COLUMNS, row, strict=True)) for row in cells]


def write_table(path: Path, rows: Sequence[Row], columns: Sequence[str] = ()) -> None:
    """Write rows as CSV: `DIGITS` digits, empty cells for what is undefined; equal rows give equal bytes.

    Args:
        path: of the file.
        rows: all with the same columns.
        columns: the header where there are no rows, so that the file stays a table.
    """
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(rows[0] if rows else columns)
        writer.writerows([_text(name, cell) for name, cell in row.items()] for row in rows)


def _text(name: str, cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:.{DIGITS}g}" if name == "p_value" else f"{cell:.{DIGITS}f}"  # one of 1e-7 is not 0
    return str(cell)
