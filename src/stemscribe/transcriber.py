"""From a recording to notes: cut into segments, encode, read, stitch, keep what belongs to the stem.

    transcriber = Transcriber(load_model("models/bass"), programs=range(32, 40))
    notes = transcriber.transcribe(read_audio("bass.wav")).notes

A model can be read in two ways, its heads: `tokens`, the decoder, which writes one token after another, and `frames`, the frame
head, which needs no such loop. The promise: however many heads read a recording, no segment is encoded twice, and each head's
notes are those that it would find alone.

The decoder's segments do not overlap (YourMT3+); a note that crosses a border is carried by the next segment's tie section. The
frame head also hears the segments that lie between them, and only the middle of each is read, unless `overlap` is off: then
it hears half as much, and borders cost notes. It knows channels and tells voices from instruments, but knows no programs: its
notes bear the one that is most typical of the stem on their channel.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stemscribe import runtime, vocabulary
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.config import FRAMES, HEADS, TOKENS
from stemscribe.errors import DataError, UsageError
from stemscribe.memory import memory_for
from stemscribe.model.config import FrameHeadConfig
from stemscribe.model.frame_head import FrameLogits, FrameReader, ReadFrames, onset_thresholds, without_echoes
from stemscribe.model.projection import check_int8
from stemscribe.model.yourmt3 import YourMT3
from stemscribe.notes import DRUM_PROGRAM, SHORTEST_SECONDS, Note, clean_notes, clip_notes
from stemscribe.tokenizer import Tokenizer

STREAM_LIMIT = 128  # segments x channels that are decoded together


@dataclass(frozen=True)
class Transcription:
    """Notes in musical order, and what the decoder stumbled over."""

    notes: tuple[Note, ...]
    seconds: float
    problems: Mapping[str, int] = field(default_factory=dict)


class Transcriber:
    """A model with the choices that turn audio into notes.

    Args:
        model: hears without dropout and pruned to the wanted latents; its own mode returns after each recording.
        programs: which programs to listen for; their channels follow. All that the vocabulary has, if not given.
        decode: the head that `transcribe` reads: `tokens` or `frames`.
        device: where to move the model; it stays where it is, if not given.
        int8: quantise the token decoder: faster on CPUs, and some tokens differ (docs/model.md).
        overlap: whether the frame head hears segments that overlap by half; the token decoder never does.

    Raises:
        UsageError: if no program has a channel, the model lacks one of the channels or the head, or int8 is no choice.
    """

    def __init__(
        self,
        model: YourMT3,
        programs: Iterable[int] | None = None,
        decode: str = TOKENS,
        device: str | None = None,
        int8: bool = False,
        overlap: bool = True,
    ) -> None:
        wanted = range(DRUM_PROGRAM + 1) if programs is None else tuple(programs)
        self.channels = vocabulary.channels_of(wanted)
        if not self.channels:
            raise UsageError(f"none of the programs {list(wanted)} is one the model can hear; effects (96-99, 102-127) are not")
        missing = set(self.channels) - set(model.channels)
        if missing:
            raise UsageError(f"this model has no channel {min(missing)}; it was made for channels {list(model.channels)}")
        self.heads = tuple(head for head in HEADS if head != FRAMES or model.frame_head is not None)
        self._check_heads((decode,))
        self._model = model if device is None else model.to(device)
        self._int8 = int8
        if int8:
            try:
                check_int8(next(model.parameters()).device)
            except ValueError as error:
                raise UsageError(str(error)) from None
        self._programs = vocabulary.class_programs(wanted)
        self._typical = {
            (channel, sung): typical_program(channel, wanted, sung) for channel in self.channels for sung in (False, True)
        }
        self._drums = [row for row, channel in enumerate(self.channels) if channel == vocabulary.channel_of(DRUM_PROGRAM)]
        self._decode = decode
        config = model.config
        self._overlap = overlap
        self._read_frames = ReadFrames.middle(config) if overlap else ReadFrames.whole(config)
        self._tokenizer = Tokenizer(config.segment_samples, config.sample_rate, config.max_length)

    def transcribe(self, audio: Audio) -> Transcription:
        """Notes of a recording, read by the head `decode`.

        Args:
            audio: `(N,)` mono at 16 kHz, in [-1, 1]; any length of at least one sample.
        Raises:
            DataError: if the audio is empty or holds samples that are not numbers.
            StemscribeError: if there is too little memory for the segments that are heard together.
        """
        return self._transcribe(audio, (self._decode,))[self._decode]

    def transcribe_by_head(self, audio: Audio, heads: Sequence[str] | None = None) -> dict[str, Transcription]:
        """The same recording read by several heads, all that the model has by default, from one encoding; see `transcribe`.

        Raises:
            UsageError: if the model lacks one of the heads.
        """
        return self._transcribe(audio, self.heads if heads is None else heads)

    def _transcribe(self, audio: Audio, heads: Sequence[str]) -> dict[str, Transcription]:
        self._check_heads(heads)
        _check_audio(audio)
        was_training, was_pruned = self._model.training, self._model.prune
        self._model.eval()
        self._model.prune = True
        try:
            with self._enough_memory(audio, heads), torch.inference_mode(), self._model.decoding(self._int8):
                read = self._read(audio, heads)
        finally:
            self._model.prune = was_pruned
            self._model.train(was_training)
        seconds = len(audio) / SAMPLE_RATE
        return {
            head: Transcription(tuple(clean_notes(clip_notes(self._of_stem(notes), seconds))), seconds, problems)
            for head, (notes, problems) in read.items()
        }

    def _of_stem(self, notes: Iterable[Note]) -> list[Note]:
        return [note for note in notes if vocabulary.program_token_class(note.program) in self._programs]

    def _read(self, audio: Audio, heads: Sequence[str]) -> dict[str, tuple[list[Note], Mapping[str, int]]]:
        """Notes and the decoder's problems, by head."""
        tokens: list[Tensor] = []
        reader = self._reader() if FRAMES in heads else None
        for segments, between in self._groups(audio, heads):
            memory, said = self._hear(segments, heads)
            if TOKENS in heads:
                tokens.append(self._model.generate_from_memory(self._model.informed(memory, said)).cpu())
            if reader is not None and said is not None:
                reader.feed(self._frames(said, between))
        read: dict[str, tuple[list[Note], Mapping[str, int]]] = {}
        if TOKENS in heads:
            read[TOKENS] = self._notes_of_tokens(tokens)
        if reader is not None:
            read[FRAMES] = self._notes_of_frames(reader.finish(), self._head.unison_threshold), {}
        return read

    @torch.inference_mode()
    def hear_frames(self, audio: Audio) -> FrameLogits:
        """What the frame head says of a recording `(N,)`, for trying thresholds; the model must be in evaluation mode.

        Returns:
            `(C, T, 128)` each, on the CPU, with the frames that `read_frames` expects.

        Raises:
            UsageError: if the model has no frame head.
            DataError, StemscribeError: see `transcribe`.
        """
        self._check_heads((FRAMES,))
        _check_audio(audio)
        with self._enough_memory(audio, (FRAMES,)):
            return self._hear_frames(audio)

    def _hear_frames(self, audio: Audio) -> FrameLogits:
        parts = [self._frames(self._said(segments), between) for segments, between in self._groups(audio, (FRAMES,))]
        return FrameLogits(*(torch.cat(part, dim=1).cpu() for part in zip(*parts, strict=True)))

    def read_frames(self, frames: FrameLogits, seconds: float, onset: float, active: float, unison: float) -> list[Note]:
        """Notes of a recording of `seconds` from what `hear_frames` said of it.

        Args:
            frames: from `hear_frames`.
            seconds: length of the recording.
            onset: threshold of all channels; see `FrameHeadConfig`.
            active: threshold.
            unison: threshold.
        """
        reader = FrameReader([onset] * len(self.channels), active)
        reader.feed(frames)
        return clean_notes(clip_notes(self._of_stem(self._notes_of_frames(reader.finish(), unison)), seconds))

    @property
    def _head(self) -> FrameHeadConfig:
        head = self._model.config.frame_head
        assert head is not None  # see `_check_heads`
        return head

    def _reader(self) -> FrameReader:
        return FrameReader(onset_thresholds(self._head, self.channels), self._head.active_threshold)

    def _hear(self, segments: Tensor, heads: Sequence[str]) -> tuple[Tensor, FrameLogits | None]:
        """Memory of segments `(b, N)`, and what the frame head says of them where that is read, by whomever."""
        memory = self._model.encode(segments, self.channels)
        needed = FRAMES in heads or self._model.config.memory_frames
        return memory, self._model.frames(memory, segments, self.channels) if needed else None

    def _said(self, segments: Tensor) -> FrameLogits:
        """What the frame head says of segments `(b, N)`."""
        return self._model.frames(self._model.encode(segments, self.channels), segments, self.channels)

    def _frames(self, said: FrameLogits, between: Tensor | None) -> FrameLogits:
        """The frames to read, `(C, T, 128)`, of what was said of segments, and of the segments `(b, N)` between them if any."""
        return self._read_frames.take(said if between is None else _in_turn(self._said(between), said))

    def _groups(self, audio: Audio, heads: Sequence[str]) -> Iterable[tuple[Tensor, Tensor | None]]:
        """Consecutive segments `(b, N)`, and in turn with them those that begin half a segment before each, in groups.

        The last group has one more of the latter, so that the end of the music, too, is in the middle of a segment. There are
        none of them where nobody reads them.
        """
        size = self._model.config.segment_samples
        count = -(-len(audio) // size)
        before = size - size // 2
        padded = torch.zeros(before + (count + 1) * size)
        padded[before : before + len(audio)] = torch.from_numpy(audio)
        segments = padded[before : before + count * size].view(count, size)
        between = padded[: (count + 1) * size].view(count + 1, size)
        group = self._group()
        device = next(self._model.parameters()).device  # asked each time: Lightning moves the model it trains
        for start in range(0, count, group):
            stop = min(start + group, count)
            half_before = between[start : stop + (stop == count)].to(device) if self._overlap and FRAMES in heads else None
            yield segments[start:stop].to(device), half_before

    def _group(self) -> int:
        """Segments that are heard together."""
        return max(1, min(runtime.segments(), STREAM_LIMIT // len(self.channels)))

    def _enough_memory(self, audio: Audio, heads: Sequence[str]) -> AbstractContextManager[None]:
        """Tell people what fits if there is too little memory for the recording's largest group."""
        asked = min(self._group(), -(-len(audio) // self._model.config.segment_samples))
        return memory_for(asked, "transcribing", "STEMSCRIBE_SEGMENTS", lambda segments: self._rehearse(segments, heads))

    @torch.inference_mode()
    def _rehearse(self, segments: int, heads: Sequence[str]) -> None:
        """The most work that a group of that many segments can be, on silence; it tells whether there is memory for it."""
        between = torch.zeros(segments + 1, self._model.config.segment_samples, device=next(self._model.parameters()).device)
        with self._model.decoding(self._int8):
            memory, said = self._hear(between[1:], heads)
            if TOKENS in heads:
                self._model.generate_from_memory(self._model.informed(memory, said), stop=False)
            if FRAMES in heads and said is not None:
                self._frames(said, between if self._overlap else None)

    def _check_heads(self, heads: Iterable[str]) -> None:
        for head in heads:
            if head not in HEADS:
                raise UsageError(f"unknown head {head!r}; this model has {' and '.join(self.heads)}")
            if head not in self.heads:
                raise UsageError("this model has no frame head; decode tokens (predict.decode), or add one (base.frame_head)")

    def _notes_of_tokens(self, groups: Sequence[Tensor]) -> tuple[list[Note], Mapping[str, int]]:
        """Notes and problems of token ids `(b, C, L)` of consecutive groups of segments; L may differ."""
        arrays = [group.numpy() for group in groups]
        longest = max(group.shape[-1] for group in arrays)
        pad = vocabulary.PAD
        tokens = np.concatenate([np.pad(g, ((0, 0), (0, 0), (0, longest - g.shape[-1])), constant_values=pad) for g in arrays])
        decoded = self._tokenizer.decode(tokens)
        return list(decoded.notes), dict(decoded.errors)

    def _notes_of_frames(self, found: NDArray[np.float64], unison: float) -> list[Note]:
        """Notes that a `FrameReader` found; segments that overlap begin half a segment before the music."""
        found = without_echoes(self._as_of_stem(found), unison, self._drums)
        size, rate = self._model.config.segment_samples, self._model.config.sample_rate
        lead = (size - size // 2) / rate if self._overlap else 0.0
        onsets, offsets = (self._read_frames.seconds(found[:, column]) - lead for column in (1, 2))
        offsets = np.maximum(offsets, onsets + SHORTEST_SECONDS)  # where segments meet, the step to the next frame is shorter
        onsets, offsets = np.maximum(onsets, 0.0), np.maximum(offsets, 0.0)  # what ends before the music is dropped with it
        programs = [self._program(row, sung) for row, sung in found[:, [0, 4]].astype(int).tolist()]
        columns = zip(onsets.tolist(), offsets.tolist(), found[:, 3].astype(int).tolist(), programs, strict=True)
        return [Note(*column) for column in columns]

    def _as_of_stem(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """What a `FrameReader` found, with no voices where the stem has none, and nothing else where it has voices alone."""
        kinds = found[:, [0, 4]].astype(int).tolist()
        sung = [self._program(row, sung) in vocabulary.SUNG for row, sung in kinds]
        return np.column_stack((found[:, :4], np.asarray(sung, dtype=np.float64), found[:, 5]))

    def _program(self, row: int, sung: int) -> int:
        return self._typical[self.channels[row], bool(sung)]


def _check_audio(audio: Audio) -> None:
    if audio.ndim != 1 or len(audio) == 0:
        raise DataError("the audio is empty; give at least one sample of mono audio")
    if not np.isfinite(audio).all():
        raise DataError("the audio holds samples that are not numbers; repair the file")


def _in_turn(first: FrameLogits, second: FrameLogits) -> FrameLogits:
    """Segments `(S, C, T, 128)` of two, one of the first, one of the second and so on; the first may have one more."""
    places = torch.cat((torch.arange(len(first.onset)) * 2, torch.arange(len(second.onset)) * 2 + 1))
    order = places.argsort().to(first.onset.device)
    return FrameLogits(*(torch.cat(pair)[order] for pair in zip(first, second, strict=True)))


def typical_program(channel: int, programs: Iterable[int], sung: bool = False) -> int:
    """The program that stands for a stem on a channel where only the channel is known, and whether a voice sounds.

    It is the first one of the instrument class to which most of the stem's voices, or instruments, on this channel belong: on
    the channel Strings that is Choir Aahs for voices and a string ensemble for an orchestra. A stem that has voices alone on
    the channel is heard as voices whatever they sound like, and so it is with instruments.

    Args:
        channel: on which the model writes at least one of the programs.
        programs: those of the stem.
        sung: whether a voice sounds.
    """
    own = [program for program in programs if vocabulary.channel_of(program) == channel]
    alike = [program for program in own if (program in vocabulary.SUNG) == sung] or own
    ((most, _),) = Counter(map(vocabulary.program_token_class, alike)).most_common(1)
    return most if most in alike else next(p for p in alike if vocabulary.program_token_class(p) == most)
