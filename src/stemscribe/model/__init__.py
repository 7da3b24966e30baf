"""The network: tensors in, tensors out. It has never heard of notes, files or DVC.

spectrogram -> pre_encoder -> encoder -> pre_decoder -> decoder    -> tokens
                                                    `-> frame_head -> onsets and offsets
"""

from stemscribe.model.config import FULL, SMALL, FrameHeadConfig, HarmonicConfig, ModelConfig, PercussiveConfig
from stemscribe.model.frame_head import FrameLogits, FrameReader, ReadFrames
from stemscribe.model.yourmt3 import YourMT3

__all__ = [
    "FULL",
    "SMALL",
    "FrameHeadConfig",
    "FrameLogits",
    "FrameReader",
    "HarmonicConfig",
    "ModelConfig",
    "PercussiveConfig",
    "ReadFrames",
    "YourMT3",
]
