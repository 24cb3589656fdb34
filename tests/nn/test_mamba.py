from __future__ import annotations

import math
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from medseg.nn.blocks import count_parameters
from medseg.nn.mamba import SS2D, BidirectionalMamba, Mamba, step_bias


def with_waves(module: nn.Module) -> nn.Module:
    """Weights of a closed form, by their order."""
    for index, value in enumerate(module.parameters()):
        wave = torch.sin(torch.arange(value.numel(), dtype=torch.float64) * 0.7 + index)
        value.data.copy_((0.5 * wave).view(value.shape))
    return module.double()


@pytest.mark.parametrize(("channels", "parameters"), [(16, 3_360), (64, 32_640), (320, 675_200)])
def test_mamba_has_the_parameters_of_the_authors_code(channels: int, parameters: int) -> None:
    assert count_parameters(Mamba(channels)) == parameters


def test_ss2d_has_the_parameters_of_the_authors_code() -> None:
    assert count_parameters(SS2D(96)) == 105_216


def test_a_bidirectional_block_has_two_branches_between_one_pair_of_layers() -> None:
    shared = 16 * 64 + 32 * 16
    assert count_parameters(BidirectionalMamba(16)) == 2 * (3_360 - shared) + shared


def test_mamba_knows_nothing_of_later_steps() -> None:
    torch.manual_seed(0)
    block, x = Mamba(8), torch.randn(2, 40, 8)
    later = x.clone()
    later[:, 25:] += 1
    y, changed = block(x), block(later)
    torch.testing.assert_close(y[:, :25], changed[:, :25], rtol=0, atol=1e-7)
    assert (y[:, 25:] - changed[:, 25:]).abs().amax(-1).min() > 0


def test_a_bidirectional_block_with_equal_branches_commutes_with_reversal() -> None:
    torch.manual_seed(0)
    block, x = BidirectionalMamba(8).double(), torch.randn(2, 13, 8, dtype=torch.float64)
    for branches in (block.convolve, block.scan):
        branches[1].load_state_dict(branches[0].state_dict())
    torch.testing.assert_close(block(x.flip(1)), block(x).flip(1))


def test_the_halved_sum_is_half_the_sum() -> None:
    torch.manual_seed(0)
    half, whole = BidirectionalMamba(8), BidirectionalMamba(8, halved=False)
    whole.load_state_dict(half.state_dict())
    x = torch.randn(2, 13, 8)
    torch.testing.assert_close(2 * half(x), whole(x))


def symmetric_ss2d(**options: bool | int) -> SS2D:
    """All four directions with the weights of one, a convolution that no symmetry changes."""
    torch.manual_seed(0)
    block = SS2D(6, **options).double()  # type: ignore[arg-type]
    for value in block.scan.parameters():
        value.data.copy_(value.data.chunk(4)[0].repeat(4, *[1] * (value.ndim - 1)))
    kernel = block.convolve.weight.data
    kernel.copy_(sum(cast(Tensor, torch.rot90(kernel, k, (-2, -1))) for k in range(4)) / 4)
    kernel.copy_((kernel + kernel.mT) / 2)
    return block


@pytest.mark.parametrize(
    "options", [{}, {"gated": False, "states": 1, "expansion": 1, "bias": False}]
)
def test_symmetric_directions_commute_with_half_a_turn_and_transposition_only(
    options: dict[str, bool | int],
) -> None:
    block, x = symmetric_ss2d(**options), 20 * torch.randn(2, 6, 5, 7, dtype=torch.float64)
    y = block(x)
    torch.testing.assert_close(block(x.flip(-1, -2)), y.flip(-1, -2))
    torch.testing.assert_close(block(x.mT), y.mT)
    assert (block(x.flip(-1)) - y.flip(-1)).abs().max() > 1e-3


def test_step_sizes_begin_between_a_thousandth_and_a_tenth() -> None:
    torch.manual_seed(0)
    steps = torch.nn.functional.softplus(step_bias(1000))
    assert steps.min() > 0.999e-3
    assert steps.max() < 0.1001
    assert steps.log().mean() == pytest.approx(math.log(1e-2), abs=0.1)


def test_mamba_gives_the_numbers_of_an_independent_implementation() -> None:
    x = torch.sin(torch.arange(2 * 20 * 4, dtype=torch.float64) * 0.37).view(2, 20, 4)
    y = with_waves(Mamba(4))(x)
    assert [y.mean().item(), y.std().item(), *y[1, 19, :2].tolist()] == pytest.approx(GOLDEN)


# mambapy 1.2.0, MambaBlock with the same weights, in double precision.
GOLDEN = [0.05569688481, 0.16225374302, 0.0937299874, 0.07628944028]
