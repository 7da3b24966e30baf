"""A recording is cut into segments, and its notes come back as if it had not been."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from music import drum, note
from stemscribe.audio import SAMPLE_RATE, Audio
from stemscribe.checkpoint import load_model
from stemscribe.config import HEADS
from stemscribe.errors import DataError, UsageError
from stemscribe.model import FULL, SMALL, ReadFrames, YourMT3
from stemscribe.model.frame_head import FrameLogits
from stemscribe.notes import Note
from stemscribe.runtime import SEGMENTS as BATCH_SEGMENTS
from stemscribe.stages.base import SHIPPED
from stemscribe.tokenizer import EventTable, Tokenizer
from stemscribe.transcriber import Transcriber, typical_program
from tiny_model import eager_model, small_model, tiny_model

SEGMENT = SMALL.segment_samples / SAMPLE_RATE  # 2.0479375 s
FRAME = SMALL.hop / SAMPLE_RATE  # 25 ms


class Reader(YourMT3):
    """A model that listens to nothing: it writes down a given score, segment by segment, as a perfect model would."""

    def __init__(self, score: Sequence[Note], channels: Sequence[int] | None = None) -> None:
        super().__init__(replace(SMALL, memory_frames=False), channels)
        self.score = EventTable(score)
        self.tokenizer = Tokenizer()
        self.heard: list[Tensor] = []
        self.asked: tuple[int, ...] = ()
        self.modes: set[tuple[bool, bool]] = set()  # (training, prune) while it is asked

    def encode(self, waveform: Tensor, channels: Sequence[int] | Tensor | None = None) -> Tensor:
        assert channels is not None
        self.asked = tuple(int(channel) for channel in channels)
        self.modes.add((self.training, self.prune))
        first = sum(len(part) for part in self.heard)
        self.heard.append(waveform)
        numbers = torch.arange(first, first + len(waveform), dtype=torch.float32)
        return numbers[:, None, None, None].expand(-1, len(self.asked), SMALL.frames, SMALL.d_model)

    def generate_from_memory(self, memory: Tensor, max_length: int | None = None) -> Tensor:
        rows = [
            [self.tokenizer.encode_segment(self.score, segment * SEGMENT, channel) for channel in self.asked]
            for segment in memory[:, 0, 0, 0].int().tolist()
        ]
        longest = max(len(row) for channels in rows for row in channels)
        return torch.tensor([[row + [0] * (longest - len(row)) for row in channels] for channels in rows])


def silence(seconds: float) -> Audio:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def transcribed(
    score: Sequence[Note], seconds: float, programs: Sequence[int] | None = None, model: Reader | None = None
) -> list[Note]:
    return list(Transcriber(model or Reader(score), programs).transcribe(silence(seconds)).notes)


def test_a_note_held_over_a_border_is_one_note() -> None:
    tune = [note("C4", 1.5, 2.5), note("E4", 1.5, 5.0), note("G4", 2.5, 3.0)]
    assert transcribed(tune, 6.0) == tune


def test_a_long_recording_is_stitched_across_groups_of_segments() -> None:
    border = BATCH_SEGMENTS * SEGMENT
    tune = [
        note("C4", 0.5, 1.0),
        note("E4", round(border - 0.3, 2), round(border + 0.3, 2)),
        note("G4", border + 4, border + 5),
    ]
    model = Reader(tune, [0])
    found = transcribed(tune, border + 6, [0], model)
    assert [len(part) for part in model.heard] == [BATCH_SEGMENTS, 3]
    assert [(each.pitch, each.onset) for each in found] == [(each.pitch, pytest.approx(each.onset, abs=0.006)) for each in tune]
    assert [each.offset - each.onset for each in found] == pytest.approx([each.offset - each.onset for each in tune], abs=0.011)


def test_the_model_hears_every_sample_once_and_silence_after_the_end() -> None:
    audio = np.random.default_rng(0).uniform(-1, 1, 2 * SMALL.segment_samples + 100).astype(np.float32)
    model = Reader([])
    Transcriber(model).transcribe(audio)
    heard = torch.cat(model.heard).flatten().numpy()
    assert len(heard) == 3 * SMALL.segment_samples
    np.testing.assert_array_equal(heard[: len(audio)], audio)
    assert not heard[len(audio) :].any()


def test_a_recording_shorter_than_a_segment_ends_its_notes() -> None:
    tune = [note("C4", 0.1, 0.3), note("E4", 0.4, 1.0), note("G4", 0.7, 1.0)]
    assert transcribed(tune, 0.5) == [note("C4", 0.1, 0.3), note("E4", 0.4, 0.5)]


def test_a_single_sample_is_a_recording() -> None:
    result = Transcriber(Reader([])).transcribe(np.zeros(1, np.float32))
    assert result.notes == ()
    assert result.seconds == 1 / SAMPLE_RATE


@pytest.mark.parametrize("audio", [np.zeros(0, np.float32), np.zeros((2, 16000), np.float32), np.float32(0)])
def test_what_is_no_mono_recording_is_refused(audio: Audio) -> None:
    for hear in (Transcriber(Reader([])).transcribe, Transcriber(Reader([])).hear_frames):
        with pytest.raises(DataError, match="the audio is empty"):
            hear(audio)


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_audio_that_is_no_number_is_refused(broken: float) -> None:
    audio = silence(3.0)
    audio[-1] = broken
    with pytest.raises(DataError, match="not numbers"):
        Transcriber(Reader([])).transcribe(audio)


def test_a_stem_asks_only_for_its_channels() -> None:
    band = [note("E1", 0.5, 1.0, 33), note("C4", 0.5, 1.0, 0), drum("kick", 0.5)]
    model = Reader(band)
    assert transcribed(band, 2.0, range(32, 40), model) == [note("E1", 0.5, 1.0, 33)]
    assert model.asked == (4,)
    assert transcribed(band, 2.0, [128]) == [drum("kick", 0.5)]
    assert transcribed(band, 2.0) == sorted(band, key=lambda each: each.program)


def test_notes_of_other_instruments_on_the_stems_channels_are_dropped() -> None:
    choir, strings = note("C4", 0.5, 1.0, 52), note("E4", 0.5, 1.0, 48)  # both on channel 5
    assert transcribed([choir, strings], 2.0, [52, 53, 54]) == [choir]


def test_the_models_mode_returns_after_each_recording() -> None:
    for training, prune in ((True, False), (True, True), (False, False)):
        model = Reader([])
        model.train(training)
        model.prune = prune
        transcribed([], 3.0, model=model)
        assert model.modes == {(False, True)}  # heard without dropout, and pruned
        assert (model.training, model.prune) == (training, prune)


def test_the_models_mode_returns_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader([]).train()

    def fails(memory: Tensor, max_length: int | None = None) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate_from_memory", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        transcribed([], 3.0, model=model)
    assert model.training
    assert not model.prune


def test_audio_follows_a_model_that_is_moved_later() -> None:
    model = Reader([])
    transcriber = Transcriber(model)
    model.to("meta")  # as Lightning moves the model it trains onto the GPU
    transcriber.transcribe(silence(1.0))
    assert [part.device.type for part in model.heard] == ["meta"]


def test_problems_of_the_decoder_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader([])
    monkeypatch.setattr(model, "generate_from_memory", lambda memory: torch.ones(len(memory), 13, 1, dtype=torch.long))
    assert Transcriber(model).transcribe(silence(3.0)).problems["segment without tie"] == 2 * 13


def clicks(waveform: Tensor) -> FrameLogits:
    """What a perfect frame head says of a waveform of single samples: a note from each on, as long as there is none above it.

    A sample of 0.5 starts pitch 50 and stops it at the next one of -0.5; one channel.
    """
    frames = torch.arange(SMALL.frames)
    shape = len(waveform), 1, SMALL.frames, 128
    onset, active, shift, voice = (torch.full(shape, value) for value in (-20.0, -20.0, 0.0, 0.0))
    for segment, samples in enumerate(waveform):
        starts, stops = (samples == 0.5).nonzero().flatten() / SMALL.hop, (samples == -0.5).nonzero().flatten() / SMALL.hop
        held = int(len(stops) > 0 and (len(starts) == 0 or stops[0] < starts[0]))  # a note that began before the segment
        sounding = held + (frames[:, None] >= starts.round()).sum(1) > (frames[:, None] >= stops.round()).sum(1)
        for start in starts[starts.round() < SMALL.frames]:
            onset[segment, 0, int(start.round()), 50] = 20.0
            shift[segment, 0, int(start.round()), 50] = start - start.round()
        active[segment, 0, sounding, 50] = 20.0
    return FrameLogits(onset, active, shift, voice)


@pytest.mark.parametrize("overlap", [True, False])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 2.1, 4.0, 6.2])
def test_frames_are_read_in_time_wherever_they_lie(seconds: float, overlap: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader([])
    monkeypatch.setattr(model, "frames", lambda memory, waveform, channels: clicks(waveform))
    audio = silence(seconds)
    onsets = np.arange(0.0, seconds - 0.25, 0.3137)
    audio[np.round(onsets * SAMPLE_RATE).astype(int)] = 0.5
    audio[np.round((onsets + 0.2) * SAMPLE_RATE).astype(int)] = -0.5
    found = Transcriber(model, [33], "frames", overlap=overlap).transcribe(audio).notes
    assert [each.onset for each in found] == pytest.approx(onsets.tolist(), abs=0.002)
    assert [each.offset for each in found] == pytest.approx((onsets + 0.2).tolist(), abs=0.026)
    assert {(each.pitch, each.program) for each in found} == {(50, 33)}


def test_the_shortest_note_is_kept_where_segments_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next frame is only 67 samples away there at full size, and an onset may lie half a frame, 150 samples, later."""
    model = Reader([])
    model.config = replace(FULL, frame_head=SMALL.frame_head)
    last = ReadFrames.whole(FULL).count - 1

    def at_the_end(waveform: Tensor) -> FrameLogits:
        shape = len(waveform), 1, FULL.frames, 128
        onset, active, shift, voice = (torch.full(shape, value) for value in (-20.0, -20.0, 0.0, 0.0))
        onset[0, 0, last, 50] = active[0, 0, last, 50] = 20.0
        shift[0, 0, last, 50] = 0.45
        return FrameLogits(onset, active, shift, voice)

    monkeypatch.setattr(model, "frames", lambda memory, waveform, channels: at_the_end(waveform))
    (found,) = Transcriber(model, [33], "frames", overlap=False).transcribe(silence(3.0)).notes
    assert found.onset == pytest.approx((last + 0.45) * FULL.hop / SAMPLE_RATE)
    assert found.offset == pytest.approx(found.onset + 0.01)


