"""Write the results of the last runs between the markers `<!-- results -->` and `<!-- peers -->` and their ends in README.md.

    python tools/readme_table.py

Every number comes from plots/<stem>/conditions.csv, a row for each head by which the models were read. The headline's head
stands first and must agree with metrics/<stem>.json. What "separated" means comes from data/separated/<stem>/manifest.json.
Nothing is left out: a missing file or condition is an error. The second table is made of the figures that `make peers` and
benchmarks/out_of_domain.py left beside their pages, if they are of the models in models/; it names the commands.
"""

import csv
import json
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stemscribe.atomic import atomic_file
from stemscribe.errors import DataError, StemscribeError
from stemscribe.report import markdown
from stemscribe.report.markdown import NOTHING, PLUS_MINUS
from stemscribe.scoring.conditions import BASE_MIX, BASE_STEM, HEAD_TITLES, HEADLINE, SHUFFLED_TIME, SPECIALIST_STEM
from stemscribe.scoring.summary import METRIC_DIGITS
from stemscribe.stages import STEMS
from stemscribe.stages.base import model_digest

README = Path("README.md")
OTHER_SONGS = {"demo": Path("peers/results.json"), "out of domain": Path("benchmarks/out_of_domain.json")}
WAYS_OUT = {
    "demo": "run `make peers`",
    "out of domain": "run `python benchmarks/out_of_domain.py`",
}
SECOND_SCORES = {"drums": "five_class"}  # the others': onset+offset
LINE = 126  # characters
LABELS = {"vocals": "vocals (voice-like programs, no singing)"}
COLUMNS = (
    "stem",
    "read by",
    "base, full mix",
    "base, true stem",
    "specialist, true stem",
    "specialist, separated stem",
    "gain over the base on the mix",
    "better on",
    "chance",
)

Row = Mapping[str, str]


def main() -> None:
    """Fill in both tables.

    Raises:
        DataError: if a file is missing, broken or from another run, or README.md lacks the markers.
    """
    text = README.read_text(encoding="utf-8")
    for marker, block in (("results", results()), ("peers", other_transcribers())):
        text = filled(text, marker, block)
    with atomic_file(README) as partial:
        partial.write_text(text, encoding="utf-8")


def filled(text: str, marker: str, block: str) -> str:
    """The text with a block between its markers."""
    begin, end = f"<!-- {marker} -->", f"<!-- /{marker} -->"
    before, found, rest = text.partition(begin)
    _, found_end, after = rest.partition(end)
    if not found or not found_end:
        raise DataError(f"{README} lacks {begin} or {end}; restore it with `git checkout {README}`")
    return f"{before}{begin}\n{block}\n{end}{after}"


def other_transcribers() -> str:
    """Everybody on true stems, ours by the head of the headline, on the demo's test songs and out of domain, as Markdown."""
    head = next(iter(_by_head(Path("plots") / STEMS[0] / "conditions.csv")))
    models = {name: model_digest(Path("models") / name) for name in ("base", *STEMS)}
    rows: list[list[str]] = []
    sentences = []
    for songs, path in OTHER_SONGS.items():
        figures = _object(path, WAYS_OUT[songs])
        measured = figures.get("models")
        for name, digest in models.items():
            if not isinstance(measured, dict) or measured.get(name) != digest:
                raise DataError(f"{path} was measured with another models/{name}; {WAYS_OUT[songs]}")
        try:
            readers = {
                who: [_figures(scores[stem], stem) if stem in scores else NOTHING for stem in STEMS]
                for who, scores in figures["f1"].items()
                if ", " not in who or who.endswith(f", {head}")
            }
            ours = [f"specialist, {head}", f"base, {head}"]
            (own,) = (pair for pair in figures["differences"] if [pair["one"], pair["minus"]] == ours)
            readers["specialist minus base"] = [markdown.difference(**own[stem]["onset"]) for stem in STEMS]
            sentences.append(f"{songs[:1].upper()}{songs[1:]}: {figures['corpus']} (`{figures['command']}`).")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path} is broken or lacks {error}; {WAYS_OUT[songs]}") from None
        rows += [[songs if who == next(iter(readers)) else "", who, *cells] for who, cells in readers.items()]
    caption = (
        f"On true stems: onset F1 {PLUS_MINUS} half of its 95 % interval over the songs, then onset+offset F1, of drums onset "
        f"F1 by five classes. Differences are paired by song, in brackets their 95 % interval, bold where it lies above "
        f"zero. {' '.join(sentences)}"
    )
    wrapped = textwrap.wrap(caption, LINE, break_long_words=False, break_on_hyphens=False)
    header = ["songs", "read by", *(LABELS.get(stem, stem) for stem in STEMS)]
    return "\n".join([markdown.table(header, rows), "", *wrapped])


