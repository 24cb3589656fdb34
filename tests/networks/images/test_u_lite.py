from __future__ import annotations

from typing import Any

import pytest
import torch

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.u_lite import AxialDepthwise, Bottleneck, ULite
from medseg.nn.blocks import count_parameters

from .checks import (
    golden,
    on_meta,
)

TINY: dict[str, Any] = {"widths": (4, 6, 8, 12), "kernel": 5}


def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code() -> None:
    net = on_meta(ULite)
    assert count_parameters(net) == 878_417
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(0.737, rel=0.02)


def test_classes_and_channels_change_only_head_and_stem() -> None:
    assert count_parameters(on_meta(ULite, 1, 1)) == 878_417 - 2 * 49 * 16
    assert count_parameters(on_meta(ULite, 3, 9)) == 878_417 + 8 * 17


def test_encoder_maps_halve_from_full_size_to_the_bottleneck() -> None:
    features = ULite(**TINY).eval().forward_features(torch.zeros(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(TINY["widths"])
    ]


@torch.no_grad()
@pytest.mark.parametrize(("kernel", "dilation"), [(7, 1), (3, 1), (3, 2), (3, 3)])
def test_an_axial_convolution_sees_a_cross_of_its_own_channel(kernel: int, dilation: int) -> None:
    layer = AxialDepthwise(3, kernel, dilation)
    x = torch.randn(1, 3, 17, 17)
    changed = x.clone()
    changed[0, 1, 8, 8] += 1
    reached = (layer(x) != layer(changed))[0]
    expected = torch.zeros(3, 17, 17, dtype=torch.bool)
    arm = [8 + dilation * i for i in range(-(kernel // 2), kernel // 2 + 1)]
    expected[1, arm, 8] = True
    expected[1, 8, arm] = True
    assert torch.equal(reached, expected)


@torch.no_grad()
def test_an_axial_convolution_is_one_with_a_kernel_in_the_form_of_a_cross() -> None:
    layer = AxialDepthwise(4, 7)
    kernel = torch.zeros(4, 1, 7, 7)
    kernel[:, :, :, 3] += layer.along_height.weight[..., 0]
    kernel[:, :, 3, :] += layer.along_width.weight[:, :, 0]
    kernel[:, :, 3, 3] += 1
    bias = layer.along_height.bias + layer.along_width.bias
    x = torch.randn(2, 4, 9, 12)
    expected = torch.conv2d(x, kernel, bias, padding=3, groups=4)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_bottleneck_reaches_three_pixels_along_each_axis() -> None:
    block = Bottleneck(16).eval()
    x = torch.randn(1, 16, 11, 11)
    changed = x.clone()
    changed[0, :, 5, 5] += 1
    reached = (block(x) != block(changed)).any(1)[0]
    expected = torch.zeros(11, 11, dtype=torch.bool)
    expected[2:9, 5] = True
    expected[5, 2:9] = True
    assert torch.equal(reached, expected)


def test_known_weights_give_known_logits() -> None:
    expected = [0.5967739, 0.496509, 0.2235698, 0.1991579]
    assert golden(ULite(**TINY)) == pytest.approx(expected, rel=1e-4)
