"""The sentences around the numbers. Each follows from the evidence, also when the evidence is disappointing.

The page and the model cards share them, so both say the same.
"""

from collections.abc import Mapping
from typing import Any

from stemscribe.report.evidence import Evidence, StemEvidence
from stemscribe.report.figures import signed
from stemscribe.report.markdown import with_interval
from stemscribe.scoring.conditions import BASE_MIX, HEAD_TITLES, HEADLINE, SHUFFLED_TIME
from stemscribe.scoring.frames import HOP

SIGNIFICANT = 0.05

NOT_SAID = (
    "One training run stands behind each specialist. The intervals tell how much depends on the choice of songs, not how "
    "much depends on the seed.",
    "Training and test songs of a rendered corpus share their instruments' sounds. Other sounds and real recordings are "
    "harder; how much harder is not measured here.",
    "What a specialist forgot of the base's other abilities is not measured here: it is meant for its own stem only.",
    "Chance is not zero: dense rhythms match themselves when shifted. Compare every score with the row called chance.",
)

VOICE_LIKE = (
    "There is no singing in this corpus. Vocals here are voice-like programs: choir, voice and synth voice, lead voice and "
    "pad choir, played by a synthesizer. The numbers say nothing about a human voice."
)


def method(evidence: Evidence) -> tuple[str, ...]:
    """How scores came about, a paragraph each."""
    tolerance, ratio = evidence.tolerances.onset, evidence.tolerances.offset_ratio
    return (
        f"A note is found if its pitch is right and it begins within {1000 * tolerance:g} ms of the true note. "
        f"Onset-and-offset F1 also asks for the end, within {1000 * tolerance:g} ms or {100 * ratio:g} % of the note, "
        f"whichever is more. Frame F1 compares what sounds every {1000 * HOP:g} ms. All counts equal those of mir_eval. "
        "Drums are compared by General MIDI drum class and onset; there is no offset.",
        "Scores are means over the test tracks in which the stem plays. Intervals hold 95 % of the means of tracks drawn again "
        "at random (paired bootstrap). Differences are tested by Wilcoxon's signed-rank test, corrected over the stems by "
        "Holm's method.",
        "A model is read in two ways. The token decoder writes notes one after another and names their instruments. The frame "
        "head says for each moment at once which pitches begin and sound on each of the model's channels; it knows no "
        "instruments. Both read the same states of the same network.",
        "Of the base's notes on the mix, those count that the token decoder gave to the stem's instruments, or that the frame "
        "head heard on the stem's channels. Notes in silence are counted in segments of 2 s in which the stem does not play.",
    )


def p_text(p_value: float) -> str:
    """A p-value as papers print it."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def verdict(stem: StemEvidence, corrected_p: float) -> str:
    """What the headline comparison comes to."""
    headline, base = stem.conditions[HEADLINE], stem.conditions[BASE_MIX]
    gain, low, high = (headline[key] or 0.0 for key in ("delta_vs_base", "delta_low", "delta_high"))
    tracks, better = int(headline["tracks"] or 0), int(headline["improved_tracks"] or 0)
    if corrected_p >= SIGNIFICANT:
        judgement = f"These tracks cannot tell the difference from chance ({p_text(corrected_p)} after correction)."
    elif gain > 0:
        judgement = f"The gain holds after correction over the stems ({p_text(corrected_p)})."
    else:
        judgement = f"The loss holds after correction over the stems ({p_text(corrected_p)})."
    return (
        f"On separated {stem.stem} the specialist, read by the {HEAD_TITLES[stem.head]}, reaches an onset F1 of "
        f"{with_interval(headline['onset_f1'] or 0.0, headline['onset_f1_ci'] or 0.0)}, the base on the full mix "
        f"{base['onset_f1'] or 0.0:.3f}. The difference is {signed(gain)} (95 % interval {signed(low)} to "
        f"{signed(high)}), and {better} of {tracks} tracks improve. {judgement}"
    )


def readings(evidence: Evidence) -> str:
    """Why there are two rows for each stem."""
    first, *others = (HEAD_TITLES[head] for head in evidence.stems[0].heads)
    return (
        f"Each network is read in two ways: by its {first}, of which the headline speaks, and by its {' and '.join(others)}. "
        "Choosing the better of the two after the fact would flatter the result, so p-values are given for the headline alone."
    )


def heads_compared(stem: StemEvidence) -> list[str]:
    """What each other head makes of the headline's recordings, a sentence or two each."""
    sentences = []
    for head, conditions in stem.heads.items():
        if head == stem.head:
            continue
        scores = conditions[HEADLINE]
        difference, low, high = (scores[f"delta_vs_head{end}"] or 0.0 for end in ("", "_low", "_high"))
        if low <= 0 <= high:
            judgement = "These tracks cannot tell which of the two reads better."
        else:
            judgement = f"Here the {HEAD_TITLES[head if difference > 0 else stem.head]} reads better."
        sentences.append(
            f"Read by the {HEAD_TITLES[head]}, the same specialist reaches "
            f"{with_interval(scores['onset_f1'] or 0.0, scores['onset_f1_ci'] or 0.0)}: {signed(difference)} against the "
            f"{HEAD_TITLES[stem.head]}, track by track (95 % interval {signed(low)} to {signed(high)}). {judgement}"
        )
    return sentences


def cautions(stem: StemEvidence, evidence: Evidence) -> list[str]:
    """What a reader of this stem's numbers must know."""
    notes = [separation(stem)]
    if stem.stem == "vocals" and not evidence.singing:  # programs 100 and 101 prove nothing: General MIDI has effects there
        notes.insert(0, VOICE_LIKE)
    share = stem.provenance.get("training", {}).get("share", 1.0)
    if share == 0.0:
        notes.append(
            "No step of fine-tuning did better than the base in validation, so the specialist's weights are the base's own."
        )
    elif share < 1.0:
        notes.append(
            f"The specialist's weights lie {share:g} of the way from the base's to the best ones of its training: no other "
            "share that was tried reads the validation tracks better by more than 0.005."
        )
    if (stem.conditions[SHUFFLED_TIME]["onset_f1"] or 0.0) >= 0.1:
        notes.append(
            f"Chance alone scores {stem.conditions[SHUFFLED_TIME]['onset_f1']:.3f} here: the same notes at shuffled times."
        )
    return notes


def separation(stem: StemEvidence) -> str:
    """How the separated stem came about, plainly."""
    named = f"No separator was run. \N{LEFT DOUBLE QUOTATION MARK}Separated\N{RIGHT DOUBLE QUOTATION MARK} is {stem.separation}"
    if stem.separation.startswith("simulated bleed"):
        return f"{named}: the true stem with the rest of the mix sounding faintly through. A real separator also distorts."
    if stem.separation.startswith("oracle"):
        return f"{named}, a separator without error, so both rows of the specialist hear the same."
    return f"The stems were separated from the mix by {stem.separation}."


def subtitle(evidence: Evidence) -> str:
    """Corpus and size of the test in a sentence."""
    tests = {stem.splits[-1].tracks for stem in evidence.stems}
    title = evidence.corpus["title"] or evidence.corpus["name"]
    return f"Corpus: {evidence.corpus['name']} ({title}). {max(tests)} test tracks, kept out of fine-tuning."


def flattened(content: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested facts as dotted names and texts."""
    items: list[tuple[str, str]] = []
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            items += flattened(value, f"{name}: ")
        elif isinstance(value, float):
            items.append((name, f"{value:g}"))
        elif isinstance(value, list | tuple):
            items.append((name, ", ".join(str(item) for item in value)))
        else:
            items.append((name, "unknown" if value is None else str(value)))
    return items
