"""From scorecards to evidence: means over tracks, intervals, pooled rates, and gains track by track.

Two gains are paired: a condition over the base on the mix, read by the same head, and a head over the headline's head, under
the same condition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from stemscribe.scoring.conditions import BASE_MIX, HEADLINE, StemTest
from stemscribe.scoring.counts import Counts, pool
from stemscribe.scoring.notes import STANDARD, Tolerances
from stemscribe.scoring.scorecard import DRUM_SCORES, PITCHED_SCORES, Scorecard, score_by_class, score_track
from stemscribe.scoring.silence import FalseNotes, false_notes
from stemscribe.scoring.statistics import Interval, bootstrap_interval, signed_rank_p

METRIC_DIGITS = 4  # in metrics/, for people; what is worked with further stands in plots/ and has more


@dataclass(frozen=True)
class TrackScore:
    """One track under one condition."""

    track: str
    card: Scorecard
    false: FalseNotes


@dataclass(frozen=True)
class Comparison:
    """An onset F1 minus another of the same tracks, track by track."""

    gain: Interval
    p_value: float  # Wilcoxon signed-rank, two-sided, before any correction for several stems
    improved: int  # tracks on which it is higher


@dataclass(frozen=True)
class Summary:
    """One condition over all test tracks of a stem."""

    condition: str
    head: str
    tracks: tuple[TrackScore, ...]  # in the order of the test; also those without a note of the stem
    onset: Interval
    false: FalseNotes
    against_base: Comparison | None  # None for the base on the mix itself
    against_head: Comparison | None = None  # with what the headline's head made of the same; None for that head itself

    @property
    def scored(self) -> tuple[TrackScore, ...]:
        """The tracks that enter means."""
        return tuple(track for track in self.tracks if track.card["onset"].defined)

    def mean(self, score: str, rate: str = "f1") -> float:
        """Mean over tracks of a score's `f1`, `precision` or `recall`; tracks for which it is undefined stay out."""
        cards = [track.card[score] for track in self.scored if track.card[score].defined]
        return float(np.mean([getattr(counts, rate) for counts in cards])) if cards else 0.0

    def pooled(self, score: str) -> Counts:
        """Counts over all notes of all tracks with notes: the micro average."""
        return pool(track.card[score] for track in self.scored)


def score_names(drums: bool) -> tuple[str, ...]:
    """The scores of a stem's scorecards."""
    return DRUM_SCORES if drums else PITCHED_SCORES


def summarise(test: StemTest, draws: int, seed: int, tolerances: Tolerances = STANDARD) -> dict[str, Summary]:
    """Score every condition of a stem.

    Args:
        test: what to score; with `BASE_MIX` among its conditions the others are compared with it.
        draws: bootstrap resamplings.
        seed: of the resampling; every interval resamples the same tracks.
        tolerances: how far notes may be off.

    Returns:
        A summary for each condition, in the order of `test.predictions`.
    """
    scores = {condition: _score_tracks(test, condition, tolerances) for condition in test.predictions}
    base = onset_f1(scores[BASE_MIX]) if BASE_MIX in scores else None
    summaries = {}
    for condition, tracks in scores.items():
        own = onset_f1(tracks)
        against = None if base is None or condition == BASE_MIX else compare(own, base, draws, seed)
        summaries[condition] = Summary(
            condition,
            test.head,
            tracks,
            bootstrap_interval(list(own.values()), draws, np.random.default_rng(seed)),
            sum((track.false for track in tracks), FalseNotes(0, 0.0)),
            against,
        )
    return summaries


def _score_tracks(test: StemTest, condition: str, tolerances: Tolerances) -> tuple[TrackScore, ...]:
    heard = test.predictions[condition]
    return tuple(
        TrackScore(
            track.track,
            score_track(track.notes, heard[track.track], test.drums, tolerances),
            false_notes(track.notes, heard[track.track], track.seconds, tolerances.onset),
        )
        for track in test.tracks
    )


def onset_f1(tracks: tuple[TrackScore, ...]) -> dict[str, float]:
    """Onset F1 of the tracks that enter means."""
    return {track.track: track.card["onset"].f1 for track in tracks if track.card["onset"].defined}


def compare(own: Mapping[str, float], other: Mapping[str, float], draws: int, seed: int) -> Comparison:
    """One score of each track minus another of the same track."""
    differences = [own[track] - other[track] for track in other]
    return Comparison(
        bootstrap_interval(differences, draws, np.random.default_rng(seed)),
        signed_rank_p(differences),
        sum(difference > 0 for difference in differences),
    )


def compare_heads(summaries: Sequence[Mapping[str, Summary]], draws: int, seed: int) -> list[dict[str, Summary]]:
    """Hold the other heads against the first one, condition by condition.

    Args:
        summaries: one for each head, the headline's first, from `summarise`.
        draws: bootstrap resamplings.
        seed: of the resampling.

    Returns:
        The same summaries, with `against_head` filled in where there is another head to compare with.
    """
    first, *others = summaries

    def held(summary: Summary) -> Summary:
        pair = onset_f1(summary.tracks), onset_f1(first[summary.condition].tracks)
        return replace(summary, against_head=compare(*pair, draws, seed))

    return [dict(first), *({condition: held(summary) for condition, summary in each.items()} for each in others)]


def classes(test: StemTest, tolerances: Tolerances = STANDARD) -> dict[str, dict[tuple[str, str], Counts]]:
    """For each condition, pooled onset counts of the parts of the stem, by (grouping, class); see `score_by_class`."""
    pooled: dict[str, dict[tuple[str, str], Counts]] = {}
    for condition, heard in test.predictions.items():
        parts: dict[tuple[str, str], Counts] = {}
        for track in test.with_notes:
            for key, counts in score_by_class(track.notes, heard[track.track], test.drums, tolerances).items():
                parts[key] = parts.get(key, Counts(0, 0, 0)) + counts
        pooled[condition] = parts
    return pooled


def headline(summaries: Mapping[str, Summary], drums: bool) -> dict[str, float]:
    """The eight numbers of metrics/<stem>.json (seven for drums), rounded to `METRIC_DIGITS` digits.

    `summaries` are those of the headline's head. All numbers describe the specialist on the separated stem;
    `delta_vs_base` is its onset F1 minus that of the base on the mix.
    """
    summary = summaries[HEADLINE]
    assert summary.against_base is not None  # both conditions were read
    values = {
        "onset_f1": summary.onset.mean,
        "onset_offset_f1": 0.0 if drums else summary.mean("onset_offset"),
        "frame_f1": summary.mean("frame"),
        "precision": summary.mean("onset", "precision"),
        "recall": summary.mean("onset", "recall"),
        "onset_f1_ci": summary.onset.half_width,
        "delta_vs_base": summary.against_base.gain.mean,
        "false_notes_per_minute": summary.false.per_minute,
    }
    return {name: round(value, METRIC_DIGITS) for name, value in values.items() if not (drums and name == "onset_offset_f1")}
