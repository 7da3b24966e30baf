"""Everything the page is made of, read from metrics/, plots/, predictions/, logs/, models/ and the shards.

What the page says is what these files say: nothing is scored again, except the matching of the few notes that
the piano rolls show. A missing file is an error that names the stage which writes it.
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemscribe.data.shards import ShardReader
from stemscribe.errors import DataError, UsageError
from stemscribe.notes import load_notes
from stemscribe.report.excerpt import Excerpt, choose_track, cut_excerpt
from stemscribe.scoring.conditions import CONDITIONS, HEADLINE, SHUFFLED_TIME, prediction_folder
from stemscribe.scoring.notes import STANDARD, Tolerances
from stemscribe.scoring.statistics import holm
from stemscribe.strict_yaml import read_yaml
from stemscribe.vocabulary import is_drums

SPLITS = ("train", "validation", "test")
SHOWN_CURVES = ("loss", "f1")  # words in the names of the learning curves that are shown

TextRow = Mapping[str, str]
Scores = Mapping[str, float | None]


@dataclass(frozen=True)
class Curve:
    """A learning curve as DVCLive logged it."""

    name: str  # such as validation/onset_f1
    steps: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class SplitFacts:
    """What a split holds of one stem."""

    split: str
    tracks: int
    with_stem: int
    minutes: float  # of the tracks with the stem
    notes: int


@dataclass(frozen=True)
class StemEvidence:
    """All that is known about one stem and its specialist."""

    stem: str
    programs: tuple[int, ...]
    played_programs: frozenset[int]  # those that occur in the corpus
    metrics: Mapping[str, float]
    heads: Mapping[str, Mapping[str, Scores]]  # head -> condition -> column -> value; the headline's head comes first
    tracks: tuple[TextRow, ...]
    classes: tuple[TextRow, ...]
    curves: tuple[Curve, ...]
    provenance: Mapping[str, Any]
    separation: str  # the method, in its own words
    splits: tuple[SplitFacts, ...]
    excerpt: Excerpt

    @property
    def drums(self) -> bool:
        """Whether pitches name drums."""
        return is_drums(self.programs)

    @property
    def head(self) -> str:
        """The head that the headline speaks of."""
        return next(iter(self.heads))

    @property
    def conditions(self) -> Mapping[str, Scores]:
        """What the headline's head scores under each condition."""
        return self.heads[self.head]

    def track_scores(self, condition: str, column: str = "onset_f1") -> dict[str, float]:
        """One score of each test track under a condition, by the headline's head."""
        own = (row for row in self.tracks if (row["head"], row["condition"]) == (self.head, condition))
        return {row["track"]: float(row[column]) for row in own}


@dataclass(frozen=True)
class Evidence:
    """The page's whole content."""

    corpus: Mapping[str, str]  # name, title, licence, citation
    singing: bool  # whether the corpus says that people sing in it
    base: Mapping[str, Any]  # its provenance
    stems: tuple[StemEvidence, ...]
    poc: Mapping[str, Any]
    tolerances: Tolerances

    @property
    def corrected_p(self) -> dict[str, float]:
        """For each stem, the p-value of the headline's comparison, by its head, after Holm's correction over the stems."""
        p_values = {stem.stem: stem.conditions[HEADLINE]["p_value"] for stem in self.stems}
        return holm({stem: 1.0 if p_value is None else p_value for stem, p_value in p_values.items()})


def read_evidence(stems: Iterable[str], decode: str, tolerances: Tolerances = STANDARD, root: Path = Path()) -> Evidence:
    """Read the whole project.

    Args:
        stems: names, in the order in which they are shown.
        decode: the head that the headline speaks of.
        tolerances: those that the scores were made with.
        root: the project folder.
    Raises:
        DataError: if a file is missing or broken, or tells of another headline.
    """
    read = tuple(_read_stem(stem, decode, tolerances, root) for stem in stems)
    corpus = ShardReader(root / "data/shards" / read[0].stem).manifest["corpus"]
    facts = _read_corpus(root / "data/sources" / f"{corpus}.yaml")
    return Evidence(
        {"name": corpus, **{key: str(facts.get(key, "")) for key in ("title", "licence", "citation")}},
        facts.get("singing") is True,
        _read_json(root / "models/base/provenance.json", "base"),
        read,
        _read_json(root / "metrics/poc.json", "poc", [f"{s.stem}_{fact}" for s in read for fact in ("gain", "ci", "go")]),
        tolerances,
    )


def _read_stem(stem: str, decode: str, tolerances: Tolerances, root: Path) -> StemEvidence:
    try:
        return _gather(stem, decode, tolerances, root)
    except ValueError as error:
        raise DataError(f"a table of {stem} in plots/ or logs/ is broken ({error}); run `dvc checkout`") from error


