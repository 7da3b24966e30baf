"""Decoding in turns: eight segments of 13 channels, of one channel, and four stems of one song.

The weights are random, so nobody ever says "end" at a sensible time. To be sure of it the end token's output row is set to zero
on both sides, and both take the same number of steps for every stream: what is compared is the cost of a step, not when a model
stops. With trained weights the reference goes on until the slowest stream of a batch has ended, while ours drops each stream
that has, so there the ratio can only be lower. Tokens must be equal; where a stream differs, the two tokens must all but tie.

Four stems: what people do today is to run the model of 13 channels on each stem. Ours are specialists, pruned, each with the
channels of its stem. Both sides hear the audio from the waveform on, encoding included, and write 256 tokens a stream. In the
demo's busiest song a stream has 30 tokens on average, and the longest of a segment, to which the reference would go on, 190.
"""

import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from comparison import Ratio, Sides, cpu_seconds
from torch import Tensor

STEPS = 256
STEM_STEPS = 256
STREAMS = 128  # that ours decodes together, as `stemscribe transcribe` does
TIE = 1e-4  # of the logits' range: closer than that, rounding may decide
MOST_REPEATS = 3  # the reference takes minutes for each


def measure(sides: Sides) -> list[Ratio]:
    """Time both loops, and check that they say the same."""
    sides.ours.prune = False
    repeats = min(sides.repeats, MOST_REPEATS)
    with never_ending(sides), torch.no_grad():
        memory = sides.reference.encode(sides.mix)
        one = memory[:, sides.channel : sides.channel + 1]
        return [
            loops(sides, one, f"greedy decoding, 8 segments, one channel, {STEPS} tokens", 0.5, repeats),
            loops(sides, memory, f"greedy decoding, 8 segments, 13 channels, {STEPS} tokens", 0.3, repeats),
            four_stems(sides, repeats),
        ]


def loops(sides: Sides, memory: Tensor, what: str, target: float, repeats: int) -> Ratio:
    """Both loops from one memory `(B, C, T, d)`, in turns."""
    found: list[tuple[Tensor, Tensor]] = []
    times = []
    for _ in range(repeats):
        sides.ours.generate_from_memory(memory, 2), sides.reference.generate_from_memory(memory, 2)  # warm up
        spoken: list[Tensor] = []
        times.append(
            [
                cpu_seconds(lambda side=side: spoken.append(side.generate_from_memory(memory, STEPS)))  # noqa: B023
                for side in (sides.ours, sides.reference)
            ]
        )
        found.append((spoken[0], spoken[1]))
    mine, theirs = (statistics.median(side) for side in zip(*times, strict=True))
    ratio = Ratio(what, mine, theirs, target=target, note=same_tokens(sides, memory, *found[0]))
    print(f"  {what}: {mine:.3f} / {theirs:.3f} = {ratio.value:.3f}; {ratio.note}", flush=True)
    return ratio


@contextmanager
def never_ending(sides: Sides) -> Iterator[None]:
    """No logit of the end token is ever the largest."""
    heads = [sides.ours.lm_head.lm_head.weight, sides.reference.model.lm_head.lm_head.weight]
    end = sides.ours.config.eos
    before = [head[end].detach().clone() for head in heads]
    with torch.no_grad():
        for head in heads:
            head[end] = 0.0
    try:
        yield
    finally:
        with torch.no_grad():
            for head, row in zip(heads, before, strict=True):
                head[end] = row


def same_tokens(sides: Sides, memory: Tensor, ours: Tensor, reference: Tensor) -> str:
    """Compare all tokens `(B, C, L)`.

    Raises:
        AssertionError: if a stream differs for another reason than rounding.
    """
    mine, theirs = ours.flatten(0, 1), reference.flatten(0, 1)
    assert mine.shape == theirs.shape == (memory.shape[0] * memory.shape[1], STEPS), (mine.shape, theirs.shape)
    assert not bool((mine == sides.ours.config.eos).any()), "a stream has ended"
    streams = memory.flatten(0, 1)
    gaps = []
    for row in (mine != theirs).any(dim=1).nonzero().flatten().tolist():
        step = int((mine[row] != theirs[row]).nonzero()[0])
        before = torch.cat((torch.tensor([sides.ours.config.pad]), mine[row, :step]))
        logits = sides.ours.decode(streams[None, row : row + 1], before[None, None])[0, 0, -1]
        gap = float((logits[mine[row, step]] - logits[theirs[row, step]]).abs() / (logits.max() - logits.min()))
        assert gap < TIE, f"stream {row} differs at step {step}, where the two tokens are {gap:.1e} of the range apart"
        gaps.append(gap)
    if not gaps:
        return "tokens equal"
    return f"tokens equal but for {len(gaps)} of {len(mine)} streams, from a tie of {max(gaps):.0e} of the range on"


def four_stems(sides: Sides, repeats: int) -> Ratio:
    """Our four specialists against four runs of the reference; the sum of each stem's medians."""
    sides.ours.prune = True
    mine, theirs = 0.0, 0.0
    for audio, channels in sides.stems.values():
        times = [both(sides, audio, channels) for _ in range(repeats)]
        one, other = zip(*times, strict=True)
        mine, theirs = mine + statistics.median(one), theirs + statistics.median(other)
    sides.ours.prune = False
    ratio = Ratio(f"four stems of one song, 8 segments, {STEM_STEPS} tokens, encoding included", mine, theirs, target=0.18)
    print(f"  {ratio.what}: {mine:.3f} / {theirs:.3f} = {ratio.value:.3f}", flush=True)
    return ratio


def both(sides: Sides, audio: Tensor, channels: Sequence[int]) -> tuple[float, float]:
    """CPU seconds of a specialist, in the groups in which `stemscribe transcribe` decodes, and of the reference."""

    def specialist() -> None:
        for part in audio.split(max(1, STREAMS // len(channels))):
            sides.ours.generate(part, channels, STEM_STEPS)

    return cpu_seconds(specialist), cpu_seconds(lambda: sides.reference.generate(audio, None, STEM_STEPS))