@pytest.mark.parametrize(
    ("programs", "offset"), [([33], pytest.approx(0.101, abs=0.001)), ([128], pytest.approx(0.011, abs=0.001))]
)
def test_what_is_heard_before_the_music_is_left_out(
    programs: list[int], offset: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the segment that begins half of one before the music some frames are read that lie before it."""
    model = Reader([])
    first = ReadFrames.middle(SMALL).first
    begins = round((SMALL.segment_samples - SMALL.segment_samples // 2) / SMALL.hop)  # the music, within that segment

    def early(waveform: Tensor) -> FrameLogits:
        shape = len(waveform), 1, SMALL.frames, 128
        onset, active, shift, voice = (torch.full(shape, value) for value in (-20.0, -20.0, 0.0, 0.0))
        if len(waveform) == 2:  # those in between
            for pitch, start, stop in ((50, first, first + 2), (60, begins, begins + 4)):
                onset[0, 0, start, pitch] = 20.0
                active[0, 0, start:stop, pitch] = 20.0
        return FrameLogits(onset, active, shift, voice)

    monkeypatch.setattr(model, "frames", lambda memory, waveform, channels: early(waveform))
    (found,) = Transcriber(model, programs, "frames").transcribe(silence(1.0)).notes
    assert (found.pitch, found.offset) == (60, offset)
    assert found.onset == pytest.approx(0.0, abs=0.001)


def test_without_overlap_every_segment_is_heard_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Reader([])
    monkeypatch.setattr(model, "frames", lambda memory, waveform, channels: clicks(waveform))
    for overlap, segments in ((True, 2 * 3 + 1), (False, 3)):
        model.heard.clear()
        Transcriber(model, [33], "frames", overlap=overlap).transcribe(silence(5.0))
        assert sum(len(part) for part in model.heard) == segments


def test_one_encoding_serves_both_heads(monkeypatch: pytest.MonkeyPatch) -> None:
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, round(6 * SAMPLE_RATE)).astype(np.float32)
    model = small_model([4])
    assert model.frame_head is not None
    with torch.no_grad():
        model.frame_head.linear.bias.zero_()  # untrained, it would hear nothing
    alone = {head: Transcriber(model, range(32, 40), head).transcribe(audio) for head in HEADS}
    encoded: list[bytes] = []
    encode = model.encode

    def counted(waveform: Tensor, channels: Sequence[int]) -> Tensor:
        encoded.extend(segment.numpy().tobytes() for segment in waveform)
        return encode(waveform, channels)

    monkeypatch.setattr(model, "encode", counted)
    transcriber = Transcriber(model, range(32, 40))
    assert transcriber.transcribe_by_head(audio) == alone
    assert transcriber.heads == HEADS
    assert len(encoded) == len(set(encoded))
    assert alone["frames"].notes


def test_a_model_without_a_frame_head_is_read_by_its_tokens() -> None:
    transcriber = Transcriber(tiny_model())
    assert transcriber.heads == ("tokens",)
    assert list(transcriber.transcribe_by_head(silence(1.0))) == ["tokens"]


@pytest.mark.parametrize(
    ("channel", "programs", "program"),
    [
        (5, range(129), 48),  # an orchestra: String Ensemble
        (5, [52, 53, 54, 85, 91, 100, 101], 52),  # voices: Choir and Voice
        (5, [*range(32), *range(40, 52), *range(55, 85)], 48),  # everything but voices, bass and drums
        (9, [52, 53, 54, 85, 91, 100, 101], 85),  # of the leads a voice is one
        (4, range(32, 40), 33),  # six of the eight basses are electric
        (8, range(72, 80), 73),
        (12, [128], 128),
    ],
)
def test_a_note_of_the_frame_head_bears_what_is_typical_of_its_channel(
    channel: int, programs: Sequence[int], program: int
) -> None:
    assert typical_program(channel, programs) == program


@pytest.mark.parametrize(
    ("channel", "programs", "program"),
    [(5, range(129), 52), (9, range(129), 85), (10, range(129), 91), (11, range(129), 100), (0, range(129), 0), (5, [48], 48)],
)
def test_a_voice_bears_the_program_of_a_voice_if_the_stem_has_any(channel: int, programs: Sequence[int], program: int) -> None:
    assert typical_program(channel, programs, sung=True) == program


@pytest.mark.parametrize(("programs", "notes"), [([52, 85], [52]), ([48, 81], [48]), ([48, 52, 81, 85], [48, 85])])
def test_a_stem_of_voices_alone_has_no_instrument_that_doubles_them(programs: Sequence[int], notes: list[int]) -> None:
    """The same pitch at once on Strings, as an instrument, and on Synth Lead, as a voice and less surely."""
    transcriber = Transcriber(small_model([5, 9]), programs, "frames")
    onset, active, voice = (torch.full((2, 90, 128), -9.0) for _ in range(3))
    onset[:, 40, 60] = torch.tensor([2.0, 1.0])
    active[:, 40:50, 60] = 9.0
    voice[1] = 9.0
    frames = FrameLogits(onset, active, torch.zeros(2, 90, 128), voice)
    found = transcriber.read_frames(frames, 3.0, onset=0.5, active=0.5, unison=0.99)
    assert [note.program for note in found] == notes


def test_both_ways_of_reading_give_notes_of_the_stem_inside_the_recording() -> None:
    audio = np.random.default_rng(1).uniform(-0.5, 0.5, round(2.5 * SAMPLE_RATE)).astype(np.float32)
    for decode in ("tokens", "frames"):
        transcriber = Transcriber(eager_model(), range(32, 40), decode)
        found = transcriber.transcribe(audio)
        assert found == transcriber.transcribe(audio)
        assert found.notes or decode == "tokens"  # an untrained decoder seldom writes one
        assert all(0 <= each.onset < each.offset <= 2.5 + 0.01 for each in found.notes)
        assert {each.program for each in found.notes} <= {32, 33}


def test_what_a_model_cannot_do_is_said_before_it_starts() -> None:
    with pytest.raises(UsageError, match=r"no channel 4; it was made for channels \[12\]"):
        Transcriber(small_model([12]), range(32, 40))
    with pytest.raises(UsageError, match="no frame head; decode tokens"):
        Transcriber(tiny_model(), decode="frames")
    with pytest.raises(UsageError, match="no frame head; decode tokens"):
        Transcriber(tiny_model()).transcribe_by_head(silence(1.0), ["tokens", "frames"])
    with pytest.raises(UsageError, match="unknown head 'frame'; this model has tokens and frames"):
        Transcriber(small_model(), decode="frame")
    with pytest.raises(UsageError, match=r"unknown head 'notes'; this model has tokens$"):
        Transcriber(tiny_model()).transcribe_by_head(silence(1.0), ["notes"])
    with pytest.raises(UsageError, match=r"none of the programs \[120\]"):
        Transcriber(small_model(), [120])


def test_int8_is_refused_where_it_does_not_exist() -> None:
    with pytest.raises(UsageError, match="int8 decoding is for CPUs and the model is on meta"):
        Transcriber(Reader([]).to("meta"), int8=True)


def test_int8_is_for_one_recording_and_leaves_the_model_as_it_was() -> None:
    model = small_model([4])
    memory = torch.randn(2, 1, SMALL.frames, SMALL.d_model, generator=torch.Generator().manual_seed(0))
    before = model.generate_from_memory(memory, 8)
    Transcriber(model, range(32, 40), int8=True).transcribe(silence(1.0))
    assert torch.equal(model.generate_from_memory(memory, 8), before)


def test_an_hour_is_heard_in_groups_of_a_bounded_size() -> None:
    model = Reader([], [4])
    assert Transcriber(model, range(32, 40)).transcribe(silence(3600.0)).notes == ()
    assert max(len(part) for part in model.heard) <= 16
    assert sum(len(part) for part in model.heard) == 1758


@pytest.mark.parametrize("seconds", [1 / SAMPLE_RATE, 5.0])
def test_the_shipped_base_hears_nothing_in_silence(seconds: float) -> None:
    base = load_model(SHIPPED["small"])
    for decode in ("tokens", "frames"):
        assert Transcriber(base, decode=decode).transcribe(silence(seconds)).notes == ()


def test_a_clipped_recording_is_transcribed() -> None:
    time = np.arange(3 * SAMPLE_RATE) / SAMPLE_RATE
    clipped = np.clip(8 * np.sin(2 * np.pi * 110 * time), -1, 1).astype(np.float32)
    assert Transcriber(small_model([4]), range(32, 40)).transcribe(clipped).seconds == 3.0
