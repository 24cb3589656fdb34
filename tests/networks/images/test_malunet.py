from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.malunet import (
    AttentionBridge,
    DilatedGatedAttention,
    ExternalAttention,
    MALUNet,
)
from medseg.nn.blocks import count_parameters

from .checks import (
    fill_with_waves,
    golden,
    on_meta,
    shape_of_logits,
)

TINY: dict[str, Any] = {"widths": (4, 8, 8, 8, 12, 16)}


def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code() -> None:
    net = on_meta(MALUNet)
    assert count_parameters(net) == 177_943
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(0.083, rel=0.02)


def test_classes_and_channels_change_only_head_and_first_convolution() -> None:
    assert count_parameters(on_meta(MALUNet, 1, 1)) == 177_943 - 2 * 9 * 8
    assert count_parameters(on_meta(MALUNet, 3, 9)) == 177_943 + 8 * 9


def test_one_pixel_with_the_narrowest_widths_has_logits() -> None:
    assert shape_of_logits(MALUNet(1, 1, widths=(4, 4, 4, 8, 8, 8)), 1, 1, 1, 1) == (1, 1, 1, 1)


def test_encoder_maps_halve_five_times() -> None:
    features = MALUNet(**TINY).eval().forward_features(torch.zeros(1, 3, 64, 96))
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3), (2, 3)]
    assert [tuple(f.shape) for f in features] == [
        (1, width, *size) for width, size in zip(TINY["widths"], sizes, strict=True)
    ]


@torch.no_grad()
def test_external_attention_is_its_formula() -> None:
    block = fill_with_waves(ExternalAttention(8)).double()
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    keys, values = block.keys.weight[:, :, 0], block.values.weight[:, :, 0]  # (32, 8), (8, 32)
    expected = torch.empty_like(x)
    for image, out in zip(block.project(x), expected, strict=True):
        scores = (keys @ image.reshape(8, 12)).exp()
        scores = scores / scores.sum(1, keepdim=True)  # over the pixels
        scores = scores / scores.sum(0, keepdim=True)  # over the memories
        out.copy_((values @ scores).reshape(8, 3, 4))
    expected = nn.functional.gelu(x + block.norm(block.output(expected)))
    torch.testing.assert_close(block(x), expected, atol=1e-7, rtol=1e-7)


def test_keys_start_as_the_values_transpose_and_are_learnt_apart() -> None:
    block = MALUNet(**TINY).encoder[3][0]
    assert torch.equal(block.keys.weight, block.values.weight.transpose(0, 1))
    with torch.no_grad():
        block.keys.weight.add_(1)
    assert not torch.equal(block.keys.weight, block.values.weight.transpose(0, 1))


@torch.no_grad()
@pytest.mark.parametrize(("quarter", "dilation"), [(0, 7), (1, 5), (2, 2), (3, 1)])
def test_each_quarter_of_the_channels_has_a_dilation_of_its_own(
    quarter: int, dilation: int
) -> None:
    block = DilatedGatedAttention(8, 8).eval()
    seen: list[Tensor] = []
    block.norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    x = torch.randn(1, 8, 17, 17)
    changed = x.clone()
    changed[:, 2 * quarter, 8, 8] += 1
    block(x)
    block(changed)
    reached = (seen[0] != seen[1])[0]
    arm = [8 - dilation, 8, 8 + dilation]
    expected = torch.zeros(8, 17, 17, dtype=torch.bool)
    expected[2 * quarter, [[a] for a in arm], arm] = True
    assert torch.equal(reached, expected)


@torch.no_grad()
def test_a_bridge_of_half_open_gates_scales_every_skip_by_one_and_a_quarter() -> None:
    bridge = AttentionBridge((4, 6))
    for parameter in bridge.parameters():
        nn.init.zeros_(parameter)
    skips = [torch.randn(2, 4, 6, 6), torch.randn(2, 6, 3, 3)]
    # Pixels: x / 2. Channels: half of x / 2 + x, and x / 2 again.
    for out, skip in zip(bridge(skips), skips, strict=True):
        torch.testing.assert_close(out, 1.25 * skip)


@torch.no_grad()
def test_in_the_bridge_every_skip_weighs_on_the_channels_of_all() -> None:
    bridge = fill_with_waves(AttentionBridge((4, 6, 8)))
    skips = [torch.randn(1, width, 8, 8) for width in (4, 6, 8)]
    before = bridge(skips)
    after = bridge([skips[0] + 1, *skips[1:]])
    assert all(not torch.allclose(a, b, atol=1e-4) for a, b in zip(before, after, strict=True))


def test_known_weights_give_known_logits() -> None:
    expected = [1.799389, 1.935166, -0.08210588, 0.386739]
    assert golden(MALUNet(**TINY)) == pytest.approx(expected, rel=1e-4)
