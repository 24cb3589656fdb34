from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.ege_unet import (
    EGEUNet,
    GroupAggregationBridge,
    HadamardAttention,
    LearntLine,
    LearntMap,
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
    net = on_meta(EGEUNet)
    assert count_parameters(net) == 53_374
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(0.072, rel=0.02)


def test_channels_change_only_the_first_convolution() -> None:
    assert count_parameters(on_meta(EGEUNet, 1, 1)) == 53_374 - 2 * 9 * 8


def test_one_pixel_with_the_narrowest_widths_has_logits() -> None:
    assert shape_of_logits(EGEUNet(1, 1, widths=(4, 4, 4, 8, 8, 8)), 1, 1, 1, 1) == (1, 1, 1, 1)


def test_encoder_maps_halve_five_times() -> None:
    features = EGEUNet(**TINY).eval().forward_features(torch.zeros(1, 3, 64, 96))
    sizes = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3), (2, 3)]
    assert [tuple(f.shape) for f in features] == [
        (1, width, *size) for width, size in zip(TINY["widths"], sizes, strict=True)
    ]


@torch.no_grad()
@pytest.mark.parametrize("classes", [1, 3])
def test_all_outputs_are_the_logits_and_five_more_of_the_same_size(classes: int) -> None:
    net = EGEUNet(3, classes, **TINY).eval()
    x = torch.randn(2, 3, 50, 41)
    outputs = net.forward_all(x)
    assert [tuple(o.shape) for o in outputs] == [(2, classes, 50, 41)] * 6
    assert torch.equal(outputs[0], net(x))


@torch.no_grad()
def test_the_sides_run_from_shallow_to_deep() -> None:
    net = EGEUNet(**TINY).eval()
    x = torch.randn(1, 3, 64, 64)
    before = net.forward_all(x)
    # The decoder stage of 1/2 is the last, which no deeper side depends on.
    net.get_parameter("decoder.4.weight").mul_(2)
    changed = [not torch.equal(a, b) for a, b in zip(before, net.forward_all(x), strict=True)]
    assert changed == [True, True, False, False, False, False]


@torch.no_grad()
def test_fresh_factors_are_the_same_everywhere_but_at_the_edge() -> None:
    torch.manual_seed(0)
    line, square = LearntLine(3, 8)(20), LearntMap(3, 8)((20, 30))
    torch.testing.assert_close(line[..., 1:-1], line[..., 5:6].expand(-1, -1, 18))
    inside = square[..., 1:-1, 1:-1]
    torch.testing.assert_close(inside, square[..., 5:6, 5:6].expand_as(inside))


def silence(module: nn.Module) -> None:
    """Make the last convolution of a sequence give 1, so that the product is its input."""
    nn.init.zeros_(module.weight)
    nn.init.ones_(module.bias)


@torch.no_grad()
def test_with_all_factors_at_one_attention_passes_three_quarters_on() -> None:
    block = HadamardAttention(8, 8).eval()
    for factors in (block.map, block.along_height, block.along_width):
        silence(factors.refine[2])
    silence(block.convolution[2])
    x = torch.randn(2, 8, 6, 5)
    expected = block.norm(x)
    expected[:, 6:] = 1
    torch.testing.assert_close(block(x), block.mix(expected))


@torch.no_grad()
@pytest.mark.parametrize(("name", "axis"), [("along_height", 2), ("along_width", 3)])
def test_a_learnt_line_changes_its_own_quarter_along_its_own_axis(name: str, axis: int) -> None:
    block = HadamardAttention(8, 8).eval()
    block.mix = nn.Identity()
    x = torch.randn(2, 8, 8, 8)
    before = block(x)
    getattr(block, name).values[..., 2] += 1
    factor = (block(x) / before).round(decimals=4)
    quarter = 2 * (axis - 1)
    others = [c for c in range(8) if c not in (quarter, quarter + 1)]
    assert torch.equal(factor[:, others], torch.ones_like(factor[:, others]))
    changed = (factor[:, quarter : quarter + 2] != 1).any(1).any(0)
    across = changed.all(dim=3 - axis)
    assert torch.equal(across, changed.any(dim=3 - axis))
    assert set(across.nonzero().flatten().tolist()) <= {1, 2, 3}
    assert across.any()


@torch.no_grad()
def test_a_bridge_sees_the_deeper_map_the_skip_and_the_mask() -> None:
    bridge = fill_with_waves(GroupAggregationBridge(12, 8, 1))
    deep, skip = torch.randn(1, 12, 3, 4), torch.randn(1, 8, 6, 8)
    mask = torch.randn(1, 1, 6, 8)
    out = bridge(deep, skip, mask)
    assert out.shape == skip.shape
    for changed in ((deep + torch.randn_like(deep), skip, mask), (deep, 2 * skip, mask)):
        assert not torch.allclose(bridge(*changed), out)
    assert not torch.allclose(bridge(deep, skip, -mask), out)


def test_known_weights_give_known_logits() -> None:
    expected = [-0.7131295, 1.539892, -4.108938, -4.165055]
    assert golden(EGEUNet(**TINY)) == pytest.approx(expected, rel=1e-4)
