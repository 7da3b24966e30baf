"""Model cards: what a specialist is, is not, and how well it does, in Markdown beside the page."""

from collections.abc import Iterable

from stemscribe import vocabulary
from stemscribe.report import wording
from stemscribe.report.evidence import Evidence, StemEvidence
from stemscribe.report.markdown import with_interval
from stemscribe.scoring.conditions import CONDITIONS, HEAD_TITLES, SHUFFLED_TIME, TITLES

MOST_NAMES = 6


def card(stem: StemEvidence, evidence: Evidence) -> str:
    """The card of one stem's specialist."""
    parts = (
        f"# stemscribe {stem.stem}",
        "A transcriber (audio in, notes out) of the YourMT3+ family, fine-tuned from the base model on one stem. It listens "
        f"for {_instruments(stem)} and reports nothing else.",
        "## Use",
        f"```sh\ndvc pull models/{stem.stem}\n"
        f"stemscribe transcribe {stem.stem}.wav --model models/{stem.stem} --decode {stem.head}\n```",
        f"Give it the isolated or separated stem, not the full mix: it was taught {stem.stem} alone, and takes other "
        f"instruments for {stem.stem}.",
        "## Scores",
        _scores(stem),
        wording.verdict(stem, evidence.corrected_p[stem.stem]),
        *wording.heads_compared(stem),
        _list(wording.cautions(stem, evidence)),
        "## What these numbers do not say",
        _list(wording.NOT_SAID),
        "## Data",
        _data(stem, evidence),
        "## Origin",
        _list(f"{name}: {value}" for name, value in wording.flattened(stem.provenance)),
    )
    return "\n\n".join(parts) + "\n"


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _instruments(stem: StemEvidence) -> str:
    """The stem's instrument classes; where they are many, the groups that the model's channels form."""
    names = [vocabulary.class_name(program) for program in sorted(vocabulary.class_programs(stem.programs))]
    if len(names) > MOST_NAMES:
        names = [vocabulary.CHANNEL_NAMES[channel] for channel in vocabulary.channels_of(stem.programs)]
    *first, last = [name.lower() for name in names]
    return f"{', '.join(first)} and {last}" if first else last


def _scores(stem: StemEvidence) -> str:
    lines = ["| condition | read by | onset F1 | precision | recall |", "|---|---|---|---|---|"]
    for condition in (*CONDITIONS, SHUFFLED_TIME):
        for head, conditions in stem.heads.items():
            scores = conditions[condition]
            onset = with_interval(scores["onset_f1"] or 0.0, scores["onset_f1_ci"] or 0.0)
            rates = f"{scores['precision']:.3f} | {scores['recall']:.3f}"
            lines.append(f"| {TITLES[condition]} | {HEAD_TITLES[head]} | {onset} | {rates} |")
    return "\n".join(lines)


def _data(stem: StemEvidence, evidence: Evidence) -> str:
    corpus = evidence.corpus
    return _list(
        (
            f"corpus: {corpus['name']} ({corpus['title']}), licence {corpus['licence'] or 'unknown'}",
            *(
                f"{split.split}: {split.with_stem} of {split.tracks} tracks, {split.minutes:.0f} min, {split.notes} notes"
                for split in stem.splits
            ),
        )
    )
