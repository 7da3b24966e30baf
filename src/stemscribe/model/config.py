"""The sizes of a model, as data: one frozen dataclass that is saved as JSON beside the weights.

The promise: a `ModelConfig` that exists is consistent, and `from_json(to_json())` gives it back exactly. A
key that is missing or unknown is refused by name, so weights can never be loaded into another architecture
than the one they were trained in.

`FULL` is YourMT3+ (YPTF.MoE+Multi, no pitch shift); `SMALL` is a relative of 2.2 M parameters that learns on
two CPU cores. The fields from `scale_head` on are where SMALL leaves the reference; in FULL they stand as the
reference has them. Quirks kept:

* the rotary width is a field of its own, because the reference takes the number of heads where it means the
  width of a head: 8 heads give a width of 8, half of which is rotated, so 4 of the 16 dimensions of a head;
* `num_latents` is two per channel: a channel is known by the pair of latents that it reads, and by nothing
  else.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

LATENTS_PER_CHANNEL = 2
PITCHES = 128
CHANGEABLE = {  # fields that may change after training
    *("encoder_dropout", "decoder_dropout", "attention_dropout", "max_length"),
    *(
        f"frame_head.{name}"
        for name in ("onset_thresholds", "active_threshold", "unison_threshold", "exceptions", "initial_bias")
    ),
}
POOLING = 8  # the pre-encoder halves the frequency axis three times


@dataclass(frozen=True)
class HarmonicConfig:
    """Sizes of the frame head's own ear for pitch, see `harmonic.py`."""

    windows: tuple[int, ...] = (2_048, 8_192)  # samples; one spectrogram each
    fine_channels: int = 16  # of the convolutions on fractions of a semitone
    width: int = 24  # features of a pitch
    blocks: int = 2
    unpitched: tuple[int, ...] = (12,)  # channels that it has nothing to say about: drums stand on the pitch axis by class

    def __post_init__(self) -> None:
        for name in ("fine_channels", "width", "blocks"):
            _require(getattr(self, name) >= 1, f"frame_head.harmonic.{name}", "must be at least 1")
        _require(
            len(self.windows) > 0 and min(self.windows) >= 256, "frame_head.harmonic.windows", "must be 256 samples or more"
        )


@dataclass(frozen=True)
class PercussiveConfig:
    """Sizes of the frame head's own ear for what is struck, see `percussive.py`."""

    window: int = 1_024  # samples
    bands: int = 64
    channels: int = 12  # of the first convolution; the second has twice as many
    width: int = 96  # features of a frame
    blocks: int = 2  # that then look along time, each twice as far as the one before

    def __post_init__(self) -> None:
        for name in ("bands", "channels", "width"):
            _require(getattr(self, name) >= 4, f"frame_head.percussive.{name}", "must be at least 4")
        _require(self.blocks >= 0, "frame_head.percussive.blocks", "must be at least 0")
        _require(self.window >= 256, "frame_head.percussive.window", "must be 256 samples or more")


@dataclass(frozen=True)
class FrameHeadConfig:
    """The frame head's start, its ear for pitch, and the thresholds by which its probabilities become notes."""

    onset_thresholds: tuple[float, ...] = (0.4,) * 13  # by channel: an onset is a local maximum of at least this probability
    active_threshold: float = 0.3  # a note is held while its probability is at least this
    unison_threshold: float = 0.8  # an onset that another channel hears more surely is a note of its own from here on
    exceptions: tuple[tuple[int, int, float], ...] = ()  # (channel, pitch, onset threshold) where it is not the channel's
    initial_bias: float = -4.5  # logit at the start of training: about 1 % of all (frame, pitch) cells are on
    harmonic: HarmonicConfig | None = None  # with both None it reads the projected states alone
    percussive: PercussiveConfig | None = None

    def __post_init__(self) -> None:
        for name, thresholds in (
            ("onset_thresholds", self.onset_thresholds),
            ("active_threshold", (self.active_threshold,)),
            ("unison_threshold", (self.unison_threshold,)),
            ("exceptions", [threshold for _, _, threshold in self.exceptions]),
        ):
            for threshold in thresholds:
                within = 0.0 < threshold < 1.0
                _require(within, f"frame_head.{name}", f"has a threshold of {threshold}; it must lie between 0 and 1")


