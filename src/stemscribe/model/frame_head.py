"""A second way out of the encoder: for each frame and pitch, does a note start, when exactly, does one sound, is it sung?

After Onsets and Frames (Hawthorne et al. 2018, arXiv 1710.11153), with the onset's place inside its frame as a third answer
(Kong et al. 2021, arXiv 2010.01815, regress it too). The fourth, whether a voice sounds, tells choirs from the strings that
share their channel. One linear layer, shared by all channels, reads the projected states; it
learns quickly, pulls the encoder along, and decodes without a token loop. The head may have ears of its own, for pitch
(`harmonic.py`) and for what is struck (`percussive.py`); the states of a channel then say what of their features belongs to
that channel, by scaling and shifting them (FiLM, Perez et al. 2018, arXiv 1709.07871).

`FrameReader` promises: every onset is a local maximum above its channel's threshold, every note has at least one frame, notes
of one pitch in one channel do not overlap, and memory grows with the number of notes alone.
"""

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from stemscribe.model.config import PITCHES, FrameHeadConfig, ModelConfig
from stemscribe.model.harmonic import LOWEST, HarmonicPitches
from stemscribe.model.percussive import PercussiveFrames

ANSWERS = 4  # onset, active, shift, voice
UNISON_FRAMES = 2.0  # within which two channels hear one onset


class FrameLogits(NamedTuple):
    """What the head says of each frame and pitch, `(B, C, T, 128)` each."""

    onset: Tensor  # logit: a note starts
    active: Tensor  # logit: a note sounds
    shift: Tensor  # where in the frame it starts, in frames from its centre
    voice: Tensor  # logit: what sounds is a voice (`vocabulary.SUNG`) and no instrument


