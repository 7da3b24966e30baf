"""The comparison with the reference finds what it should: shown on the tiny record, with a fault in one stage at a time."""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from stemscribe.model import YourMT3
from tiny_model import tiny_config, tiny_model, tiny_record

PATH = Path(__file__).parents[1] / "witness" / "compare.py"


@pytest.fixture(scope="module")
def witness() -> ModuleType:
    """witness/compare.py, which is no part of the package."""
    spec = importlib.util.spec_from_file_location("witness_compare", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["witness_compare"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def record() -> dict[str, Tensor]:
    """The tiny record under the names of the full one."""
    given = tiny_record()
    names = {"projected": "pre_decoder", "hidden": "dec_hidden", "logits": "logits_infer", "block_0": "enc_block_0"}
    names |= {"block_1": "enc_block_1", "spectrogram": "spectrogram", "pre_encoder": "pre_encoder", "encoder": "encoder"}
    taken = {name: given[source] for name, source in names.items()}
    return taken | {"training_logits": taken["logits"] * tiny_config().d_model ** -0.5}


def missed(witness: ModuleType, model: YourMT3) -> list[str]:
    given = tiny_record()
    with torch.no_grad():
        return [line.name for line in witness._stages(model, record(), given["waveform"], given["labels"]) if line.missed]


def test_our_model_misses_nothing(witness: ModuleType) -> None:
    assert missed(witness, tiny_model()) == []


@pytest.mark.parametrize(
    ("key", "stages"),
    [
        ("pre_encoder.0.blocks.1.bn2.running_mean", ["pre-encoder"]),
        ("encoder.blocks.0.local_transformer.1.mlp.gate.weight", ["encoder block 1", "encoder, all blocks"]),
        ("encoder.blocks.1.temporal_transformer.0.layernorm.bias", ["encoder block 2", "encoder, all blocks"]),
        ("pre_decoder.0.linear.weight", ["projected states"]),
        ("decoder.decoder.block.1.layer.2.layer_norm.weight", ["decoder states", "logits", "training logits"]),
        ("lm_head.lm_head.weight", ["logits", "training logits"]),
    ],
)
def test_a_fault_is_found_in_its_own_stage(witness: ModuleType, key: str, stages: list[str]) -> None:
    model = tiny_model()
    with torch.no_grad():
        model.state_dict()[key].flatten()[:8].mul_(1.5).add_(0.1)
    assert missed(witness, model) == stages


def test_a_number_that_is_none_is_a_miss(witness: ModuleType) -> None:
    assert witness.Deviation("logits", float("nan"), 1e-4).missed
    assert witness.relative(torch.ones(2), torch.ones(3)) == float("inf")


GAPS = torch.tensor([[[0.5, 1e-6, 0.5, 0.5]]])
SAID = torch.tensor([[[9, 8, 7, 1]]])


@pytest.mark.parametrize(
    ("ours", "compared", "different", "left"),
    [
        (lambda said: said, 4, 0, 0),
        (lambda said: said + torch.tensor([0, 0, 1, 0]), 4, 1, 0),  # where the reference was sure
        (lambda said: said + torch.tensor([0, 1, 1, 1]), 1, 0, 1),  # another future after a near tie
        (lambda said: said[..., :3], 4, 1, 0),  # an end is missing
    ],
)
def test_tokens_may_differ_only_after_a_near_tie(
    witness: ModuleType, ours: Callable[[Tensor], Tensor], compared: int, different: int, left: int
) -> None:
    found = witness._tokens("tune", ours(SAID), SAID, GAPS)
    assert (found.compared, found.different, found.left) == (compared, different, left)
    assert found.smallest_gap == pytest.approx(1e-6)
