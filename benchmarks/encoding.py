"""Encoding a segment in turns, as far as the states that the decoder reads."""

import torch
from comparison import Ratio, Sides, compare


def measure(sides: Sides) -> list[Ratio]:
    """Time both encoders: a specialist's (pruned to its channel) and that of all channels."""
    ours, reference, channel = sides.ours, sides.reference, sides.channel
    segment = sides.stem[:1]
    with torch.no_grad():
        ours.prune = True
        one = compare(
            "encoding a segment, one channel",
            lambda: ours.encode(segment, [channel]),
            lambda: reference.encode(segment, [channel]),
            sides.repeats,
            target=0.6,
        )
        ours.prune = False
        every = compare(
            "encoding a segment, 13 channels",
            lambda: ours.encode(segment),
            lambda: reference.encode(segment),
            sides.repeats,
            target=0.6,
        )
    return [one, every]
