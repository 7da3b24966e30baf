"""A weight that is laid out once gives the products that it gives as it is; int8 gives them to a percent."""

import pytest
import torch
import torch.nn.functional as F

from stemscribe.model.projection import check_int8, gate, projection
from tiny_model import relative

FP32 = torch.float32


def weights(*shapes: tuple[int, int]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator) for shape in shapes]


@pytest.mark.parametrize("shape", [(1, 48), (5, 48), (300, 48), (3, 7, 48)])
def test_outputs_of_weights_that_read_the_same_stand_side_by_side(shape: tuple[int, ...]) -> None:
    a, b = weights((20, 48), (33, 48))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    expected = torch.cat((F.linear(x, a), F.linear(x, b)), dim=-1)
    assert relative(projection((a, b), FP32)(x), expected) < 1e-6
    assert relative(projection((a, b), FP32, int8=True)(x), expected) < 0.03


def test_a_gate_opens_by_gelu() -> None:
    a, b = weights((20, 48), (20, 48))
    x = torch.randn(5, 48, generator=torch.Generator().manual_seed(1))
    expected = F.gelu(F.linear(x, a), approximate="tanh") * F.linear(x, b)
    assert relative(gate(a, b, FP32)(x), expected) < 1e-6
    assert relative(gate(a, b, FP32, int8=True)(x), expected) < 0.05


def test_other_kinds_are_multiplied_as_they_are() -> None:
    a, b = weights((20, 48), (20, 48))
    x = torch.randn(5, 48, dtype=torch.float64)
    assert torch.equal(projection((a,), torch.float64)(x), F.linear(x, a.double()))
    assert gate(a, b, torch.bfloat16)(x.bfloat16()).dtype == torch.bfloat16


def test_a_row_of_zeros_can_be_quantised() -> None:
    assert not projection((torch.zeros(4, 48),), FP32, int8=True)(torch.ones(2, 48)).any()


def test_int8_is_for_cpus() -> None:
    with pytest.raises(ValueError, match=r"\Aint8 decoding is for CPUs and the model is on cuda; [^\n]*\Z"):
        check_int8(torch.device("cuda"))