@dataclass(frozen=True)
class ModelConfig:
    """All sizes of a `YourMT3`; units stand beside the fields."""

    # audio
    sample_rate: int = 16_000  # Hz
    segment_samples: int = 32_767  # 2.048 s
    n_fft: int = 2_048  # samples, also the length of the window
    hop: int = 300  # samples between frames
    bins: int = 1_024  # lowest frequency bins that are kept, without DC
    # encoder
    conv_channels: int = 128
    d_latent: int = 128
    num_latents: int = 26
    heads: int = 8
    rotary_width: int = 4  # dimensions of each head that are rotated
    blocks: int = 3
    local_layers: int = 2  # per block, over the latents of one frame
    temporal_layers: int = 2  # per block, over the frames of one latent
    experts: int = 8
    top_k: int = 2  # experts that serve one token
    expert_hidden: int = 512
    norm: Literal["layer", "rms"] = "layer"  # of the encoder; the decoder's is always RMS
    encoder_dropout: float = 0.1  # on attention probabilities only
    # decoder
    d_model: int = 512
    decoder_heads: int = 6
    d_kv: int = 64  # width of a decoder head
    d_ff: int = 1_024
    decoder_layers: int = 8
    decoder_dropout: float = 0.05  # input, sub-layer outputs, gated product, after the last norm
    attention_dropout: float = 0.05  # on the decoder's attention probabilities
    positions: int = 1_034  # rows of the position table
    # tokens
    vocabulary: int = 596
    pad: int = 0  # also the decoder's first input
    eos: int = 1
    channels: int = 13
    max_length: int = 256  # tokens per channel and segment
    # where SMALL differs
    scale_head: bool = True  # logits are W (h / sqrt(d_model)), and divided by sqrt(d_model) once more in training
    memory_positions: bool = False  # learned positions on the states that the decoder attends to
    temporal_positions: bool = False  # learned positions before the first temporal layer
    frame_head: FrameHeadConfig | None = None
    memory_frames: bool = False  # the decoder also attends to what the frame head says of each frame

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and field.name != "pad" and value < 1:
                raise ValueError(f"model config: {field.name} is {value}; it must be at least 1")
        for name in ("encoder_dropout", "decoder_dropout", "attention_dropout"):
            _require(0.0 <= getattr(self, name) < 1.0, name, "must lie in [0, 1)")
        _require(self.norm in ("layer", "rms"), "norm", "must be 'layer' or 'rms'")
        _require(self.bins <= self.n_fft // 2, "bins", f"exceeds the {self.n_fft // 2} that n_fft gives")
        _require(self.bins % POOLING == 0, "bins", f"must be a multiple of {POOLING}")
        _require(self.segment_samples > self.n_fft // 2, "segment_samples", "must exceed half of n_fft")
        _require(self.d_latent % self.heads == 0, "d_latent", f"must be a multiple of heads ({self.heads})")
        _require(self.rotary_width % 2 == 0, "rotary_width", "must be even")
        _require(self.rotary_width <= self.d_latent // self.heads, "rotary_width", "exceeds the width of a head")
        _require(self.num_latents == LATENTS_PER_CHANNEL * self.channels, "num_latents", "must be two per channel")
        _require(self.top_k <= self.experts, "top_k", f"exceeds the number of experts ({self.experts})")
        _require(self.d_model % 2 == 0, "d_model", "must be even")
        _require(self.max_length <= self.positions, "max_length", f"exceeds positions ({self.positions})")
        if self.frame_head is not None:
            found = len(self.frame_head.onset_thresholds)
            _require(
                found == self.channels, "frame_head.onset_thresholds", f"must be {self.channels}, one a channel, not {found}"
            )
            for channel, pitch, _ in self.frame_head.exceptions:
                known = 0 <= channel < self.channels and 0 <= pitch < PITCHES
                _require(known, "frame_head.exceptions", f"names no channel and pitch with {channel} and {pitch}")
            harmonic, percussive = self.frame_head.harmonic, self.frame_head.percussive
            for channel in harmonic.unpitched if harmonic else ():
                _require(0 <= channel < self.channels, "frame_head.harmonic.unpitched", f"names no channel with {channel}")
            windows = (*(harmonic.windows if harmonic else ()), *((percussive.window,) if percussive else ()))
            longest = max(windows, default=0)
            _require(self.segment_samples > longest // 2, "frame_head", f"has a window of {longest}, longer than two segments")
        _require(not self.memory_frames or self.frame_head is not None, "memory_frames", "needs a frame head")
        _require(0 <= self.pad < self.vocabulary, "pad", "lies outside the vocabulary")
        _require(0 <= self.eos < self.vocabulary, "eos", "lies outside the vocabulary")

    @property
    def frames(self) -> int:
        """Frames in a segment; frame `t` is centred on sample `t * hop`."""
        return 1 + self.segment_samples // self.hop

    @property
    def features(self) -> int:
        """Frequency features that the pre-encoder leaves: `bins / 8`."""
        return self.bins // POOLING

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dump`, one key a field."""
        return dataclasses.asdict(self)

    def architecture(self) -> dict[str, Any]:
        """What the weights cannot do without, flat: `to_json`, nested names joined by dots, less the ways of reading.

        Thresholds, the bias before training and the dropout say nothing of the function that the weights compute.
        """
        flat: dict[str, Any] = {}

        def flatten(content: Mapping[str, Any], before: str) -> None:
            for name, value in content.items():
                if isinstance(value, Mapping):
                    flatten(value, f"{before}{name}.")
                elif before + name not in CHANGEABLE:
                    flat[before + name] = value

        flatten(self.to_json(), "")
        return flat

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "ModelConfig":
        """The config that `to_json` described.

        Raises:
            ValueError: if a key is missing or unknown, or a value is of the wrong kind or inconsistent with
                the others.
        """
        values = _strict(cls, content, "model config")
        head = _nested(FrameHeadConfig, values["frame_head"], "model config: frame_head")
        if head is not None:
            for name, kind in (("harmonic", HarmonicConfig), ("percussive", PercussiveConfig)):
                ear = _nested(kind, head[name], f"model config: frame_head.{name}")
                head[name] = None if ear is None else kind(**ear)
            values["frame_head"] = FrameHeadConfig(**head)
        return cls(**values)


def _require(condition: bool, name: str, complaint: str) -> None:
    if not condition:
        raise ValueError(f"model config: {name} {complaint}")


def _nested(kind: type, content: object, where: str) -> dict[str, Any] | None:
    if content is not None and not isinstance(content, Mapping):
        raise ValueError(f"{where} is {content!r}; it must be an object or null")
    return None if content is None else _strict(kind, content, where)


def _strict(kind: type, content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """`content` if its keys are exactly the fields of the dataclass `kind` and its values of their type."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            raise ValueError(f"{where}: unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = dict(content)
    for name, field in fields.items():
        if name not in content:
            raise ValueError(f"{where}: key {name!r} is missing")
        value = content[name]
        if field.type is float and type(value) is int:
            continue
        if field.type in (int, float, bool) and type(value) is not field.type:
            raise ValueError(f"{where}: {name} is {value!r}; it must be of type {field.type.__name__}")
        if get_origin(field.type) is tuple:
            kind_of_item = get_args(field.type)[0]
            if get_origin(kind_of_item) is tuple:
                values[name] = _rows(value, get_args(kind_of_item), f"{where}: {name}")
                continue
            if not isinstance(value, list | tuple) or any(type(item) not in (kind_of_item, int) for item in value):
                raise ValueError(f"{where}: {name} is {value!r}; it must be a list of type {kind_of_item.__name__}")
            values[name] = tuple(value)
    return values


def _rows(value: object, kinds: Sequence[type], where: str) -> tuple[tuple[Any, ...], ...]:
    """A list of lists, each with an item of each of the kinds."""
    rows: list[tuple[Any, ...]] = []
    for row in value if isinstance(value, list | tuple) else [value]:
        if not isinstance(row, list | tuple) or [type(item) for item in row] != list(kinds):
            raise ValueError(
                f"{where} holds {row!r}; it must be a list of lists of {', '.join(kind.__name__ for kind in kinds)}"
            )
        rows.append(tuple(row))
    return tuple(rows)


WITH_EARS = FrameHeadConfig(harmonic=HarmonicConfig(), percussive=PercussiveConfig())  # the head of SMALL, for any size

FULL = ModelConfig()

SMALL = ModelConfig(
    hop=400,
    bins=512,
    conv_channels=16,
    d_latent=96,
    heads=6,
    blocks=1,
    local_layers=1,
    temporal_layers=2,
    experts=4,
    expert_hidden=96,
    encoder_dropout=0.0,
    d_model=192,
    decoder_heads=4,
    d_kv=48,
    d_ff=384,
    decoder_layers=2,
    decoder_dropout=0.05,
    attention_dropout=0.0,
    scale_head=False,
    memory_positions=True,
    temporal_positions=True,
    frame_head=WITH_EARS,
    memory_frames=True,
)
