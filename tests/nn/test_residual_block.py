from __future__ import annotations

import torch
from torch import nn

from medseg.nn.residual_block import ResidualBlock, residual_stage


def test_a_block_whose_last_norm_is_zero_is_the_activation_of_its_input() -> None:
    block = ResidualBlock(3, 3)
    nn.init.zeros_(block.norm2.weight)
    x = torch.randn(1, 3, 4, 5, 6)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(x, 0.01))


def test_a_projected_block_divides_each_axis_by_its_stride() -> None:
    block = ResidualBlock(2, 5, stride=(1, 2, 2), project=True)
    assert block(torch.randn(1, 2, 4, 6, 7)).shape == (1, 5, 4, 3, 4)


def test_a_block_of_images_takes_images() -> None:
    block = ResidualBlock(2, 5, stride=2, project=True, dims=2)
    assert block(torch.randn(1, 2, 6, 7)).shape == (1, 5, 3, 4)


def test_of_a_stage_the_first_block_alone_projects() -> None:
    stage = residual_stage(2, 4, 3, stride=2)
    kinds = [type(block.shortcut) for block in stage]
    assert kinds == [nn.Conv3d, nn.Identity, nn.Identity]
