"""Training crops: a segment of a stem's audio, and the notes that sound in it as tokens and as frames.

Every crop is a pure function of (seed, index): it does not matter which process makes it, in which order, or whether the
training was interrupted in between.

Transposition resamples the audio, so a crop that sounds a semitone higher also plays 2 ** (1/12) faster; its notes are
moved and scaled alike, which keeps the labels exact. (The reference shifts the audio and forgets the labels.)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from stemscribe import vocabulary
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.config import AugmentParams, StemAugmentParams
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.model.config import ModelConfig
from stemscribe.notes import Note
from stemscribe.tokenizer import EventTable, Tokenizer

# 2 ** (k / 12) as a fraction small enough for polyphase resampling; each is within 2 cents.
SEMITONE_RATIOS = {
    0: (1, 1), 1: (89, 84), 2: (55, 49), 3: (44, 37), 4: (63, 50), 5: (4, 3), 6: (99, 70),
    7: (3, 2), 8: (100, 63), 9: (37, 22), 10: (98, 55), 11: (168, 89), 12: (2, 1),
}  # fmt: skip
PLACES_TRIED = 4  # random starts before a crop without notes is accepted
BLEED_RANGE_DB = 18.0  # between the loudest and the faintest bleed
EMPTY_SHARE = 0.08  # of the crops may start anywhere, so that silence is heard too


class Batch(NamedTuple):
    """Crops stacked for a training step; C channels are taught for each of B crops."""

    waveform: Tensor  # (B, N) float32
    channels: Tensor  # (B, C) int64, which channels the rest speaks about
    tokens: Tensor  # (B, S, L) int64, padded with PAD; of the first S of the C channels, S = C where all are to be written
    onset: Tensor  # (B, C, T, 128) float32, 1 where a note begins
    active: Tensor  # (B, C, T, 128) float32, 1 while a note sounds
    shift: Tensor  # (B, C, T, 128) float32, where a note begins: how far after the frame's centre, in frames
    voice: Tensor  # (B, C, T, 128) float32, 1 while a voice sounds


@dataclass(frozen=True)
class Crop:
    """One training example; arrays as in `Batch` without the first axis."""

    waveform: Audio
    channels: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...]
    onset: npt.NDArray[np.bool_]
    active: npt.NDArray[np.bool_]
    shift: npt.NDArray[np.float32]
    voice: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Grid:
    """What a crop's arrays must look like for one model."""

    samples: int  # N
    hop: int  # samples between frames

    @classmethod
    def of(cls, config: ModelConfig) -> "Grid":
        """The grid of a model's segment."""
        return cls(config.segment_samples, config.hop)

    @property
    def frames(self) -> int:
        """T."""
        return 1 + self.samples // self.hop

    @property
    def seconds(self) -> float:
        """Duration of a crop."""
        return self.samples / SAMPLE_RATE


@dataclass(frozen=True)
class Window:
    """Where a crop is taken, and how much faster and higher it is played."""

    track: ShardTrack
    start: int  # samples
    semitones: int = 0

    @property
    def speed(self) -> float:
        """Ratio of playing speed, and of pitch."""
        up, down = SEMITONE_RATIOS[abs(self.semitones)]
        return up / down if self.semitones >= 0 else down / up

    def hear(self, notes: Iterable[Note]) -> list[Note]:
        """The notes in the crop's own time (from 0) and at the pitch that is heard.

        Notes that began before the window keep their negative onset: the tokenizer turns them into ties.
        """
        start = self.start / SAMPLE_RATE
        heard = []
        for note in notes:
            pitch = note.pitch if note.is_drum else note.pitch + self.semitones
            if 0 <= pitch <= 127:
                onset, offset = (note.onset - start) / self.speed, (note.offset - start) / self.speed
                heard.append(replace(note, onset=onset, offset=offset, pitch=pitch))
        return heard

    def play(self, audio: Audio, grid: Grid) -> Audio:
        """Bring `(..., M)` samples read from the window to `(..., N)` at the window's speed."""
        if self.semitones:
            from scipy.signal import resample_poly

            faster, slower = SEMITONE_RATIOS[abs(self.semitones)]
            up, down = (slower, faster) if self.semitones > 0 else (faster, slower)
            audio = resample_poly(audio, up, down, axis=-1).astype(np.float32)
        return audio[..., : grid.samples]

    def samples(self, grid: Grid) -> int:
        """How many samples of the track the crop needs."""
        return grid.samples if not self.semitones else int(np.ceil(grid.samples * self.speed)) + 16


