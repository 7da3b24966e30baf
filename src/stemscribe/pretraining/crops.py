"""Crops that teach a generalist: single sources, stem groups and full mixes, and what some of the channels should say.

A crop is drawn for a `Subject`, a channel or the voices on it, of which it has at least one source.
Like every crop of the house, each is a pure function of (seed, index). Filters and rooms change what is heard and not what is
true. As many channels are taught for each crop, so that a batch is a rectangle: first one that sounds, then others that sound
and, where there are no more of them or now and then anyway, some that do not, because a model must also learn to say nothing.
Drums are not transposed with the rest: a tom three semitones lower is another tom.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from stemscribe import vocabulary
from stemscribe.audio import Audio
from stemscribe.data import effects
from stemscribe.data.crops import Crop, Grid, Window, draw_window, make_crop, mix_down, notes_of
from stemscribe.data.shards import ShardReader, ShardTrack
from stemscribe.errors import DataError
from stemscribe.model.config import ModelConfig
from stemscribe.notes import DRUM_PROGRAM, Note
from stemscribe.pretraining.params import MixtureParams, TrainParams
from stemscribe.tokenizer import Tokenizer

CHANNEL_BALANCE = 0.5  # exponent on the number of sources: 1 is as in the songs, 0 all channels alike
MODEL_DRUM_CHANNEL = vocabulary.channel_of(DRUM_PROGRAM)
FEWEST_NOTES = 5  # a track with fewer on a channel does not teach that channel

_Candidate = tuple[ShardTrack, npt.NDArray[np.float64]]


class Subject(NamedTuple):
    """What a crop is drawn for: a channel, or of those that write on it the voices alone."""

    channel: int
    sung: bool

    def includes(self, program: int | None) -> bool:
        """Whether a source of this program is one of those."""
        own = program is not None and vocabulary.channel_of(program) == self.channel
        return own and (program in vocabulary.VOICE_LIKE or not self.sung)


def stem_group(program: int | None) -> str:
    """Which of the four stems a source belongs to in the demo; None is a source of many programs."""
    if program == DRUM_PROGRAM:
        return "drums"
    if program is not None and 32 <= program < 40:
        return "bass"
    return "vocals" if program in vocabulary.VOICE_LIKE else "other"


class GeneralistCrops(Dataset[Crop]):
    """Crops of all training tracks.

    Args:
        shards: all sources of the songs.
        config: the model that will hear them.
        train: how they are mixed and varied.
        seed: first half of each crop's identity.
        first: index of the crop that `self[0]` is.
        count: how many crops this dataset offers.
        total: crops of the whole training, which the curriculum divides.
    """

    def __init__(
        self, shards: ShardReader, config: ModelConfig, train: TrainParams, seed: int, first: int, count: int, total: int
    ) -> None:
        self._shards, self._train, self._seed = shards, train, seed
        self._first, self._count, self._total = first, count, total
        self._grid = Grid.of(config)
        self._tokenizer = Tokenizer(config.segment_samples, config.sample_rate, config.max_length)
        self._tracks = [track for track in shards.tracks("train") if track.sources]
        by_subject = _onsets_by_subject(shards, self._tracks)
        tracks = {subject: len(each) for subject, each in by_subject.items()}
        shares = _shares(tracks, train.mixture.drums, train.mixture.voices)
        self._candidates = {subject: by_subject[subject] for subject, share in shares.items() if share > 0}
        self._share = [shares[subject] for subject in self._candidates]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Crop:
        number = self._first + index
        generator = np.random.default_rng((self._seed, number))
        mixture = self._train.mixture
        later = number >= mixture.curriculum * self._total
        subject = list(self._candidates)[generator.choice(len(self._share), p=self._share)]
        channel = subject.channel
        tracks, onsets = zip(*self._candidates[subject], strict=True)
        _, window = draw_window(generator, tracks, onsets, self._grid, self._train.augment.transpose)
        if generator.random() < mixture.silence:
            return self._silence(generator, channel)
        drawn = [(window, self._draw_sources(generator, window.track, subject, mixture, later))]
        if len(drawn[0][1]) > 1 and generator.random() < mixture.other_song:
            drawn.append(self._from_another_song(generator, window))
        parts = [part for window, sources in drawn for part in _drums_apart(window, sources)]
        audio = np.concatenate([self._play(part, sources) for part, sources in parts])
        notes = [note for part, sources in parts for note in self._notes(part, sources)]
        return self._crop(self._heard(generator, audio), notes, self._channels(generator, notes, channel, mixture))

    def _silence(self, generator: np.random.Generator, channel: int) -> Crop:
        """Nothing but, perhaps, noise: what a model hears before the music begins."""
        audio = np.zeros((1, self._grid.samples), np.float32)
        channels = self._channels(generator, [], channel, self._train.mixture)
        return self._crop(mix_down(generator, audio, self._train.augment), [], channels)

    def _crop(self, waveform: Audio, notes: Sequence[Note], channels: Sequence[int]) -> Crop:
        return make_crop(waveform, notes, channels, self._grid, self._tokenizer, self._train.mixture.written)

    def _heard(self, generator: np.random.Generator, sources: Audio) -> Audio:
        """The sources as they reach the ear, `(N,)`."""
        augment = self._train.augment
        if generator.random() < augment.filter_share:
            sources = effects.filtered(generator, sources, augment.filter_db)
        waveform = mix_down(generator, sources, augment)
        if generator.random() < augment.room_share:
            waveform = effects.reverberant(generator, waveform, augment.room_seconds, augment.room_db)
        return waveform

    def _draw_sources(
        self, generator: np.random.Generator, track: ShardTrack, subject: Subject, mixture: MixtureParams, later: bool
    ) -> list[int]:
        """Which of the track's sources sound; at least one of the subject's."""
        programs = [source.program for source in track.sources]
        own = [index for index, program in enumerate(programs) if subject.includes(program)]
        first = int(generator.choice(own))
        if generator.random() < (mixture.single_later if later else mixture.single):
            return [first]
        if generator.random() < mixture.group:
            members = [index for index, program in enumerate(programs) if stem_group(program) == stem_group(programs[first])]
        else:
            members = list(range(len(programs)))
        return [index for index in members if index == first or generator.random() < mixture.keep_source]

    def _from_another_song(self, generator: np.random.Generator, window: Window) -> tuple[Window, list[int]]:
        """A few sources of another song, at any place, transposed alike."""
        other = self._tracks[int(generator.integers(len(self._tracks)))]
        latest = max(other.samples - window.samples(self._grid), 0)
        sources = [index for index in range(len(other.sources)) if generator.random() < 0.3]
        return Window(other, int(generator.integers(latest + 1)), window.semitones), sources

    def _play(self, window: Window, sources: list[int]) -> Audio:
        audio = self._shards.source_audio(window.track, window.start, window.samples(self._grid), sources)
        return window.play(audio, self._grid)

    def _notes(self, window: Window, sources: list[int]) -> list[Note]:
        return window.hear(notes_of(self._shards, window, sources, self._grid))

    def _channels(
        self, generator: np.random.Generator, notes: Iterable[Note], first: int, mixture: MixtureParams
    ) -> tuple[int, ...]:
        """What a crop teaches: `first`, others that sound, then silent ones; now and then the first of these comes second."""
        sounding = set(vocabulary.channels_of(note.program for note in notes)) - {first}
        silent = set(range(vocabulary.NUM_CHANNELS)) - sounding - {first}
        heard, rest = (generator.permutation(sorted(each)).tolist() for each in (sounding, silent))
        if rest and generator.random() < mixture.silent_channel:
            heard.insert(0, rest.pop())
        return (first, *[int(channel) for channel in (*heard, *rest)][: mixture.channels - 1])


def _drums_apart(window: Window, sources: Sequence[int]) -> list[tuple[Window, list[int]]]:
    """The drums among the sources in a window that is not transposed; parts without a source are left out."""
    drums = [source for source in sources if window.track.sources[source].program == DRUM_PROGRAM]
    pitched = [source for source in sources if source not in drums]
    return [part for part in ((window, pitched), (replace(window, semitones=0), drums)) if part[1]]


def _shares(tracks: Mapping[Subject, int], drums: float, voices: float) -> dict[Subject, float]:
    """How often crops are drawn for each subject, given how many tracks have it."""
    of_kind = {"drums": drums, "voices": voices, "channels": 1 - drums - voices}
    kinds = {each: "drums" if each.channel == MODEL_DRUM_CHANNEL else "voices" if each.sung else "channels" for each in tracks}
    balanced = {each: count**CHANNEL_BALANCE for each, count in tracks.items()}
    wholes = {kind: sum(balanced[each] for each in tracks if kinds[each] == kind) for kind in of_kind}
    shares = {each: of_kind[kinds[each]] * balanced[each] / wholes[kinds[each]] for each in tracks}
    whole = sum(shares.values())  # less than 1 in songs without drums or voices
    if whole == 0:
        raise DataError("no song has what mixture.drums and mixture.voices ask for; lower them, or add songs")
    return {each: share / whole for each, share in shares.items()}


def _onsets_by_subject(shards: ShardReader, tracks: Iterable[ShardTrack]) -> dict[Subject, list[_Candidate]]:
    """For each subject the tracks that really have it, with its onsets there in seconds, ascending."""
    found: dict[Subject, list[_Candidate]] = {}
    for track in tracks:
        onsets: dict[Subject, list[float]] = {}
        for note in shards.notes(track):
            channel = vocabulary.channel_of(note.program)
            if channel is None:
                continue
            onsets.setdefault(Subject(channel, sung=False), []).append(note.onset)
            if note.program in vocabulary.VOICE_LIKE:
                onsets.setdefault(Subject(channel, sung=True), []).append(note.onset)
        for subject, times in onsets.items():
            if len(times) >= FEWEST_NOTES:
                found.setdefault(subject, []).append((track, np.sort(times)))
    return dict(sorted(found.items()))
