"""YourMT3+ as one plain module: waveform in, token logits out, for any subset of its 13 channels.

The promise: keys and shapes of the state dict are the reference's (655 at full size), and a model made for
some channels computes bit for bit what the model of all channels computes there. No weight belongs to a
channel: a channel is known by the two latents it reads, so a specialist is this same module with other
`channels`. After Chang et al. 2024 (YourMT3+), model YPTF.MoE+Multi. Quirks kept:

* the loss is taken of logits that are divided by sqrt(d_model) a second time (`training_logits`), a
  temperature of 22.6 at full size;
* input embedding and output head are separate weights; channels share everything and never see each other in
  the decoder.

Where we differ from the reference: a projection between equal widths is kept (the reference drops it), and
the options of `ModelConfig` that FULL does not use add keys of their own: `memory_positions`,
`encoder.temporal_positions`, `frame_head`.

With `prune` set the last block computes only the wanted latents: several times faster for a small model,
equal to rounding. Without it every latent is computed and the rows are sliced: equal to the last bit.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, Self, overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stemscribe.model.config import LATENTS_PER_CHANNEL, PITCHES, ModelConfig
from stemscribe.model.decoder import Decoder
from stemscribe.model.encoder import PerceiverEncoder
from stemscribe.model.frame_head import FrameHead, FrameLogits
from stemscribe.model.generation import DecoderWeights, greedy
from stemscribe.model.linear import Linear
from stemscribe.model.pre_encoder import ResidualStack
from stemscribe.model.spectrogram import LogSpectrogram

NO_TOKEN = -1
Channels = Sequence[int] | Tensor


class SharedLinear(nn.Module):
    """The pre-decoder: the two latents of a channel, side by side, through one linear layer that all channels share."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = Linear(width_in, width_out, bias=False)

    def forward(self, latents: Tensor) -> Tensor:
        """`(B, T, 2 C, d)` -> `(B, C, T, d_model)`."""
        pairs = torch.unflatten(latents, 2, (-1, LATENTS_PER_CHANNEL)).transpose(1, 2).flatten(3)
        projected: Tensor = self.linear(pairs)
        return projected


class Head(nn.Module):
    """The output layer, under the reference's name; not tied to the embedding."""

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__()
        self.lm_head = Linear(width, vocabulary, bias=False)