class FrameHead(nn.Module):
    """Projected states, and for its ears the waveform -> `FrameLogits`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        head = config.frame_head
        assert head is not None
        self.linear = nn.Linear(config.d_model, ANSWERS * PITCHES)
        nn.init.constant_(self.linear.bias[: 2 * PITCHES], head.initial_bias)
        self.harmonic = self.percussive = None
        if head.harmonic is not None:
            ear = HarmonicPitches(head.harmonic, config.hop, config.sample_rate)
            self.harmonic = Listener(ear, config.d_model, head.harmonic.width, ANSWERS)
            pitched = torch.ones(config.channels)
            pitched[list(head.harmonic.unpitched)] = 0.0
            self.register_buffer("pitched", pitched, persistent=False)
        if head.percussive is not None:
            noise = PercussiveFrames(head.percussive, config.hop, config.sample_rate)
            self.percussive = Listener(noise, config.d_model, head.percussive.width, ANSWERS * PITCHES)

    def forward(self, memory: Tensor, waveform: Tensor, rows: Tensor) -> FrameLogits:
        """Read the states; always fp32 out, since thresholds and losses follow.

        Args:
            memory: `(B, C, T, d_model)`.
            waveform: the segments that it was heard from, `(B, N)`; only the ears listen to it.
            rows: channel numbers `(B, C)`.
        """
        answers = self.linear(memory)
        if self.percussive is not None:
            answers = answers + self.percussive(waveform, memory)
        answers = torch.unflatten(answers.float(), -1, (ANSWERS, PITCHES))
        if self.harmonic is not None:
            pitched = self.get_buffer("pitched")[rows]
            if bool(pitched.any()):  # a third of a step of the small model, which drums by themselves are spared
                of_pitches = self.harmonic(waveform, memory.unsqueeze(-2)).float().transpose(-1, -2)
                of_pitches = of_pitches * pitched[..., None, None, None]
                answers = answers + F.pad(of_pitches, (LOWEST, PITCHES - LOWEST - of_pitches.shape[-1]))
        return FrameLogits(*answers.unbind(dim=-2))


class Listener(nn.Module):
    """An ear, and what each channel makes of what it hears."""

    def __init__(self, ear: nn.Module, states: int, width: int, answers: int) -> None:
        super().__init__()
        self.ear = ear
        self.attend = nn.Linear(states, 2 * width)
        self.answer = nn.Linear(width, answers, bias=False)

    def forward(self, waveform: Tensor, memory: Tensor) -> Tensor:
        """Answers of each channel.

        Args:
            waveform: `(B, N)`; the ear makes `(B, T, ..., width)` of it.
            memory: `(B, C, T, ..., states)`.

        Returns:
            `(B, C, T, ..., answers)`.
        """
        scale, offset = self.attend(memory).chunk(2, dim=-1)
        answers: Tensor = self.answer(torch.addcmul(offset, self.ear(waveform).unsqueeze(1), 1 + scale).relu_())
        return answers


class FrameReader:
    """Reads notes from consecutive frames, a stretch at a time.

    An onset is a frame whose probability reaches the threshold of channel and pitch, exceeds the next frame's and is no less
    than the previous one's. The note is held until its pitch is no longer active or starts again. It is sung if its frames'
    logits of a voice add up to more than 0.

    Args:
        thresholds: of the onset probability, one for each of the C channels, or `(C, 128)`.
        active: the probability from which a pitch is held.
    """

    def __init__(self, thresholds: Sequence[float] | NDArray[np.float32], active: float) -> None:
        given = np.asarray(thresholds, dtype=np.float32)
        self._thresholds = given[:, None] if given.ndim == 2 else given[:, None, None]
        self._active = active
        self._next = 0  # number of the first frame that has not been decided
        nothing = np.full((len(thresholds), 1, PITCHES), -1.0, dtype=np.float32)
        self._before = nothing  # onset probabilities of the last decided frame
        self._waiting: tuple[NDArray[np.float32], ...] = (nothing[:, :0],) * ANSWERS  # the frame that waits for its successor
        self._since = np.full((len(thresholds), PITCHES), np.nan)  # where the note that is held started
        self._surety = np.zeros((len(thresholds), PITCHES))  # with what probability
        self._voice = np.zeros((len(thresholds), PITCHES))  # sum of its voice logits
        self._found: list[NDArray[np.float64]] = []  # `(n, 6)` each, as `finish` returns them

    def feed(self, frames: FrameLogits) -> None:
        """Read on.

        Args:
            frames: the next `(C, T, 128)`, any T.
        """
        onset, active = frames.onset.float().sigmoid(), frames.active.float().sigmoid()
        heard = (onset, active, frames.shift.float().clamp(-0.5, 0.5), frames.voice.float())
        self._read(*(part.cpu().numpy() for part in heard))

    def finish(self) -> NDArray[np.float64]:
        """All notes.

        Returns:
            `(n, 6)`: channel (its place in C), onset and offset in frames from the first one fed, pitch, 1 if a voice sings
            it, and the probability of its onset; onsets lie between frames, offsets on them. Ordered by onset, channel, pitch.
        """
        nothing = np.full_like(self._before, -1.0)
        self._read(nothing, nothing, nothing, nothing)  # the last frame has no successor
        held = (~np.isnan(self._since)).nonzero()
        until = np.full(len(held[0]), self._next)
        self._keep(held[0], held[1], self._since[held], until, self._surety[held], self._voice[held])
        self._since[held] = np.nan
        notes = np.concatenate(self._found)
        self._found = []
        return notes[np.lexsort((notes[:, 3], notes[:, 0], notes[:, 1]))]

    def _read(self, *heard: NDArray[np.float32]) -> None:
        onset, active, shift, voice = (np.concatenate(pair, axis=1) for pair in zip(self._waiting, heard, strict=True))
        decided = max(onset.shape[1] - 1, 0)
        self._waiting = onset[:, decided:], active[:, decided:], shift[:, decided:], voice[:, decided:]
        if decided == 0:
            return
        now, after = onset[:, :decided], onset[:, 1:]
        before = np.concatenate((self._before, now[:, :-1]), axis=1)
        starts = (now >= self._thresholds) & (now >= before) & (now > after)
        stops = (active[:, :decided] < self._active) | starts
        self._follow(starts, stops, now, shift[:, :decided], voice[:, :decided])
        self._before = now[:, -1:]
        self._next += decided

    def _follow(
        self,
        starts: NDArray[np.bool_],
        stops: NDArray[np.bool_],
        onset: NDArray[np.float32],
        shift: NDArray[np.float32],
        voice: NDArray[np.float32],
    ) -> None:
        """Follow the notes that are held and those that start, in frames `(C, T, 128)`, to their end or the last frame."""
        channels, pitches = (starts.any(axis=1) | ~np.isnan(self._since)).nonzero()  # the few on which something happens
        few = channels, slice(None), pitches
        starts, stops, onset, shift, voice = starts[few], stops[few], onset[few], shift[few], voice[few]
        frames = starts.shape[1]
        stop = np.pad(np.where(stops, np.arange(frames), frames), ((0, 0), (0, 1)), constant_values=frames)
        stop = np.minimum.accumulate(stop[:, ::-1], axis=1)[:, ::-1]  # the first one from each frame on
        sung = np.pad(np.cumsum(voice, axis=1, dtype=np.float64), ((0, 0), (1, 0)))  # in all frames before each
        (held,) = (~np.isnan(self._since[channels, pitches])).nonzero()
        rows, at = starts.nonzero()
        own = channels[held], pitches[held]
        where = np.concatenate((held, rows))
        since = np.concatenate((self._since[own], self._next + at + shift[rows, at]))
        surety = np.concatenate((self._surety[own], onset[rows, at]))
        until = np.concatenate((stop[held, 0], stop[rows, at + 1]))
        voiced = sung[where, until] + np.concatenate((self._voice[own], -sung[rows, at]))
        self._since[channels, pitches] = np.nan
        ends = until < frames
        done, open_ = where[ends], where[~ends]
        if len(done) > 0:
            self._keep(channels[done], pitches[done], since[ends], self._next + until[ends], surety[ends], voiced[ends])
        place = channels[open_], pitches[open_]
        self._since[place], self._surety[place], self._voice[place] = since[~ends], surety[~ends], voiced[~ends]

    def _keep(
        self,
        channels: NDArray[np.intp],
        pitches: NDArray[np.intp],
        since: NDArray[np.float64],
        until: NDArray[np.intp],
        surety: NDArray[np.float64],
        voice: NDArray[np.float64],
    ) -> None:
        self._found.append(np.stack((channels, since, until, pitches, voice > 0, surety), axis=1).astype(np.float64))


def without_echoes(found: NDArray[np.float64], threshold: float, apart: Sequence[int] = ()) -> NDArray[np.float64]:
    """What a `FrameReader` found, less what a channel only heard along with another one.

    A piano and a guitar are alike to the head; in doubt it hears one note on both channels, each with half its heart. Of notes
    of one pitch that begin together on several channels the surest is kept, and another one where it is sure enough, since
    unisons exist. Voices and instruments are looked at apart.

    Args:
        found: `(n, 6)`.
        threshold: probability from which the second note of a unison is kept.
        apart: channels (their places in C) that are left as they are: those of drums.
    """
    kept: dict[tuple[int, bool], list[tuple[float, float]]] = {}  # onsets with their channels
    stays = np.ones(len(found), dtype=np.bool_)
    for index in np.argsort(-found[:, 5], kind="stable").tolist():
        channel, onset, _, pitch, sung, surety = found[index].tolist()
        if channel in apart:
            continue
        onsets = kept.setdefault((int(pitch), bool(sung)), [])
        first, last = (onset - UNISON_FRAMES, -math.inf), (onset + UNISON_FRAMES, math.inf)
        alike = onsets[bisect_left(onsets, first) : bisect_right(onsets, last)]
        if surety < threshold and any(other != channel for _, other in alike):
            stays[index] = False
        else:
            insort(onsets, (onset, channel))
    return found[stays]


def onset_thresholds(head: FrameHeadConfig, channels: Sequence[int]) -> NDArray[np.float32]:
    """The thresholds by which a model is read, `(C, 128)`: those of its channels, and of pitches that have their own."""
    table = np.repeat(np.asarray(head.onset_thresholds, dtype=np.float32)[:, None], PITCHES, axis=1)
    for channel, pitch, threshold in head.exceptions:
        table[channel, pitch] = threshold
    return table[list(channels)]


@dataclass(frozen=True)
class ReadFrames:
    """Which frames are read of the segments of a recording, and when they are.

    The segments stand in time order, as far apart as what is read of each is long. That is not a whole number of hops, so the
    step from the last frame of one to the first of the next may be shorter than a hop.
    """

    first: int  # of the frames of a segment
    count: int
    hop: int  # samples
    apart: float  # samples from the beginning of one segment to that of the next
    sample_rate: int

    @classmethod
    def middle(cls, config: ModelConfig) -> "ReadFrames":
        """The middle half, which hears what comes before and after it, of segments that overlap by half."""
        count = -(-config.segment_samples // (2 * config.hop))
        return cls((config.frames - count) // 2, count, config.hop, config.segment_samples / 2, config.sample_rate)

    @classmethod
    def whole(cls, config: ModelConfig) -> "ReadFrames":
        """All frames of segments that do not overlap, but for one that lies beyond the segment's end."""
        return cls(0, -(-config.segment_samples // config.hop), config.hop, config.segment_samples, config.sample_rate)

    def take(self, frames: FrameLogits) -> FrameLogits:
        """The frames to read of `(S, C, T, 128)`: `(C, S count, 128)`."""
        kept = slice(self.first, self.first + self.count)
        return FrameLogits(*(part[:, :, kept].transpose(0, 1).flatten(1, 2) for part in frames))

    def seconds(self, frames: NDArray[np.float64]) -> NDArray[np.float64]:
        """Times of frames that count on through the segments, fractions allowed; 0 is the first segment's first sample."""
        segment = np.floor(np.maximum(np.floor(frames + 0.5), 0) / self.count)  # of the whole frame, whatever lies between two
        samples = np.ceil(segment * self.apart) + (self.first + frames - segment * self.count) * self.hop
        return np.asarray(samples / self.sample_rate, dtype=np.float64)