def frame_targets(
    notes: Iterable[Note], channels: Sequence[int], grid: Grid
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_], npt.NDArray[np.float32], npt.NDArray[np.bool_]]:
    """Where notes begin, where they sound, how far from their frame's centre they begin, and where they are sung.

    Args:
        notes: in the crop's time.
        channels: the C channels to fill, by the channel of each note's program.
        grid: the crop's frames.
    Returns:
        `onset`, `active`, `shift` in [-0.5, 0.5] and `voice`, each `(C, T, 128)`; drums stand at the first pitch of their
        General MIDI group.
    """
    onset = np.zeros((len(channels), grid.frames, 128), dtype=np.bool_)
    active, voice = np.zeros_like(onset), np.zeros_like(onset)
    shift = np.zeros(onset.shape, dtype=np.float32)
    rows = {channel: row for row, channel in enumerate(channels)}
    per_second = SAMPLE_RATE / grid.hop
    for note in notes:
        channel = vocabulary.channel_of(note.program)
        row = -1 if channel is None else rows.get(channel, -1)
        first = round(note.onset * per_second)
        last = max(first + 1, round(note.offset * per_second))
        if row < 0 or last <= 0 or first >= grid.frames:
            continue
        pitch = vocabulary.drum_class(note.pitch) if note.is_drum else note.pitch
        if first >= 0:
            onset[row, first, pitch] = True
            shift[row, first, pitch] = note.onset * per_second - first
        active[row, max(first, 0) : last, pitch] = True
        voice[row, max(first, 0) : last, pitch] = note.program in vocabulary.SUNG
    return onset, active, shift, voice


def make_crop(
    waveform: Audio,
    notes: Sequence[Note],
    channels: Sequence[int],
    grid: Grid,
    tokenizer: Tokenizer,
    written: int | None = None,
) -> Crop:
    """Label a waveform `(N,)` with what `channels` should say about it; `notes` are in the crop's time.

    The first `written` channels, all by default, get tokens.
    """
    table = EventTable(notes)
    tokens = tuple(tuple(tokenizer.encode_segment(table, 0.0, channel)) for channel in channels[:written])
    return Crop(waveform, tuple(channels), tokens, *frame_targets(notes, channels, grid))


def collate(crops: Sequence[Crop]) -> Batch:
    """Stack crops; tokens are padded to the longest of the batch, not to the model's limit."""
    longest = max(len(row) for crop in crops for row in crop.tokens)
    tokens = np.full((len(crops), len(crops[0].tokens), longest), vocabulary.PAD, dtype=np.int64)
    for b, crop in enumerate(crops):
        for c, row in enumerate(crop.tokens):
            tokens[b, c, : len(row)] = row
    return Batch(
        torch.from_numpy(np.stack([crop.waveform for crop in crops])),
        torch.tensor([crop.channels for crop in crops]),
        torch.from_numpy(tokens),
        torch.from_numpy(np.stack([crop.onset for crop in crops])).float(),
        torch.from_numpy(np.stack([crop.active for crop in crops])).float(),
        torch.from_numpy(np.stack([crop.shift for crop in crops])),
        torch.from_numpy(np.stack([crop.voice for crop in crops])).float(),
    )


def draw_window(
    generator: np.random.Generator,
    tracks: Sequence[ShardTrack],
    onsets: Sequence[npt.NDArray[np.float64]],
    grid: Grid,
    transpose: int,
) -> tuple[int, Window]:
    """Choose a track and a place in it, preferring places where a note begins.

    Args:
        generator: source of the choice.
        tracks: candidates.
        onsets: for each track its sorted onsets in seconds.
        grid: the crop's length.
        transpose: semitones up or down at most, drawn evenly for half of the crops; the others stay as they are.
    Returns:
        position in `tracks`, and the window.
    """
    position = int(generator.integers(len(tracks)))
    track = tracks[position]
    semitones = int(generator.integers(-transpose, transpose + 1)) if generator.random() < 0.5 else 0
    window = Window(track, 0, semitones)
    latest = max(track.samples - window.samples(grid), 0)
    anywhere = generator.random() < EMPTY_SHARE
    for _ in range(PLACES_TRIED):
        start = int(generator.integers(latest + 1))
        begin, end = np.searchsorted(onsets[position], [start / SAMPLE_RATE, (start + window.samples(grid)) / SAMPLE_RATE])
        if end > begin or anywhere:
            break
    return position, Window(track, start, semitones)


def notes_of(shards: ShardReader, window: Window, sources: Sequence[int], grid: Grid) -> list[Note]:
    """What the chosen sources play in a window, in the track's time and uncut."""
    start = window.start / SAMPLE_RATE
    by_source = shards.notes_between(window.track, start, start + grid.seconds * window.speed)
    return [note for source in sources for note in by_source[source]]


