from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.lv_unet import LVUNet, SeriesActivation, VanillaBlock
from medseg.nn.blocks import count_parameters

from .checks import (
    fill_with_waves,
    golden,
    on_meta,
)

TINY: dict[str, Any] = {"widths": (24,)}


def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code() -> None:
    net = on_meta(LVUNet)
    assert count_parameters(net) == 934_545
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(0.175, rel=0.02)


def test_classes_and_channels_change_only_head_and_first_convolution() -> None:
    assert count_parameters(on_meta(LVUNet, 1, 1)) == 934_545 - 2 * 9 * 16
    assert count_parameters(on_meta(LVUNet, 3, 9)) == 934_545 + 8 * 17


@given(inputs=st.integers(1, 40), outputs=st.integers(1, 40), reach=st.integers(0, 3))
def test_a_blocks_parameters_have_a_closed_form(inputs: int, outputs: int, reach: int) -> None:
    block = on_meta(VanillaBlock, inputs, outputs, nn.Identity(), reach, 0.0)
    mix = inputs * inputs + 3 * inputs
    project = inputs * outputs + 3 * outputs
    activation = outputs * (2 * reach + 1) ** 2 + 2 * outputs
    assert count_parameters(block) == mix + project + activation


def test_encoder_maps_run_from_a_quarter_to_a_128th() -> None:
    features = LVUNet().eval().forward_features(torch.zeros(1, 3, 128, 256))
    assert [tuple(f.shape) for f in features] == [
        (1, channels, 32 >> i, 64 >> i) for i, channels in enumerate((24, 40, 80, 160, 240, 480))
    ]


@torch.no_grad()
def test_a_series_activation_is_a_weighted_sum_of_shifted_relus() -> None:
    layer = fill_with_waves(SeriesActivation(2, 1))
    layer.norm = nn.Identity()
    x = torch.randn(1, 2, 5, 6)
    rectified = F.pad(x.relu(), (1, 1, 1, 1))
    expected = sum(
        layer.sum.weight[:, 0, i, j, None, None] * rectified[:, :, i : i + 5, j : j + 6]
        for i in range(3)
        for j in range(3)
    )
    torch.testing.assert_close(layer(x), expected)


@torch.no_grad()
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_before_its_activation_a_block_is_linear_only_with_slope_1(slope: float) -> None:
    block = fill_with_waves(VanillaBlock(6, 4, nn.Identity(), 1, slope)).double()
    block.activation = nn.Identity()
    x, y = torch.randn(2, 1, 6, 5, 5, dtype=torch.float64).unbind()
    middle = block((x + y) / 2)
    assert torch.allclose(middle, (block(x) + block(y)) / 2) == (slope == 1)


@torch.no_grad()
def test_the_slope_can_be_changed_while_training_goes_on() -> None:
    x = torch.randn(1, 3, 64, 64)
    net, other = LVUNet(**TINY), LVUNet(**TINY, slope=0.5)
    fill_with_waves(net), fill_with_waves(other)
    assert not torch.equal(net(x), other(x))
    net.set_slope(0.5)
    assert torch.equal(net(x), other(x))


@torch.no_grad()
def test_a_network_of_slope_1_gives_the_same_logits_when_it_is_fused() -> None:
    net = fill_with_waves(LVUNet(**TINY, slope=1.0)).double()
    x = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    before = net(x)
    net.fuse()
    torch.testing.assert_close(net(x), before)
    other = LVUNet(**TINY, slope=1.0).double().eval()
    other.fuse()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))


def test_a_fused_network_has_one_1x1_convolution_a_block_and_the_official_parameters() -> None:
    net: Any = on_meta(LVUNet, slope=1.0).eval()
    net.fuse()
    assert count_parameters(net) == 513_585
    net.fuse()  # again changes nothing
    assert count_parameters(net) == 513_585
    assert not [m for m in net.decoder.modules() if isinstance(m, nn.BatchNorm2d | nn.LeakyReLU)]


@pytest.mark.parametrize("slope", [0.0, 0.9])
def test_blocks_that_are_not_linear_are_not_fused(slope: float) -> None:
    with pytest.raises(ValueError, match=f"slope {slope}"):
        LVUNet(**TINY, slope=slope).eval().fuse()


def test_a_network_in_training_is_not_fused() -> None:
    with pytest.raises(ValueError, match=r"eval\(\)"):
        LVUNet(**TINY, slope=1.0).fuse()


def test_batch_norms_are_those_of_mobilenet_v3_and_of_the_official_code() -> None:
    net = LVUNet()
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    kinds = [(norm.eps, norm.momentum) for norm in norms]
    first = 1 + 2 + 8 * 3
    assert kinds == [(1e-3, 0.01)] * first + [(1e-6, 0.1)] * 30


def test_known_weights_give_known_logits() -> None:
    expected = [0.05472586, 0.02724364, 0.05774666, 0.0509534]
    assert golden(LVUNet(**TINY)) == pytest.approx(expected, rel=1e-4)