def _figures(scores: Mapping[str, Mapping[str, float]], stem: str) -> str:
    onset, second = scores["onset"], scores[SECOND_SCORES.get(stem, "onset_offset")]
    return f"{markdown.with_interval(onset['mean'], onset['half_width'])}, {second['mean']:.3f}"


def results() -> str:
    """The table and the sentences that it needs, as Markdown."""
    by_stem = {stem: _by_head(Path("plots") / stem / "conditions.csv") for stem in STEMS}
    rows = [cells(stem, head, heads) for stem, heads in by_stem.items() for head in heads]
    first = _same([next(iter(heads)) for heads in by_stem.values()], "the headline's head")
    manifests = [_object(Path("data/separated") / stem / "manifest.json") for stem in STEMS]
    corpus, method = (_same([manifest.get(key) for manifest in manifests], key) for key in ("corpus", "method"))
    caption = (
        f"Onset F1 on the test songs of the corpus `{corpus}`, mean over the songs in which the stem plays; {PLUS_MINUS} is "
        f"half of the 95 % interval of that mean over songs. Separated is {method}: no separator was run. Chance is the "
        "specialist's own notes at shuffled times. Bold is the headline, which speaks of the head that `predict.decode` names: "
        f"`{first}`, the {HEAD_TITLES[first]}."
    )
    return "\n".join([markdown.table(COLUMNS, rows), "", *textwrap.wrap(caption, LINE)])


def cells(stem: str, head: str, heads: Mapping[str, Mapping[str, Row]]) -> list[str]:
    """One row of the table: a stem as one head reads it."""
    path = Path("plots") / stem / "conditions.csv"
    conditions, first = heads[head], head == next(iter(heads))
    headline = conditions[HEADLINE]
    if first:
        metrics = _object(Path("metrics") / f"{stem}.json")
        for key in ("onset_f1", "onset_f1_ci", "delta_vs_base"):
            value = metrics.get(key)
            if not isinstance(value, float) or not abs(value - _number(path, headline, key)) <= 0.51 * 10**-METRIC_DIGITS:
                raise DataError(f"metrics/{stem}.json and {path} disagree about {key}; run `dvc repro evaluate_{stem}`")

    def onset(condition: str) -> str:
        row = conditions[condition]
        return markdown.with_interval(_number(path, row, "onset_f1"), _number(path, row, "onset_f1_ci"))

    gain, low, high = (_number(path, headline, key) for key in ("delta_vs_base", "delta_low", "delta_high"))
    return [
        LABELS.get(stem, stem) if first else "",
        HEAD_TITLES[head],
        onset(BASE_MIX),
        onset(BASE_STEM),
        onset(SPECIALIST_STEM),
        f"**{onset(HEADLINE)}**" if first else onset(HEADLINE),
        f"{gain:+.3f} ({low:+.3f} to {high:+.3f})",
        f"{headline['improved_tracks']} of {headline['tracks']}",
        f"{_number(path, conditions[SHUFFLED_TIME], 'onset_f1'):.3f}",
    ]


def _by_head(path: Path) -> dict[str, dict[str, Row]]:
    """Rows by head and condition, the headline's head first."""
    found: dict[str, dict[str, Row]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream, strict=True):
                found.setdefault(row["head"], {})[row["condition"]] = row
    except (OSError, KeyError, csv.Error) as error:
        raise DataError(f"cannot read {path} ({error}); run `dvc repro` or `dvc checkout`") from error
    wanted = (BASE_MIX, BASE_STEM, SPECIALIST_STEM, HEADLINE, SHUFFLED_TIME)
    missing = [f"{condition} by {head}" for head, rows in found.items() for condition in wanted if condition not in rows]
    if missing or not found:
        raise DataError(f"{path} lacks {missing[0] if found else 'rows'}; run `dvc repro evaluate_{path.parent.name}`")
    return found


def _number(path: Path, row: Row, key: str) -> float:
    try:
        return float(row[key])
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{path} has no number for {key} of {row['condition']}; run `dvc repro`") from None


def _object(path: Path, way_out: str = "run `dvc repro` or `dvc checkout`") -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path} ({error}); {way_out}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no named values; {way_out}")
    return content


def _same(values: list[Any], name: str) -> Any:
    if any(value != values[0] or not value for value in values):
        raise DataError(f"the stems do not agree about {name} ({', '.join(map(str, values))}); run `dvc repro separate`")
    return values[0]


if __name__ == "__main__":
    try:
        main()
    except (StemscribeError, OSError) as error:
        sys.exit(f"readme_table: {error}")
