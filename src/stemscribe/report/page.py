"""The page: the headline, a chapter for each stem, what the numbers do not say, and where everything comes from."""

import base64
from collections.abc import Mapping
from importlib import resources

from stemscribe import vocabulary
from stemscribe.report import wording
from stemscribe.report.evidence import Evidence, Scores, StemEvidence
from stemscribe.report.figures import curve_chart, interval_chart, signed, track_chart
from stemscribe.report.markdown import PLUS_MINUS
from stemscribe.report.markup import Child, Html, grouped_table, table, tag
from stemscribe.report.pianoroll import piano_roll
from stemscribe.scoring.conditions import BASE_MIX, CONDITIONS, HEAD_TITLES, HEADLINE, SHUFFLED_TIME, TITLES
from stemscribe.scoring.files import LABELS

TITLE = "stemscribe: what the specialists hear"
EMPTY = "\N{EN DASH}"
OPEN_TRACKS = 40  # more rows than these are folded away
CLASS_TITLES = {
    "general_midi": "by General MIDI drum",
    "five": "in five classes",
    "kick_snare_hihat": "kick, snare and hi-hat",
    "instrument": "by instrument",
}


def page(evidence: Evidence, minimum_gain: float) -> str:
    """The whole page, style and script included.

    Args:
        evidence: what it shows.
        minimum_gain: onset F1 that isolation must bring the base for a go.
    """
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", TITLE),
        tag("style", Html(_resource("page.css"))),
    )
    body = tag(
        "body",
        tag("a", "Skip to the results", href="#results", class_="skip"),
        tag(
            "header",
            tag("h1", "What the specialists hear"),
            tag("p", wording.subtitle(evidence), class_="lede"),
            _tiles(evidence),
        ),
        tag(
            "main",
            _results(evidence),
            [_chapter(stem, evidence) for stem in evidence.stems],
            _proof(evidence, minimum_gain),
            _method(evidence),
            _data(evidence),
            _origins(evidence),
        ),
        tag(
            "footer",
            tag("p", "Made by the stage report from files of this repository; this page loads nothing from the network."),
        ),
        tag("script", Html(_resource("page.js"))),
    )
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _resource(name: str) -> str:
    return resources.files("stemscribe.report").joinpath(name).read_text(encoding="utf-8")


def _tiles(evidence: Evidence) -> Html:
    tiles = []
    for stem in evidence.stems:
        headline, base = stem.conditions[HEADLINE], stem.conditions[BASE_MIX]
        tiles.append(
            tag(
                "a",
                tag("span", stem.stem, class_="tile-name"),
                tag("span", f"{stem.metrics['onset_f1']:.3f}", class_="tile-score"),
                tag("span", f"base on the mix {_score(base)}", class_="tile-base"),
                tag(
                    "span",
                    f"{signed(stem.metrics['delta_vs_base'])} {PLUS_MINUS} {_score(headline, 'delta_ci')}",
                    class_="tile-gain",
                ),
                href=f"#{stem.stem}",
                class_="tile",
            )
        )
    by = HEAD_TITLES[evidence.stems[0].head]
    explained = f"Onset F1 of each specialist on separated stems, read by the {by}, and its gain over the base on the full mix:"
    return tag("nav", tag("p", explained, class_="tiles-title"), tag("div", tiles, class_="tiles"), aria_label="Stems")


def _score(scores: Scores, column: str = "onset_f1", digits: int = 3) -> str:
    value = scores.get(column)
    return EMPTY if value is None else f"{value:.{digits}f}"


def _results(evidence: Evidence) -> Html:
    header = [
        "stem",
        "read by",
        *(TITLES[condition] for condition in CONDITIONS),
        "gain over the base on the mix",
        "p, corrected",
        "chance",
    ]
    groups = []
    for stem in evidence.stems:
        corrected = {stem.head: f"{evidence.corrected_p[stem.stem]:.2g}"}
        rows = [_result(head, conditions, head == stem.head, corrected.get(head)) for head, conditions in stem.heads.items()]
        groups.append((tag("a", stem.stem, href=f"#{stem.stem}"), rows))
    return tag(
        "section",
        tag("h2", "Results"),
        tag(
            "p",
            "The base is one transcriber for all instruments. A specialist is the same network, fine-tuned on one "
            "stem. "
            "Numbers are onset F1, the mean over test tracks with half of its 95 % interval; 1 is perfect.",
        ),
        tag("p", wording.readings(evidence)) if len(evidence.stems[0].heads) > 1 else None,
        grouped_table("Onset F1 by stem, reading and condition", header, groups, class_="headline"),
        id="results",
    )


