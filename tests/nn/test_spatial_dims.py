from __future__ import annotations

import pytest
import torch
from torch import nn

from medseg.nn.blocks import ConvNormAct, ResidualUnit, pad_to_multiple, resize_to
from medseg.nn.dims import INSTANCE_NORM, Dims
from medseg.nn.stretch import stretch

BOTH = pytest.mark.parametrize("dims", [2, 3])


@BOTH
def test_instance_norm_is_pytorchs_where_a_map_has_more_than_a_pixel(dims: Dims) -> None:
    ours = INSTANCE_NORM[dims](3, affine=True)
    theirs = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dims](3, affine=True)
    with torch.no_grad():
        ours.weight.uniform_()
        ours.bias.uniform_()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, *(4,) * dims)
    assert torch.equal(ours(x), theirs(x))


@BOTH
def test_instance_norm_of_a_single_pixel_is_its_bias(dims: Dims) -> None:
    norm = INSTANCE_NORM[dims](2, affine=True)
    nn.init.constant_(norm.bias, 0.25)
    assert norm(torch.randn(1, 2, *(1,) * dims)).flatten().tolist() == pytest.approx(
        [0.25] * 2, abs=1e-3
    )


def test_a_volume_of_equal_slices_is_convolved_as_its_slices_are() -> None:
    flat, deep = (ConvNormAct(2, 3, norm="none", dims=dims) for dims in (2, 3))
    with torch.no_grad():
        # All of the kernel's weight in its middle slice.
        deep[0].weight.zero_()[:, :, 1] = flat[0].weight
        deep[0].bias.copy_(flat[0].bias)
    x = torch.randn(1, 2, 6, 7)
    torch.testing.assert_close(deep(x[:, :, None].expand(-1, -1, 4, -1, -1))[:, :, 2], flat(x))


def test_a_residual_unit_of_volumes_keeps_their_size() -> None:
    assert ResidualUnit(4, dims=3)(torch.randn(1, 4, 3, 5, 6)).shape == (1, 4, 3, 5, 6)


def test_volumes_are_padded_at_the_end_of_each_side_by_its_own_multiple() -> None:
    x = torch.randn(1, 1, 3, 5, 6)
    padded = pad_to_multiple(x, (2, 4, 3))
    assert padded.shape == (1, 1, 4, 8, 6)
    assert torch.equal(padded[:, :, :3, :5], x)
    assert torch.equal(padded[:, :, 3], padded[:, :, 2])
    assert torch.equal(padded[:, :, :, 7], padded[:, :, :, 4])


def test_linear_ramps_stay_linear_when_volumes_are_resized() -> None:
    ramp = torch.arange(4.0).view(1, 1, 4, 1, 1).expand(1, 1, 4, 2, 2)
    halved = resize_to(ramp, torch.empty(8, 2, 2))[0, 0, 1:-1, 0, 0]
    torch.testing.assert_close(halved, (torch.arange(1, 7) + 0.5) / 2 - 0.5)
    torch.testing.assert_close(stretch(ramp, (7, 2, 2))[0, 0, :, 0, 0], torch.arange(7) / 2)
