from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import count_parameters
from medseg.nn.mobilenet import Gate, InvertedResidual, SqueezeExcite, round_channels


@pytest.mark.parametrize(
    ("channels", "rounded"), [(16, 16), (12, 16), (11, 16), (60, 64), (18, 24), (42, 40), (1, 8)]
)
def test_channels_become_multiples_of_8_and_never_a_tenth_fewer(
    channels: float, rounded: int
) -> None:
    assert round_channels(channels) == rounded


@torch.no_grad()
@pytest.mark.parametrize(
    ("gate", "formula"),
    [("sigmoid", torch.sigmoid), ("hardsigmoid", lambda v: F.relu6(v + 3) / 6)],
)
def test_squeeze_and_excitation_is_its_formula(gate: Gate, formula: nn.Module) -> None:
    layer = SqueezeExcite(6, 3, gate=gate)
    x = 3 * torch.randn(2, 6, 5, 7)
    hidden = F.relu(F.linear(x.mean((2, 3)), layer.reduce.weight[..., 0, 0], layer.reduce.bias))
    weights = formula(F.linear(hidden, layer.restore.weight[..., 0, 0], layer.restore.bias))
    torch.testing.assert_close(layer(x), x * weights[..., None, None])


def test_a_block_of_one_shape_whose_last_norm_is_zero_is_the_identity() -> None:
    block = InvertedResidual(8, 24, 8)
    nn.init.zeros_(block.body[-1][1].weight)
    x = torch.randn(2, 8, 5, 6)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize(("stride", "out_channels"), [(2, 8), (1, 12)])
def test_nothing_is_added_where_the_shape_changes(stride: int, out_channels: int) -> None:
    block = InvertedResidual(8, 24, out_channels, stride=stride)
    nn.init.zeros_(block.body[-1][1].weight)
    out: Tensor = block(torch.randn(2, 8, 5, 6))
    assert out.shape == (2, out_channels, -(-5 // stride), 6 // stride)
    assert not out.any()


def test_a_block_has_the_parameters_of_the_closed_form() -> None:
    block = InvertedResidual(8, 24, 16, 5, squeeze_excite=SqueezeExcite(24, 6))
    norms = 2 * (24 + 24 + 16)
    squeeze_excite = 2 * 24 * 6 + 6 + 24
    assert count_parameters(block) == 8 * 24 + 24 * 25 + 24 * 16 + norms + squeeze_excite


def test_channels_that_stay_as_many_are_not_expanded() -> None:
    assert count_parameters(InvertedResidual(8, 8, 16)) == 8 * 9 + 8 * 16 + 2 * (8 + 16)