def _result(head: str, conditions: Mapping[str, Scores], strong: bool, corrected: str | None) -> list[Child]:
    """What one head makes of one stem; the headline is `strong` and has a corrected p-value."""
    headline = conditions[HEADLINE]
    half = tag("span", f" {PLUS_MINUS} {_score(headline, 'delta_ci')}", class_="half")
    return [
        HEAD_TITLES[head],
        *(_interval(conditions[condition], strong and condition == HEADLINE) for condition in CONDITIONS),
        tag("b" if strong else "span", signed(headline["delta_vs_base"] or 0.0), half),
        corrected or EMPTY,
        _score(conditions[SHUFFLED_TIME]),
    ]


def _interval(scores: Scores, strong: bool) -> Html:
    half = tag("span", f" {PLUS_MINUS} {_score(scores, 'onset_f1_ci')}", class_="half")
    return tag("b" if strong else "span", _score(scores), half)


def _chapter(stem: StemEvidence, evidence: Evidence) -> Html:
    excerpt = stem.excerpt
    audio = base64.b64encode(excerpt.flac).decode("ascii")
    begin = f"{int(excerpt.start) // 60}:{excerpt.start % 60:04.1f}"
    return tag(
        "section",
        tag("h2", stem.stem.capitalize()),
        tag("p", wording.verdict(stem, evidence.corrected_p[stem.stem])),
        [tag("p", sentence) for sentence in wording.heads_compared(stem)],
        tag("ul", [tag("li", caution) for caution in wording.cautions(stem, evidence)], class_="cautions"),
        tag("h3", "Who heard what"),
        interval_chart(stem.heads, [*CONDITIONS, SHUFFLED_TIME]),
        tag("h3", "Track by track"),
        tag(
            "p",
            tag("span", class_="key base-key"),
            " base on the mix, ",
            tag("span", class_="key specialist-key"),
            f" specialist on the separated stem, both read by the {HEAD_TITLES[stem.head]}; ",
            "the number is the gain in onset F1.",
            class_="legend",
        ),
        _folded_if_long(stem),
        tag("h3", "Hear and see"),
        tag(
            "p",
            f"{excerpt.seconds:.0f} seconds of {excerpt.track} from {begin}, the separated stem as the specialist "
            f"heard it, and the notes that the {HEAD_TITLES[stem.head]} found. "
            "The track is the middle one by score, the place is where the stem plays most.",
        ),
        tag(
            "figure",
            tag(
                "audio",
                controls=True,
                preload="metadata",
                src=f"data:audio/flac;base64,{audio}",
                aria_label=f"Excerpt of {stem.stem}",
            ),
            piano_roll(excerpt, stem.drums),
            _roll_legend(),
            class_="excerpt",
        ),
        _learning(stem),
        tag("h3", "All scores"),
        _all_scores(stem),
        _classes(stem),
        id=stem.stem,
    )


def _folded_if_long(stem: StemEvidence) -> Html:
    before, after = stem.track_scores(BASE_MIX), stem.track_scores(HEADLINE)
    chart = track_chart(before, after)
    return chart if len(after) <= OPEN_TRACKS else tag("details", tag("summary", f"{len(after)} tracks"), chart)


def _roll_legend() -> Html:
    kinds = (("found", "found, inside the true note"), ("missed", "missed"), ("false", "false"))
    return tag(
        "figcaption", [tag("span", tag("i", class_=f"key {kind}-key"), f" {words}") for kind, words in kinds], class_="legend"
    )


def _learning(stem: StemEvidence) -> Child:
    if not stem.curves:
        return None
    return [tag("h3", "Learning"), tag("div", [curve_chart(curve) for curve in stem.curves], class_="curves")]


def _all_scores(stem: StemEvidence) -> Html:
    conditions = (*CONDITIONS, SHUFFLED_TIME)
    kinds = [(f"{name}_f1", f"{label} F1", 3) for name, label in LABELS.items() if f"{name}_f1" in stem.conditions[HEADLINE]]
    kinds += [
        ("precision", "precision", 3),
        ("recall", "recall", 3),
        ("pooled_onset_f1", "onset F1, all notes pooled", 3),
        ("false_notes_per_minute", "notes per minute of silence", 1),
    ]
    groups = []
    for column, label, digits in kinds:
        rows: list[list[Child]] = [
            [HEAD_TITLES[head], *(_score(scores[condition], column, digits) for condition in conditions)]
            for head, scores in stem.heads.items()
        ]
        groups.append((label, rows))
    header = ["score", "read by", *(TITLES[condition] for condition in conditions)]
    return grouped_table(f"All scores of {stem.stem}", header, groups)


