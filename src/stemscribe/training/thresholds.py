"""From which probability on the frame head's answers are notes: chosen on validation music, and kept in the model's config.

The promise: a threshold is chosen by the very measure that the model is judged by, mean F1 over excerpts: the onset threshold
by onset F1, then that of unisons alike, then the active threshold, which decides where notes end, by onset+offset F1. Of values
that a few minutes of music cannot tell apart the middle one is taken. Single drums may have an onset threshold of their own,
the best one, where they are hit often enough.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.model.config import FrameHeadConfig
from stemscribe.model.frame_head import FrameLogits
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.notes import Note
from stemscribe.scoring.counts import Counts, pool
from stemscribe.scoring.drums import drum_counts, drum_counts_by_pitch
from stemscribe.scoring.notes import onset_counts, onset_offset_counts
from stemscribe.transcriber import Transcriber

ONSET_GRID = tuple(round(0.05 * step, 2) for step in range(2, 19))  # 0.1 to 0.9
FAINTEST = ONSET_GRID[0] - 0.01  # probability of an onset that no threshold of the grid takes for one
FEWEST_HITS = 16  # of a drum in all excerpts, from which it may have a threshold of its own
HELD_FROM = 0.3  # active threshold while the onset threshold is chosen, which it hardly touches
ACTIVE_GRID = tuple(round(0.1 * step, 1) for step in range(1, 7))  # 0.1 to 0.6
LEVEL = 0.005  # mean F1 below the best from which a value is told apart from it
UNISONS_HELD = 0.8  # unison threshold while the onset threshold is chosen
UNISON_GRID = tuple(round(0.1 * step, 1) for step in range(1, 10))  # 0.1, where most are kept, to 0.9

Score = Callable[[list[Note], list[Note]], Counts]


class Excerpt(NamedTuple):
    """A stretch of music and its notes, in its own time."""

    audio: Audio
    notes: Sequence[Note]


@dataclass(frozen=True)
class Heard:
    """What the frame head says of an excerpt, and what it should.

    Only the pitches are kept on which a note could begin with the lowest threshold: a part of all, and nothing is lost.
    """

    kept: Tensor  # `(C, 128)` of bool
    columns: FrameLogits  # of these n, `(n, T)` each
    seconds: float
    reference: list[Note]

    @classmethod
    def of(cls, frames: FrameLogits, seconds: float, reference: list[Note]) -> "Heard":
        """Of all that the head says, `(C, T, 128)`."""
        kept = frames.onset.amax(dim=1) >= math.log(FAINTEST / (1 - FAINTEST))
        return cls(kept, FrameLogits(*(part.transpose(1, 2)[kept] for part in frames)), seconds, reference)

    @property
    def frames(self) -> FrameLogits:
        """What the head says, `(C, T, 128)`, with no onset on pitches that are not kept."""
        return FrameLogits(*map(self._whole, self.columns, (-math.inf, 0.0, 0.0, 0.0)))

    def _whole(self, columns: Tensor, elsewhere: float) -> Tensor:
        whole = columns.new_full((*self.kept.shape, columns.shape[1]), elsewhere)
        whole[self.kept] = columns
        return whole.transpose(1, 2)


def hear(transcriber: Transcriber, excerpts: Iterable[Excerpt]) -> list[Heard]:
    """Listen to each excerpt once; the thresholds are then tried without the model."""
    return [Heard.of(transcriber.hear_frames(audio), len(audio) / SAMPLE_RATE, list(notes)) for audio, notes in excerpts]


@dataclass(frozen=True)
class Listening:
    """What a model's frame head says of a stem's excerpts, from which scores and thresholds follow."""

    transcriber: Transcriber
    heard: tuple[Heard, ...]
    drums: bool

    @classmethod
    def of(
        cls, model: YourMT3, programs: Sequence[int], excerpts: Iterable[Excerpt], drums: bool, device: str | None = None
    ) -> "Listening":
        """Listen; the model must be in evaluation mode."""
        transcriber = Transcriber(model, programs, "frames", device)
        return cls(transcriber, tuple(hear(transcriber, excerpts)), drums)

    def onset_f1(self) -> list[float]:
        """Mean onset F1 over the excerpts with each threshold of `ONSET_GRID`."""
        scored = [onset_scores_of(self.transcriber, each, self.drums) for each in self.heard]
        means: list[float] = np.mean(scored, axis=0).tolist()
        return means


def onset_scores(transcriber: Transcriber, excerpt: Excerpt, drums: bool) -> list[float]:
    """Onset F1 of an excerpt with each threshold of `ONSET_GRID`; the model must be in evaluation mode."""
    (heard,) = hear(transcriber, [excerpt])
    return onset_scores_of(transcriber, heard, drums)


def onset_scores_of(transcriber: Transcriber, heard: Heard, drums: bool) -> list[float]:
    """The same of an excerpt that was listened to."""
    score = drum_counts if drums else onset_counts
    return [_f1(transcriber, heard, threshold, HELD_FROM, UNISONS_HELD, score) for threshold in ONSET_GRID]


def _f1(transcriber: Transcriber, heard: Heard, onset: float, active: float, unison: float, score: Score) -> float:
    return score(heard.reference, transcriber.read_frames(heard.frames, heard.seconds, onset, active, unison)).f1


def _middle(grid: Sequence[float], means: Sequence[float]) -> float:
    """The middle of the values around the best one that read as well; of two the lower one.

    The best of a level stretch lies anywhere on it, and at its edge other music falls off.
    """
    first = last = int(np.argmax(means))
    least = means[first] - LEVEL
    while first > 0 and means[first - 1] >= least:
        first -= 1
    while last < len(means) - 1 and means[last + 1] >= least:
        last += 1
    return grid[(first + last) // 2]


def choose_thresholds(head: FrameHeadConfig, stems: Iterable[Listening]) -> FrameHeadConfig:
    """The frame head's config with thresholds chosen for some stems.

    Args:
        head: the config to start from.
        stems: what was heard of each. Of two stems that share a channel the later one decides; one of which nothing was heard
            decides nothing.
    """
    thresholds, exceptions = list(head.onset_thresholds), list(head.exceptions)
    pitched: list[tuple[Transcriber, Heard, float]] = []
    for stem in stems:
        transcriber, heard, drums = stem.transcriber, stem.heard, stem.drums
        if not heard:
            continue
        threshold = _middle(ONSET_GRID, stem.onset_f1())
        for channel in transcriber.channels:
            thresholds[channel] = threshold
        exceptions = [each for each in exceptions if each[0] not in transcriber.channels]
        if drums:
            (channel,) = transcriber.channels
            exceptions += [(channel, pitch, own) for pitch, own in _drum_thresholds(transcriber, heard, threshold)]
        else:
            pitched += [(transcriber, each, threshold) for each in heard]
    active, unison = head.active_threshold, head.unison_threshold
    shared = [each for each in pitched if len(each[0].channels) > 1]  # there are no unisons on one channel
    if shared:
        means = [_mean(_f1(*each, HELD_FROM, value, onset_counts) for each in shared) for value in UNISON_GRID]
        unison = _middle(UNISON_GRID, means)
    if pitched:
        means = [_mean(_f1(*each, value, unison, onset_offset_counts) for each in pitched) for value in ACTIVE_GRID]
        active = _middle(ACTIVE_GRID, means)
    return replace(
        head,
        onset_thresholds=tuple(thresholds),
        exceptions=tuple(exceptions),
        active_threshold=active,
        unison_threshold=unison,
    )


def _mean(scores: Iterable[float]) -> float:
    return float(np.mean(list(scores)))


def _drum_thresholds(transcriber: Transcriber, heard: Sequence[Heard], usual: float) -> list[tuple[int, float]]:
    """Thresholds of the drums that are hit often enough and read better with another one than the `usual`.

    A model is far surer of a kick than of a ride. Drums do not touch each other's scores, so each is tried by itself, by onset
    F1 of all its hits.
    """
    tried: dict[int, dict[float, list[Counts]]] = {}
    for threshold in ONSET_GRID:
        for each in heard:
            found = transcriber.read_frames(each.frames, each.seconds, threshold, HELD_FROM, UNISONS_HELD)
            for pitch, counts in drum_counts_by_pitch(each.reference, found).items():
                tried.setdefault(pitch, {}).setdefault(threshold, []).append(counts)
    own = []
    for pitch, by_threshold in sorted(tried.items()):
        f1 = {threshold: pool(counts).f1 for threshold, counts in by_threshold.items()}
        best = max(f1, key=lambda threshold: (f1[threshold], -abs(threshold - usual)))
        hits = max(pool(counts).reference for counts in by_threshold.values())
        if hits >= FEWEST_HITS and f1[best] > f1.get(usual, 0.0):
            own.append((pitch, best))
    return own
