"""What a comparison ends in: a page of scores, paired differences and speed, as Markdown, and its figures for other tables."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recordings import MIX, Part
from scores import Result, difference, heard_once, interval, scored

from stemscribe.report import markdown
from stemscribe.report.markdown import NOTHING, PLUS_MINUS
from stemscribe.scoring.notes import STANDARD, Tolerances
from stemscribe.scoring.statistics import Interval

LINE = 126  # characters
PITCHED = ("bass", "vocals", "other", MIX)
COLUMN = {"vocals": "vocals (voice-like)", MIX: "full mix, pitched notes"}
SCORE = {"onset": "onset F1", "onset_offset": "onset+offset F1"}


@dataclass(frozen=True)
class Contest:
    """Who took part and how it went."""

    title: str
    command: str  # that made it
    corpus: str  # what was heard, in words
    parts: Mapping[str, Part]
    results: Mapping[str, Mapping[str, Result]]  # who -> part -> result, in the order of the rows
    pairs: Sequence[tuple[str, str]]  # who minus whom
    machine: str  # in words
    models: Mapping[str, str]  # base and specialists -> digest, as base.sha256 knows it
    draws: int
    seed: int
    tolerances: Tolerances = STANDARD


def figures(contest: Contest) -> dict[str, Any]:
    """The scores and differences of the page, for JSON.

    Returns:
        `command`, `corpus`, `models` (ours -> digest), `tracks` (part -> how many), `f1` (who -> part -> score -> mean and
        half_width of the 95 % interval), `differences` (of each pair `one`, `minus` and, by part and score, mean,
        low and high).
    """

    def described(found: Interval, *names: str) -> dict[str, float]:
        return {name: float(getattr(found, name)) for name in ("mean", *names)}  # unrounded: other tables round them

    def differences(one: Mapping[str, Result], other: Mapping[str, Result]) -> dict[str, Any]:
        scores = {part: [score for score in one[part].f1 if score in other[part].f1] for part in one if part in other}
        return {
            part: {
                score: described(difference(one[part], other[part], score, contest.draws, contest.seed), "low", "high")
                for score in each
            }
            for part, each in scores.items()
        }

    return {
        "command": contest.command,
        "corpus": contest.corpus,
        "models": dict(contest.models),
        "tracks": {name: len(part.tracks) for name, part in contest.parts.items()},
        "f1": {
            who: {
                part: {
                    score: described(interval(values, contest.draws, contest.seed), "half_width")
                    for score, values in result.f1.items()
                }
                for part, result in results.items()
            }
            for who, results in contest.results.items()
        },
        "differences": [
            {"one": one, "minus": other, **differences(contest.results[one], contest.results[other])}
            for one, other in contest.pairs
        ],
    }


def page(contest: Contest) -> str:
    """The whole page, ending in a newline."""
    lengths = ", ".join(f"{COLUMN.get(name, name)} {len(part.tracks)}" for name, part in contest.parts.items())
    base = contest.models["base"]
    blocks = [
        f"# {contest.title}",
        _text(f"Made by `{contest.command}`; nothing here is written by hand. Heard: {contest.corpus}."),
        _text(f"Tracks with a note of the part: {lengths}. Our base has the digest `{base[:12]}...` (docs/base.md)."),
        *_reading(contest),
        "## Onset F1",
        _text(f"Mean over tracks {PLUS_MINUS} half of its 95 % interval over the choice of tracks."),
        _scores(contest, "onset"),
        "## Onset+offset F1",
        _scores(contest, "onset_offset"),
        *_differences(contest),
        "## Speed",
        _text(
            "Times real time, with reading and decoding and without loading the model: the median over tracks of seconds of "
            "audio for each second of processor time, all threads added up, and in brackets for each second on the clock. "
            f"{contest.machine}."
        ),
        _speed(contest),
    ]
    return "\n\n".join(blocks) + "\n"


def _reading(contest: Contest) -> list[str]:
    lines = [
        "All hear the same 16 kHz samples of true stems and full mixes; no separator is involved. Notes are scored as they are "
        "decoded, with the same clean-up for all, and instruments inside a part are not told apart. A unison of two "
        "instruments is two notes to find; the last row is what a perfect ear that knows no instruments could reach."
    ]
    deaf = [who for who, results in contest.results.items() if "drums" in contest.parts and "drums" not in results]
    if deaf:
        lines.append(f"{' and '.join(deaf)} know no drums: those columns are ours alone, and of a mix the pitched notes count.")
    return [_text(line) for line in lines]


def _text(paragraph: str) -> str:
    return "\n".join(textwrap.wrap(paragraph, LINE, break_long_words=False, break_on_hyphens=False))


def _scores(contest: Contest, score: str) -> str:
    columns = [(COLUMN.get(part, part), part, score) for part in PITCHED if part in contest.parts]
    if score == "onset" and "drums" in contest.parts:
        columns += [("drums, General MIDI classes", "drums", "onset"), ("drums, five classes", "drums", "five_class")]

    def cell(results: Mapping[str, Result], part: str, name: str) -> str:
        if part not in results:
            return NOTHING
        found = interval(results[part].f1[name], contest.draws, contest.seed)
        return markdown.with_interval(found.mean, found.half_width)

    rows = [[who, *(cell(results, part, name) for _, part, name in columns)] for who, results in contest.results.items()]
    rows.append(
        ["true notes, unisons once", *(_ceiling(contest.parts[part], name, contest.tolerances) for _, part, name in columns)]
    )
    return markdown.table(["", *(title for title, _, _ in columns)], rows)


def _ceiling(part: Part, score: str, tolerances: Tolerances) -> str:
    if part.drums:
        return NOTHING
    values = scored(part, heard_once(part, tolerances.onset), tolerances)[score]
    return f"{sum(values) / len(values):.3f}"


def _differences(contest: Contest) -> list[str]:
    parts = [part for part in (*PITCHED, "drums") if part in contest.parts]
    blocks = []
    for score, title in SCORE.items():
        rows = []
        for one, other in contest.pairs:
            mine, theirs = contest.results[one], contest.results[other]
            shared = [part for part in parts if part in mine and part in theirs and score in mine[part].f1]
            cells = {part: _signed(difference(mine[part], theirs[part], score, contest.draws, contest.seed)) for part in shared}
            if cells:
                rows.append([f"{one} minus {other}", *(cells.get(part, NOTHING) for part in parts)])
        shown = [column for column in range(len(parts) + 1) if any(row[column] != NOTHING for row in rows)]
        if rows:
            header = ["", *(COLUMN.get(part, part) for part in parts)]
            blocks += [
                f"## Differences in {title}",
                _text("Paired by track; the 95 % interval in brackets, bold where it lies above zero."),
                markdown.table([header[column] for column in shown], [[row[column] for column in shown] for row in rows]),
            ]
    return blocks


def _signed(found: Interval) -> str:
    return markdown.difference(found.mean, found.low, found.high)


def _speed(contest: Contest) -> str:
    parts = list(contest.parts)
    rows = []
    for who, results in contest.results.items():
        cells = [
            f"{results[part].heard.cpu:.3g} ({results[part].heard.wall:.3g})" if part in results else NOTHING for part in parts
        ]
        rows.append([who, *cells])
    return markdown.table(["", *(COLUMN.get(part, part) for part in parts)], rows)