def mix_down(generator: np.random.Generator, sources: Audio, augment: AugmentParams) -> Audio:
    """Sum sources `(n, N)` at random gains and add faint noise; `(N,)`."""
    gains = 10 ** (generator.uniform(-augment.gain_db, augment.gain_db, len(sources)) / 20)
    waveform = (gains.astype(np.float32)[:, None] * sources).sum(axis=0)
    if generator.random() < 0.3:
        level = 10 ** (generator.uniform(augment.noise_db - 30, augment.noise_db) / 20)
        waveform = waveform + np.float32(level) * generator.standard_normal(len(waveform), dtype=np.float32)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def channels_to_teach(
    generator: np.random.Generator, channels: Sequence[int], sounding: Iterable[int], count: int
) -> tuple[int, ...]:
    """Choose what a crop is to teach where a stem has many channels.

    Channels that sound come first, but of two places and more one is left for a silent one: a model that is never asked about
    silence hears things in it.

    Args:
        generator: source of the choice.
        channels: of the stem.
        sounding: of them, those with notes in the crop.
        count: how many to choose.

    Returns:
        `min(count, len(channels))` channels, ascending.
    """
    if len(channels) <= count:
        return tuple(channels)
    heard = sorted(set(sounding) & set(channels))
    silent = [channel for channel in channels if channel not in heard]
    most = max(count - 1, 1) if silent else count
    first = generator.permutation(heard)[:most].tolist() if heard else []
    rest = generator.permutation(silent)[: count - len(first)].tolist() if silent else []
    return tuple(sorted(int(channel) for channel in (*first, *rest)))


class StemCrops(Dataset[Crop]):
    """Crops of one stem's training tracks: the stem's audio in, the stem's notes out.

    Args:
        shards: the stem's shards.
        mix: the full mixes of the same tracks, from which bleed is taken; their difference from the stem is the rest.
        split: which tracks.
        config: the model that will hear them.
        augment: how crops are varied.
        teach: channels taught by one crop, see `channels_to_teach`.
        seed: first half of each crop's identity.
        first: index of the crop that `self[0]` is, so that an epoch later in training continues the same sequence.
        count: how many crops this dataset offers.
    Raises:
        ValueError: if no track of the split has a note of the stem.
    """

    def __init__(
        self,
        shards: ShardReader,
        mix: ShardReader,
        split: str,
        config: ModelConfig,
        augment: StemAugmentParams,
        teach: int,
        seed: int,
        first: int,
        count: int,
    ) -> None:
        self._shards, self._mix, self._augment, self._teach = shards, mix, augment, teach
        self._seed, self._first, self._count = seed, first, count
        self._grid = Grid.of(config)
        self._tokenizer = Tokenizer(config.segment_samples, config.sample_rate, config.max_length)
        self._channels: tuple[int, ...] = tuple(shards.manifest["channels"])
        drums = vocabulary.is_drums(shards.manifest["programs"])
        self._transpose = 0 if drums else augment.transpose  # a tom a semitone lower is another tom
        self._tracks = [track for track in shards.tracks(split) if track.sources and shards.notes(track)]
        if not self._tracks:
            raise ValueError(f"no {split} track has a note of this stem")
        self._onsets = [np.sort([note.onset for note in shards.notes(track)]) for track in self._tracks]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Crop:
        generator = np.random.default_rng((self._seed, self._first + index))
        _, window = draw_window(generator, self._tracks, self._onsets, self._grid, self._transpose)
        kept = self._draw_sources(generator, window.track)
        audio = self._shards.source_audio(window.track, window.start, window.samples(self._grid), kept)
        if generator.random() < self._augment.bleed_share:
            audio = np.concatenate([audio, self._bleed(generator, window)])
        waveform = mix_down(generator, window.play(audio, self._grid), self._augment)
        notes = window.hear(notes_of(self._shards, window, kept, self._grid))
        sounding = vocabulary.channels_of(note.program for note in notes)
        channels = channels_to_teach(generator, self._channels, sounding, self._teach)
        return make_crop(waveform, notes, channels, self._grid, self._tokenizer)

    def _bleed(self, generator: np.random.Generator, window: Window) -> Audio:
        """The rest of the mix at a random low level, `(1, M)`."""
        place = window.track.track, window.start, window.samples(self._grid)
        rest = self._mix.audio(*place) - self._shards.audio(*place)
        loudest = self._augment.bleed_db
        level = 10 ** (generator.uniform(loudest - BLEED_RANGE_DB, loudest) / 20)
        return np.asarray(level * rest[None], dtype=np.float32)

    def _draw_sources(self, generator: np.random.Generator, track: ShardTrack) -> list[int]:
        everything = list(range(len(track.sources)))
        kept = [source for source in everything if generator.random() >= self._augment.drop_source]
        return kept or [int(generator.choice(everything))]
