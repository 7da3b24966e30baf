"""Waveform -> log-magnitude spectrogram, each segment stretched to [0, 1). Silence in, zeros out.

After the audio front-end of YourMT3+ (codec "spec"). Quirks kept, because the weights were trained with them:

* the minimum and maximum are taken per segment, so the model is deaf to loudness, and a nearly silent segment
  (hiss) is stretched to the full range like any other;
* bin 0 (DC) is dropped, and `f_min`, `f_max` and `n_mels` of the reference's config have no effect: the bins
  are linear;
* the window is stored with the weights (`stft.window`).
"""

import torch
from torch import Tensor, nn

FLOOR = 1e-5  # added to magnitudes before the logarithm: -100 dB re full scale per bin
SPREAD = 0.008  # added to the range, so that a constant segment gives zeros and not 0 / 0


class Window(nn.Module):
    """Holder of the periodic Hann window, under the reference's name."""

    window: Tensor

    def __init__(self, n_fft: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(n_fft))


class LogSpectrogram(nn.Module):
    """Log-magnitude spectrogram, scaled to [0, 1) per segment."""

    def __init__(self, n_fft: int = 2_048, hop: int = 300, bins: int = 1_024) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.hop = hop
        self.bins = bins
        self.stft = Window(n_fft)

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform whole segments; always in fp32, since a logarithm of half-precision magnitudes loses quiet notes.

        Args:
            waveform: mono `(B, N)` in [-1, 1]; N longer than half a window.

        Returns:
            `(B, T, bins)` with `T = 1 + N // hop`; frame t is centred on sample `t * hop`.
        """
        with torch.autocast(waveform.device.type, enabled=False):
            complex_frames = torch.stft(
                waveform.float(), self.n_fft, self.hop, window=self.stft.window, center=True, return_complex=True
            )
            magnitude = complex_frames[:, 1 : self.bins + 1].abs()
            log = (magnitude + FLOOR).log()
            low = log.amin(dim=(1, 2), keepdim=True)
            high = log.amax(dim=(1, 2), keepdim=True)
            return ((log - low) / (high - low + SPREAD)).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).transpose(1, 2)