def _classes(stem: StemEvidence) -> Html:
    """Folded away: pooled onset F1 of the parts of the stem."""
    tables = []
    for grouping in dict.fromkeys(row["grouping"] for row in stem.classes):
        found = {(row["class"], row["head"], row["condition"]): row for row in stem.classes if row["grouping"] == grouping}
        notes = {name: int(row["reference_notes"]) for (name, *_), row in found.items()}
        groups = []
        for name in sorted(notes, key=lambda name: (-notes[name], name)):
            rows: list[list[Child]] = [
                [HEAD_TITLES[head], *(_class_score(found.get((name, head, condition))) for condition in CONDITIONS)]
                for head in stem.heads
            ]
            if notes[name]:
                groups.append((f"{name} ({notes[name]} notes)", rows))
        header = ["part", "read by", *(TITLES[condition] for condition in CONDITIONS)]
        caption = f"{stem.stem.capitalize()} {CLASS_TITLES[grouping]}, onset F1 pooled over tracks"
        tables.append(grouped_table(caption, header, groups))
    return tag("details", tag("summary", f"Parts of {stem.stem}"), tables)


def _class_score(row: Mapping[str, str] | None) -> str:
    return f"{float(row['onset_f1']):.3f}" if row and row["onset_f1"] else EMPTY


def _proof(evidence: Evidence, minimum_gain: float) -> Html:
    rows: list[list[Child]] = [
        [
            stem.stem,
            f"{signed(evidence.poc[f'{stem.stem}_gain'])} {PLUS_MINUS} {evidence.poc[f'{stem.stem}_ci']:.3f}",
            "go" if evidence.poc[f"{stem.stem}_go"] else "no go",
        ]
        for stem in evidence.stems
    ]
    return tag(
        "section",
        tag("h2", "Is isolation worth it?"),
        tag(
            "p",
            f"Before any training: the base, read by the {HEAD_TITLES[evidence.stems[0].head]}, hears the true stem instead of "
            "the mix. Go means that its onset F1 gains at least "
            f"{minimum_gain:g} and that the gain's interval lies above zero.",
        ),
        table("Gain of the base from hearing the stem alone", ["stem", "gain in onset F1", "decision"], rows, class_="slim"),
    )


def _method(evidence: Evidence) -> Html:
    return tag(
        "section",
        tag("h2", "How it was measured"),
        [tag("p", paragraph) for paragraph in wording.method(evidence)],
        tag("h2", "What these numbers do not say"),
        tag("ul", [tag("li", caution) for caution in wording.NOT_SAID]),
    )


def _data(evidence: Evidence) -> Html:
    rows: list[list[Child]] = []
    for stem in evidence.stems:
        cells = [
            f"{facts.with_stem} of {facts.tracks} tracks, {facts.minutes:.0f} min, {facts.notes} notes" for facts in stem.splits
        ]
        rows.append([stem.stem, _program_names(stem), *cells])
    facts = evidence.corpus
    described = [("corpus", f"{facts['name']}: {facts['title']}"), ("licence", facts["licence"]), ("source", facts["citation"])]
    return tag(
        "section",
        tag("h2", "Data"),
        _definitions([(name, value) for name, value in described if value]),
        table(
            "What each split holds",
            ["stem", "instruments", *(split.split for split in evidence.stems[0].splits)],
            rows,
            class_="texts",
        ),
    )


def _program_names(stem: StemEvidence) -> str:
    classes = {vocabulary.program_token_class(program) for program in stem.played_programs}
    names = [vocabulary.class_name(program) for program in sorted(classes)]
    return ", ".join(names)


def _definitions(items: list[tuple[str, str]]) -> Html:
    return tag("dl", [(tag("dt", name), tag("dd", value)) for name, value in items])


def _origins(evidence: Evidence) -> Html:
    models = [("base", evidence.base), *((stem.stem, stem.provenance) for stem in evidence.stems)]
    parts = [
        tag("details", tag("summary", f"Model {name}"), _definitions(wording.flattened(provenance)))
        for name, provenance in models
    ]
    return tag("section", tag("h2", "Where the models come from"), parts)
