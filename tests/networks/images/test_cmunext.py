from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg import systems
from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.cmunext import CMUNeXt, CMUNeXtBlock, SkipFusion
from medseg.nn.blocks import count_parameters

from .checks import (
    golden,
    on_meta,
)

TINY: dict[str, Any] = {"widths": (4, 6, 8, 10), "depths": (1, 2, 1, 1), "kernels": (3, 5, 7, 3)}


@pytest.mark.parametrize(
    ("system", "parameters", "gigamacs"),
    [
        ("cmunext", 3_149_185, 7.231),
        ("cmunext-s", 417_505, 1.012),
        ("cmunext-l", 8_286_721, 16.853),
    ],
)
def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code(
    system: str, parameters: int, gigamacs: float
) -> None:
    net = on_meta(CMUNeXt, **systems.load_card(system).options)
    assert count_parameters(net) == parameters
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(gigamacs, rel=0.02)


def test_classes_and_channels_change_only_head_and_stem() -> None:
    assert count_parameters(on_meta(CMUNeXt, 1, 1)) == 3_149_185 - 2 * 9 * 16
    assert count_parameters(on_meta(CMUNeXt, 3, 9)) == 3_149_185 + 8 * 17


def test_encoder_maps_halve_from_stage_to_stage() -> None:
    features = CMUNeXt(**TINY).eval().forward_features(torch.zeros(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(TINY["widths"])
    ]


@torch.no_grad()
def test_a_block_whose_depthwise_norm_is_zero_is_a_bottleneck_of_single_pixels() -> None:
    block = CMUNeXtBlock(6, 7).eval()
    nn.init.zeros_(block.depthwise[2].weight)
    x = torch.randn(1, 6, 9, 9)
    assert torch.equal(block(x), block.reduce(block.expand(x)))


@torch.no_grad()
@pytest.mark.parametrize("kernel", [3, 7, 9])
def test_a_block_sees_the_square_of_its_kernel(kernel: int) -> None:
    block = CMUNeXtBlock(6, kernel).eval()
    x = torch.randn(1, 6, 15, 15)
    changed = x.clone()
    changed[0, :, 7, 7] += 1
    reached = (block(x) != block(changed)).any(1)[0]
    reach = kernel // 2
    expected = torch.zeros(15, 15, dtype=torch.bool)
    expected[7 - reach : 8 + reach, 7 - reach : 8 + reach] = True
    assert torch.equal(reached, expected)


@torch.no_grad()
def test_skip_and_decoder_are_convolved_apart_before_they_are_fused() -> None:
    apart = SkipFusion(8, 4).eval().fuse[0]
    skip, up, other = torch.randn(3, 1, 4, 6, 6).unbind()
    first = apart(torch.cat([skip, up], 1))
    second = apart(torch.cat([skip, other], 1))
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4:], second[:, 4:])


def test_known_weights_give_known_logits() -> None:
    expected = [-0.07684344, 0.04326598, -0.1369373, -0.1470652]
    assert golden(CMUNeXt(**TINY)) == pytest.approx(expected, rel=1e-4)
