"""The reference beside ours: the wheel yourmt3 0.1.4 at full size, behind the calls that the benchmarks make.

It runs in an environment of its own (`make reference`), eagerly (`TORCHDYNAMO_DISABLE=1`, see docs/benchmarks.md), in fp32.
Where a single channel is wanted, its memory is cut out before the decoder: the cheapest way to one channel that the wheel's own
parts allow.
"""

import os
from collections.abc import Sequence
from typing import Any

os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # read when torch is imported

import torch
import torch.nn.functional as F
from torch import Tensor


class Reference:
    """The wheel's model with given weights.

    Args:
        weights: a state dict of 655 keys; loaded strictly.
    """

    def __init__(self, weights: dict[str, Tensor]) -> None:
        from witness.wheel import build  # first: it lets torchaudio be imported, and sets what the wheel's import changes

        from yourmt3.model.t5mod_helper import task_cond_dec_generate  # isort: skip

        self.model: Any = build()
        self.model.load_state_dict(weights, strict=True)
        self._generate = task_cond_dec_generate

    def features(self, waveform: Tensor) -> Tensor:
        """Spectrogram and convolutions: `(B, N)` -> `(B, T, F, C)`."""
        features: Tensor = self.model.pre_encoder(self.model.spectrogram(waveform.unsqueeze(1)))
        return features

    def encode(self, waveform: Tensor, channels: Sequence[int] | None = None) -> Tensor:
        """`(B, N)` -> memory `(B, C, T, d)`."""
        return self.memory(self.features(waveform), channels)

    def memory(self, features: Tensor, channels: Sequence[int] | None = None) -> Tensor:
        """What follows the convolutions, as far as the states that the decoder reads."""
        memory: Tensor = self.model.pre_decoder(self.model.encoder(inputs_embeds=features)["last_hidden_state"])
        return memory if channels is None else memory[:, list(channels)]

    def loss(self, memory: Tensor, labels: Tensor) -> Tensor:
        """The wheel's training loss of `labels (B, C, L)`; its decoder always gets rows of the full length."""
        embedded = self.model.embed_tokens(self.model.shift_right_fn(labels))
        hidden = self.model.decoder(inputs_embeds=embedded, encoder_hidden_states=memory, return_dict=False)[0]
        logits = self.model.lm_head(hidden * self.model.model_cfg["decoder"]["multi-t5"]["d_model"] ** -0.5)
        return F.cross_entropy(logits.flatten(0, 2), labels.masked_fill(labels == 0, -100).flatten())

    @torch.no_grad()
    def generate(self, waveform: Tensor, channels: Sequence[int] | None = None, max_length: int = 256) -> Tensor:
        """Greedy tokens `(B, C, L)` by the wheel's own loop."""
        return self.generate_from_memory(self.encode(waveform, channels), max_length)

    @torch.no_grad()
    def generate_from_memory(self, memory: Tensor, max_length: int = 256) -> Tensor:
        """The same from the memory `(B, C, T, d)`."""
        decoder = self.model.decoder
        before, decoder.num_channels = decoder.num_channels, memory.shape[1]
        try:
            tokens: Tensor = self._generate(
                decoder=decoder,
                decoder_type="multi-t5",
                embed_tokens=self.model.embed_tokens,
                lm_head=self.model.lm_head,
                encoder_hidden_states=memory,
                shift_right_fn=self.model.shift_right_fn,
                max_length=max_length,
            )
        finally:
            decoder.num_channels = before
        return tokens