def _gather(stem: str, decode: str, tolerances: Tolerances, root: Path) -> StemEvidence:
    shards, separated = ShardReader(root / "data/shards" / stem), ShardReader(root / "data/separated" / stem)
    plots, evaluate = root / "plots" / stem, f"evaluate_{stem}"
    tracks = _read_csv(plots / "tracks.csv", evaluate, ("track", "head", "condition", "onset_f1"))
    heads = _read_conditions(plots / "conditions.csv", evaluate, decode)
    scores = {row["track"]: float(row["onset_f1"]) for row in tracks if (row["head"], row["condition"]) == (decode, HEADLINE)}
    return StemEvidence(
        stem,
        tuple(shards.manifest["programs"]),
        frozenset(source.program for track in shards.tracks() for source in track.sources if source.program is not None),
        _read_json(root / "metrics" / f"{stem}.json", evaluate, ("onset_f1", "delta_vs_base")),
        heads,
        tuple(tracks),
        tuple(_read_csv(plots / "classes.csv", evaluate, ("head", "grouping", "class", "condition", "onset_f1"))),
        _read_curves(root / "logs" / stem / "plots" / "metrics", f"finetune_{stem}"),
        _read_json(root / "models" / stem / "provenance.json", f"finetune_{stem}"),
        str(separated.manifest.get("method", "unknown")),
        tuple(_split_facts(shards, split) for split in SPLITS),
        _read_excerpt(stem, decode, choose_track(scores), tolerances, shards, separated, root),
    )


def _read_conditions(path: Path, stage: str, decode: str) -> dict[str, dict[str, Scores]]:
    """By head, condition and column; every head has all conditions, and `decode` comes first."""
    heads: dict[str, dict[str, Scores]] = {}
    for row in _read_csv(path, stage, ("head", "condition", "onset_f1", "onset_f1_low", "p_value", "delta_vs_head")):
        scores = {key: _number(cell) for key, cell in row.items() if key not in ("stem", "head", "condition")}
        heads.setdefault(row["head"], {})[row["condition"]] = scores
    if next(iter(heads)) != decode:
        raise DataError(f"{path} has {next(iter(heads))} for its headline and params.yaml {decode}; run `dvc repro {stage}`")
    for head, conditions in heads.items():
        for condition in (*CONDITIONS, SHUFFLED_TIME):
            if condition not in conditions:
                raise DataError(f"{path} lacks {condition} by {head}; run `dvc repro {stage}`")
    return heads


def _read_excerpt(
    stem: str, head: str, track: str, tolerances: Tolerances, shards: ShardReader, separated: ShardReader, root: Path
) -> Excerpt:
    path = prediction_folder(HEADLINE, stem, head, root / "predictions") / "notes.npz"
    predicted = load_notes(path)
    if track not in predicted:
        raise DataError(f"{path} lacks {track}; run `dvc repro predict_{stem}`")
    drums = is_drums(shards.manifest["programs"])
    return cut_excerpt(track, shards.notes(track), predicted[track], separated, drums, tolerances)


def _split_facts(shards: ShardReader, split: str) -> SplitFacts:
    tracks = shards.tracks(split)
    present = [track for track in tracks if track.sources]
    seconds = sum(track.samples for track in present) / shards.sample_rate
    notes = sum(source.notes for track in present for source in track.sources)
    return SplitFacts(split, len(tracks), len(present), seconds / 60, notes)


def _read_corpus(path: Path) -> Mapping[str, Any]:
    try:
        return read_yaml(path)
    except UsageError as error:
        raise DataError(str(error)) from error


def _read_json(path: Path, stage: str, keys: Iterable[str] = ()) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no {path}; `dvc repro {stage}` makes it, `dvc pull` brings it back") from None
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}; run `dvc repro {stage}`") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} holds no named values; run `dvc repro {stage}`")
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path} lacks {missing[0]!r}; run `dvc repro {stage}`")
    return content


def _read_csv(path: Path, stage: str, columns: Iterable[str], delimiter: str = ",") -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, delimiter=delimiter)
            rows = list(table)
    except FileNotFoundError:
        raise DataError(f"no {path}; `dvc repro {stage}` makes it, `dvc pull` brings it back") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}; run `dvc repro {stage}`") from error
    missing = [name for name in columns if name not in (table.fieldnames or ())]
    if missing or not rows:
        raise DataError(f"{path} has {f'no column {missing[0]}' if missing else 'no rows'}; run `dvc repro {stage}`")
    return rows


def _number(cell: str) -> float | None:
    return float(cell) if cell else None


def _read_curves(folder: Path, stage: str) -> tuple[Curve, ...]:
    """The curves worth showing, by name; none if nothing was logged."""
    curves = []
    for path in sorted(folder.rglob("*.tsv")):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if not any(word in path.stem for word in SHOWN_CURVES):
            continue
        rows = _read_csv(path, stage, ("step", path.stem), delimiter="\t")
        points = [(float(row["step"]), float(row[path.stem])) for row in rows if row[path.stem]]
        curves.append(Curve(name, tuple(step for step, _ in points), tuple(value for _, value in points)))
    return tuple(curve for curve in curves if curve.steps)
