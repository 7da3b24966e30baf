"""Our model against what the reference wrote down, stage by stage. Runs in our environment.

The promise: each stage is given the reference's own input and answers for itself; then the whole way is taken, from the
waveform. A deviation is the largest difference as a share of the largest magnitude in the reference's tensor. Tokens must be
equal wherever the reference preferred its choice by more than the tolerance; where it did not and ours is another, that stream
is followed no further, because another token leads to another future.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from stemscribe.model import FULL, YourMT3

STAGE = 1e-4  # of the range, from the stored input of a stage
WHOLE = 2e-4  # from waveform to logits
PAD = FULL.pad


@dataclass(frozen=True)
class Deviation:
    """One line of the table."""

    name: str
    found: float
    tolerance: float
    size: float | None = None  # root mean square of the reference's tensor: it neither vanishes nor explodes

    @property
    def missed(self) -> bool:
        """Whether it is too large; a NaN is."""
        return not self.found <= self.tolerance


@dataclass(frozen=True)
class Tokens:
    """What became of the streams of one comparison."""

    name: str
    compared: int  # tokens
    different: int  # of them, where the reference was sure
    left: int  # streams that were followed only up to a near tie
    smallest_gap: float  # of the reference's best to its second best, a share of its largest logit


@dataclass(frozen=True)
class Findings:
    """All that was compared for one seed."""

    deviations: list[Deviation]
    tokens: list[Tokens]
    router_margin: float  # least preference, in probability, of any router for its second expert over the third

    @property
    def misses(self) -> list[str]:
        """What went wrong, in words."""
        numbers = [
            f"{line.name} deviates {line.found:.1e}, more than {line.tolerance:.0e}" for line in self.deviations if line.missed
        ]
        return numbers + [f"{line.name}: {line.different} tokens differ" for line in self.tokens if line.different]


def load_full(weights: Path) -> YourMT3:
    """Our model with the reference's state dict, to the last key."""
    model = YourMT3(FULL)
    model.load_state_dict(load_file(weights), strict=True)
    return model.eval()


def compare(folder: Path, music: Path) -> Findings:
    """Everything of one seed.

    Args:
        folder: `weights.safetensors` and `record.safetensors` of `witness.reference`.
        music: what it was given.
    """
    model, record, heard = load_full(folder / "weights.safetensors"), load_file(folder / "record.safetensors"), load_file(music)
    singles = sorted({int(name.removeprefix("single_").partition(".")[0]) for name in record if name.startswith("single_")})
    deviations: list[Deviation] = []
    tokens: list[Tokens] = []
    with torch.no_grad():
        deviations += _stages(model, record, heard["waveform"], heard["labels"])
        logits = model.training_logits(model(heard["waveform"], heard["labels"]))
        deviations += _ends(logits, record, heard["labels"], "13 channels")
        tokens.append(_tokens("13 channels", model.generate(heard["waveform"]), record["tokens"], record["gaps"]))
        for channel in singles:
            part = {name.partition(".")[2]: value for name, value in record.items() if name.startswith(f"single_{channel}.")}
            waveform, labels = heard["waveform"][:1], heard["labels"][:1, channel : channel + 1]
            for model.prune in (False, True):
                name = f"channel {channel}" + (" pruned" if model.prune else "")
                memory = model.encode(waveform, [channel])
                logits = model.decode(memory, model.shift_right(labels))
                deviations += _ends(model.training_logits(logits), part, labels, name)
                tokens.append(_tokens(name, model.generate_from_memory(memory), part["tokens"], part["gaps"]))
            model.prune = False
    return Findings(deviations, tokens, float(record["router_margin"]))


def relative(found: Tensor, expected: Tensor) -> float:
    """The largest difference, as a share of the largest expected magnitude; infinite if the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float((found - expected).abs().max() / expected.abs().max())


def _line(name: str, found: Tensor, expected: Tensor, tolerance: float = STAGE) -> Deviation:
    return Deviation(name, relative(found, expected), tolerance, float(expected.square().mean().sqrt()))


def _stages(model: YourMT3, record: dict[str, Tensor], waveform: Tensor, labels: Tensor) -> Iterator[Deviation]:
    yield _line("spectrogram", model.spectrogram(waveform), record["spectrogram"])
    yield _line("pre-encoder", model.pre_encoder(record["spectrogram"]), record["pre_encoder"])
    blocks = list(model.encoder.blocks)
    inputs = {block: record[f"block_{number - 1}"] for number, block in enumerate(blocks) if number > 0}
    with _fed(inputs), _outputs(blocks) as found:
        model.encoder(record["pre_encoder"])
    for number, block in enumerate(blocks):
        yield _line(f"encoder block {number + 1}", found[block], record[f"block_{number}"])
    yield _line("encoder, all blocks", model.encoder(record["pre_encoder"]), record["encoder"])
    yield _line("projected states", model.pre_decoder(record["encoder"]), record["projected"])
    shifted = model.shift_right(labels)
    hidden = model.decoder(model.embed_tokens(shifted.flatten(0, 1)), record["projected"].flatten(0, 1))
    yield _line("decoder states", hidden, record["hidden"].flatten(0, 1))
    logits = model.decode(record["projected"], shifted)
    yield _line("logits", logits, record["logits"])
    yield _line("training logits", model.training_logits(logits), record["training_logits"])


def _ends(logits: Tensor, record: dict[str, Tensor], labels: Tensor, name: str) -> Iterator[Deviation]:
    """What came of the waveform: training logits, which are scaled twice, and their loss."""
    yield _line(f"waveform to logits, {name}", logits, record["training_logits"], WHOLE)
    loss = F.cross_entropy(logits.flatten(0, 2), labels.flatten(), ignore_index=PAD)
    yield _line(f"waveform to loss, {name}", loss, record["loss"], WHOLE)


def _tokens(name: str, found: Tensor, expected: Tensor, gaps: Tensor) -> Tokens:
    """Streams `(B, C, L)`, each followed to its end or to the reference's first near tie that went the other way."""
    length = max(found.shape[-1], expected.shape[-1])
    ours, theirs = (F.pad(tokens, (0, length - tokens.shape[-1]), value=PAD).flatten(0, -2) for tokens in (found, expected))
    sure = F.pad(gaps, (0, length - gaps.shape[-1]), value=1.0).flatten(0, -2) > WHOLE
    compared = different = left = 0
    for stream, other, certain in zip(ours, theirs, sure, strict=True):
        differences = (stream != other).nonzero().flatten().tolist()
        first = differences[0] if differences else length
        if differences and not certain[first]:
            left += 1
        else:
            different += len(differences)
        compared += first if differences and not certain[first] else length
    spoken = (expected != PAD).flatten(0, -2)
    return Tokens(name, compared, different, left, float(gaps.flatten(0, -2)[spoken].min()))


@contextmanager
def _fed(inputs: dict[nn.Module, Tensor]) -> Iterator[None]:
    """While this lasts, modules receive the given tensor as their first argument."""

    def feed(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return inputs[module], *arguments[1:]

    hooks = [module.register_forward_pre_hook(feed) for module in inputs]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _outputs(modules: list[nn.Module]) -> Iterator[dict[nn.Module, Tensor]]:
    """What modules give while this lasts."""
    found: dict[nn.Module, Tensor] = {}
    keep: Callable[[nn.Module, Any, Tensor], None] = lambda module, _, output: found.update({module: output})  # noqa: E731
    hooks = [module.register_forward_hook(keep) for module in modules]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