class YourMT3(nn.Module):
    """The transcriber of `channels` (all by default); see the module's text for what it promises."""

    def __init__(self, config: ModelConfig, channels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.config = config
        self.channels = _checked_channels(range(config.channels) if channels is None else channels, config.channels)
        self.prune = False
        self._batch_norm_frozen = False
        self._laid_out: DecoderWeights | None = None  # inside `decoding`
        self._frozen: tuple[nn.Module, ...] = ()
        self.spectrogram = LogSpectrogram(config.n_fft, config.hop, config.bins)
        self.pre_encoder = nn.Sequential(ResidualStack(config.conv_channels))
        self.encoder = PerceiverEncoder(config)
        self.pre_decoder = nn.Sequential(SharedLinear(LATENTS_PER_CHANNEL * config.d_latent, config.d_model))
        self.embed_tokens = nn.Embedding(config.vocabulary, config.d_model)
        self.decoder = Decoder(config)
        self.lm_head = Head(config.d_model, config.vocabulary)
        self.memory_positions = nn.Parameter(torch.zeros(config.frames, config.d_model)) if config.memory_positions else None
        self.frame_head = FrameHead(config) if config.frame_head is not None else None
        self.frame_memory = nn.Linear(3 * PITCHES, config.d_model, bias=False) if config.memory_frames else None
        self.pre_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def encode(self, waveform: Tensor, channels: Channels | None = None) -> Tensor:
        """Hear segments, as far as the states that frame head and decoder read ("memory", before `memory_positions`).

        Args:
            waveform: mono segments `(B, N)`, N = `segment_samples`.
            channels: for all samples, or a tensor `(B, C)` for each its own; the model's by default.

        Returns:
            `(B, C, T, d_model)`.

        Raises:
            ValueError: on a wrong shape, a sample that is not finite, or a channel that does not exist.
        """
        self._check_waveform(waveform)
        rows = self._rows(channels, waveform)
        features = self.pre_encoder(self.spectrogram(waveform))
        if self.prune and rows.shape[1] < self.config.channels:
            pair = torch.arange(LATENTS_PER_CHANNEL, device=rows.device)
            wanted = (rows.unsqueeze(-1) * LATENTS_PER_CHANNEL + pair).flatten(1)
            pruned: Tensor = self.pre_decoder(self.encoder(features, wanted))
            return pruned
        memory: Tensor = self.pre_decoder(self.encoder(features))
        return memory[torch.arange(len(rows), device=rows.device).unsqueeze(1), rows]

    @overload
    def decode(self, memory: Tensor, tokens: Tensor, alignment: Literal[False] = False) -> Tensor: ...

    @overload
    def decode(self, memory: Tensor, tokens: Tensor, alignment: Literal[True]) -> tuple[Tensor, list[Tensor]]: ...

    def decode(self, memory: Tensor, tokens: Tensor, alignment: bool = False) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Logits of the next token after each of the given ones.

        Args:
            memory: `(B, C, T, d_model)` from `informed`; any grouping of streams into B and C will do.
            tokens: decoder input `(B, C, L)`, i.e. labels shifted right behind PAD.
            alignment: also return where the decoder looks.

        Returns:
            Logits `(B, C, L, V)`; with `alignment` also a list, one tensor `(B, C, L, T)` a layer, of the
            log-probabilities with which the first head of the cross-attention looks at each frame.

        Raises:
            ValueError: on shapes that do not fit each other or token ids outside the vocabulary.
        """
        self._check_memory(memory)
        self._check_tokens(tokens, memory)
        alignments: list[Tensor] | None = [] if alignment else None
        streams = self._attended(memory)
        hidden = self.decoder(self.embed_tokens(tokens.flatten(0, 1)), streams, alignments)
        if self.config.scale_head:
            hidden = hidden * self.config.d_model**-0.5
        logits: Tensor = torch.unflatten(self.lm_head.lm_head(hidden), 0, tokens.shape[:2])
        if alignments is None:
            return logits
        return logits, [torch.unflatten(layer, 0, tokens.shape[:2]) for layer in alignments]

    def forward(self, waveform: Tensor, tokens: Tensor, channels: Channels | None = None) -> Tensor:
        """Teacher-forced logits, scaled as at inference.

        Args:
            waveform: `(B, N)`.
            tokens: target labels `(B, C, L)`; shifted right behind PAD in here.
            channels: see `encode`.

        Returns:
            `(B, C, L, V)`: position i predicts label i.
        """
        return self.decode(self._remembered(waveform, channels), self.shift_right(tokens))

    def shift_right(self, labels: Tensor) -> Tensor:
        """Decoder input for target labels `(..., L)`: PAD first, the last label left out."""
        return F.pad(labels[..., :-1], (1, 0), value=self.config.pad)

    def training_logits(self, logits: Tensor) -> Tensor:
        """The logits of which the loss is taken: with `scale_head`, divided by sqrt(d_model) once more."""
        return logits * self.config.d_model**-0.5 if self.config.scale_head else logits

    def frames(self, memory: Tensor, waveform: Tensor, channels: Channels | None = None) -> FrameLogits:
        """What the frame head says, `(B, C, T, 128)` each.

        Args:
            memory: from `encode`.
            waveform: what it was encoded from, `(B, N)`.
            channels: as they were given to `encode`.

        Raises:
            ValueError: if the model has no frame head, or the shapes do not fit each other.
        """
        if self.frame_head is None:
            raise ValueError("this model has no frame head; decode its tokens instead")
        self._check_memory(memory)
        rows = self._rows(channels, waveform)
        if memory.shape[:2] != rows.shape:
            raise ValueError(
                f"memory is of {tuple(memory.shape[:2])} segments and channels, the waveform of {tuple(rows.shape)}"
            )
        logits: FrameLogits = self.frame_head(memory, waveform, rows)
        return logits

    def informed(self, memory: Tensor, frames: FrameLogits | None) -> Tensor:
        """What the decoder is to read: the memory, and with `memory_frames` what the frame head says of each frame.

        A decoder that can look at a piano roll need not learn to hear. Its loss does not reach the frame head.

        Args:
            memory: `(B, C, T, d_model)` from `encode`.
            frames: from `frames`, of the same memory; needed only with `memory_frames`.
        """
        if self.frame_memory is None:
            return memory
        if frames is None:
            raise ValueError("this model's decoder reads what its frame head says; give it the frames")
        onset = frames.onset.detach().sigmoid()
        roll = torch.cat((onset, frames.active.detach().sigmoid(), onset * frames.shift.detach()), dim=-1)
        informed: Tensor = memory + self.frame_memory(roll)
        return informed

    def _remembered(self, waveform: Tensor, channels: Channels | None) -> Tensor:
        """What the decoder is to read of segments."""
        memory = self.encode(waveform, channels)
        return self.informed(memory, None if self.frame_memory is None else self.frames(memory, waveform, channels))

    def generate(self, waveform: Tensor, channels: Channels | None = None, max_length: int | None = None) -> Tensor:
        """Transcribe segments greedily; dropout and batch statistics are off whatever the module's mode.

        Args:
            waveform: `(B, N)`.
            channels: see `encode`.
            max_length: tokens per stream, the config's by default.

        Returns:
            Token ids `(B, C, L)`, L <= max_length: each stream up to and including EOS, then PAD.
        """
        with torch.no_grad(), self._evaluating():
            memory = self._remembered(waveform, channels)
        return self.generate_from_memory(memory, max_length)

    @torch.no_grad()
    def generate_from_memory(self, memory: Tensor, max_length: int | None = None, stop: bool = True) -> Tensor:
        """The same from `informed`'s `(B, C, T, d_model)`, so that one encoding can serve several readings.

        Without `stop` no stream ends at its EOS: the most work that there can be.
        """
        self._check_memory(memory)
        limit = self.config.max_length if max_length is None else max_length
        if not 1 <= limit <= self.config.positions:
            raise ValueError(f"max_length is {limit}; it must lie between 1 and {self.config.positions}")
        weights = self._laid_out or self._lay_out(int8=False)
        tokens = greedy(weights, self._attended(memory), limit, self.config.pad, self.config.eos if stop else NO_TOKEN)
        return torch.unflatten(tokens, 0, memory.shape[:2])

    @contextmanager
    def decoding(self, int8: bool = False) -> Iterator[None]:
        """Lay out the decoder's weights once for everything that is generated inside; they must not change meanwhile.

        Args:
            int8: quantise them: faster, on CPUs only, and some tokens differ.

        Raises:
            ValueError: if int8 is asked for where it does not exist.
        """
        before, self._laid_out = self._laid_out, self._lay_out(int8)
        try:
            yield
        finally:
            self._laid_out = before

    @torch.no_grad()
    def _lay_out(self, int8: bool) -> DecoderWeights:
        return DecoderWeights.of(self.decoder.decoder, self.embed_tokens.weight, self.lm_head.lm_head.weight, int8)

    def freeze_batch_norm(self) -> None:
        """Keep the running statistics as they are from now on, through `.train()`; weights and biases still learn."""
        self._batch_norm_frozen = True
        self.train(self.training)

    def freeze(self, part: str) -> None:
        """Stop the weights of a part from learning; a frozen part runs as at inference, without dropout or batch statistics.

        Args:
            part: `none`, `conv` (the pre-encoder) or `encoder` (pre-encoder and encoder).

        Raises:
            ValueError: if there is no such part.
        """
        parts = {"none": (), "conv": (self.pre_encoder,), "encoder": (self.pre_encoder, self.encoder)}
        if part not in parts:
            raise ValueError(f"no part {part!r} to freeze; parts are {', '.join(parts)}")
        self._frozen = parts[part]
        for module in (self.pre_encoder, self.encoder):
            module.requires_grad_(module not in self._frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, save for frozen parts and frozen batch norms."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        if self._batch_norm_frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode, then each module's own mode again."""
        modes = [(module, module.training) for module in self.modules()]
        self.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode

    def _attended(self, memory: Tensor) -> Tensor:
        """Streams `(B C, T, d_model)` as the decoder attends to them: with positions, where the model has them."""
        streams = memory.flatten(0, 1)
        return streams if self.memory_positions is None else streams + self.memory_positions

    def _rows(self, channels: Channels | None, waveform: Tensor) -> Tensor:
        """Channel numbers `(B, C)` on the waveform's device."""
        samples = len(waveform)
        if isinstance(channels, Tensor) and channels.ndim == 2:
            if len(channels) != samples or channels.shape[1] == 0 or channels.is_floating_point():
                raise ValueError(
                    f"channels are {channels.dtype} {tuple(channels.shape)}; a tensor must be integer ({samples}, C)"
                )
            _check_range(channels, self.config.channels, "channels")
            return channels.to(waveform.device, torch.long)
        chosen = self.channels if channels is None else _checked_channels(channels, self.config.channels)
        return torch.tensor(chosen, device=waveform.device).expand(samples, -1)

    def _check_waveform(self, waveform: Tensor) -> None:
        samples = self.config.segment_samples
        if waveform.ndim != 2 or waveform.shape[1] != samples:
            raise ValueError(f"waveform has shape {tuple(waveform.shape)}; it must be (B, {samples}): mono segments")
        if not waveform.is_floating_point():
            raise ValueError(f"waveform is {waveform.dtype}; it must be floating point in [-1, 1]")
        if not torch.compiler.is_compiling() and not bool(torch.isfinite(waveform).all()):
            raise ValueError("waveform holds NaN or infinite samples; the audio is broken")

    def _check_memory(self, memory: Tensor) -> None:
        frames, width = self.config.frames, self.config.d_model
        if memory.ndim != 4 or memory.shape[2:] != (frames, width):
            raise ValueError(f"memory has shape {tuple(memory.shape)}; it must be (B, C, {frames}, {width})")

    def _check_tokens(self, tokens: Tensor, memory: Tensor) -> None:
        if tokens.ndim != 3 or tokens.shape[:2] != memory.shape[:2] or tokens.is_floating_point():
            raise ValueError(
                f"tokens are {tokens.dtype} {tuple(tokens.shape)}; they must be integer"
                f" ({memory.shape[0]}, {memory.shape[1]}, L)"
            )
        if not 1 <= tokens.shape[2] <= self.config.positions:
            raise ValueError(f"tokens have length {tokens.shape[2]}; it must lie between 1 and {self.config.positions}")
        _check_range(tokens, self.config.vocabulary, "token ids")


def _checked_channels(channels: Channels, limit: int) -> tuple[int, ...]:
    """Channel numbers as a tuple, each in [0, limit)."""
    chosen = tuple(int(channel) for channel in channels)
    if not chosen or min(chosen) < 0 or max(chosen) >= limit:
        raise ValueError(f"channels are {list(chosen)}; they must be one or more of 0 to {limit - 1}")
    return chosen


def _check_range(numbers: Tensor, limit: int, name: str) -> None:
    if torch.compiler.is_compiling() or numbers.numel() == 0:
        return
    low, high = (int(number) for number in torch.stack(numbers.aminmax()).tolist())
    if low < 0 or high >= limit:
        raise ValueError(f"{name} run from {low} to {high}; they must lie in 0 to {limit - 1}")
