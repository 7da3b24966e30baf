"""Perceiver-TF encoder: 26 latents a frame read the spectrum and talk to each other, then each listens through time.

A block is a spectral cross-attention (the latents of a frame read that frame's convolution channels: each
channel is one key, its frequencies are the key's features), local layers over the latents of one frame, and
temporal layers over the frames of one latent. After Lu et al. 2023 (Perceiver TF), as YourMT3+ builds it.
Quirks kept: no feed-forward after the spectral cross-attention, no norm at the end, no positions on the
latents but the rotation of the queries.

Pruning: latents mix only in the local layers. In the last block the last local layer needs all latents as
keys but only the wanted ones as queries, and the temporal layers need only the wanted ones. For two of 26
latents this is most of a one-block encoder.
"""

import torch
from torch import Tensor, nn

from stemscribe.model.attention import Attention, make_norm
from stemscribe.model.config import ModelConfig
from stemscribe.model.moe import MixtureOfExperts
from stemscribe.model.rotary import Rotary


class LatentArray(nn.Module):
    """The learned start of the latents, the same in every frame."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(count, width) * 0.02)


class EncoderLayer(nn.Module):
    """Self-attention, then a mixture of experts on its normalised output, both with a residual."""

    def __init__(self, config: ModelConfig, rotary: Rotary) -> None:
        super().__init__()
        self.attention = Attention(config.d_latent, config.heads, config.encoder_dropout, config.norm, rotary)
        self.layernorm = make_norm(config.norm, config.d_latent)
        self.mlp = MixtureOfExperts(config.d_latent, config.expert_hidden, config.experts, config.top_k)

    def forward(self, x: Tensor, turns: Tensor, wanted: Tensor | None = None) -> Tensor:
        """`(M, N, d)` -> `(M, N, d)`, or `(M, W, d)` for wanted positions, see `Attention`."""
        attended: Tensor = self.attention(x, turns, wanted=wanted)
        served: Tensor = self.mlp(self.layernorm(attended))
        return attended + served


class EncoderBlock(nn.Module):
    """Spectral cross-attention, local layers, temporal layers."""

    def __init__(self, config: ModelConfig, sca: Rotary, latent: Rotary, temporal: Rotary) -> None:
        super().__init__()
        self.spectral_cross_attention = Attention(
            config.d_latent, config.heads, config.encoder_dropout, config.norm, sca, source_width=config.features
        )
        self.local_transformer = nn.ModuleList([EncoderLayer(config, latent) for _ in range(config.local_layers)])
        self.temporal_transformer = nn.ModuleList([EncoderLayer(config, temporal) for _ in range(config.temporal_layers)])

    def forward(
        self,
        x: Tensor,
        features: Tensor,
        turns: tuple[Tensor, Tensor, Tensor],
        wanted: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Read the features and pass the latents on.

        Args:
            x: latents `(B, T, K, d)`, or `(1, 1, K, d)` at the start.
            features: `(B, T, C, F)`, C keys of F features in each frame.
            turns: rotations for spectral, local and temporal attention.
            wanted: `(B, W)` latents to compute, all without it.
            positions: `(T, d)`, added before the first temporal layer.

        Returns:
            `(B, T, K, d)`, or `(B, T, W, d)` with `wanted`.
        """
        samples, frames = features.shape[:2]
        sca_turns, local_turns, temporal_turns = turns
        x = self.spectral_cross_attention(x.flatten(0, 1), sca_turns, source=features.flatten(0, 1))
        *local, last = self.local_transformer
        for layer in local:
            x = layer(x, local_turns)
        x = last(x, local_turns) if wanted is None else last(x, local_turns[wanted].unsqueeze(1), wanted)
        x = torch.unflatten(x, 0, (samples, frames)).transpose(1, 2).flatten(0, 1)
        if positions is not None:
            x = x + positions
        for layer in self.temporal_transformer:
            x = layer(x, temporal_turns)
        return torch.unflatten(x, 0, (samples, -1)).transpose(1, 2)


class PerceiverEncoder(nn.Module):
    """The stack of blocks; each reads the same features again with its own weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.latent_array = LatentArray(config.num_latents, config.d_latent)
        self.rotary_emb_sca = Rotary.for_latents(config.rotary_width)
        self.rotary_emb_latent = Rotary.for_latents(config.rotary_width)
        self.rotary_emb_temporal = Rotary.for_frames(config.rotary_width)
        self.blocks = nn.ModuleList(
            [
                EncoderBlock(config, self.rotary_emb_sca, self.rotary_emb_latent, self.rotary_emb_temporal)
                for _ in range(config.blocks)
            ]
        )
        self.temporal_positions = (
            nn.Parameter(torch.zeros(config.frames, config.d_latent)) if config.temporal_positions else None
        )

    def forward(self, features: Tensor, wanted: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            features: `(B, T, F, C)` from the pre-encoder.
            wanted: `(B, W)`, the latents to compute in each sample; all K without it.

        Returns:
            `(B, T, K, d)` or `(B, T, W, d)`.
        """
        keys = features.transpose(2, 3)
        latents = self.latent_array.latents
        places = torch.linspace(-1.0, 1.0, len(latents), device=latents.device)
        frames = torch.arange(features.shape[1], device=latents.device)
        turns = (
            self.rotary_emb_sca.turns(places),
            self.rotary_emb_latent.turns(places),
            self.rotary_emb_temporal.turns(frames),
        )
        x = latents[None, None]
        final = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            positions = self.temporal_positions if number == 0 else None
            x = block(x, keys, turns, wanted if number == final else None, positions)
        return x
