from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from medseg.benchmark.efficiency import count_macs
from medseg.networks.images.tinyu_net import CascadeMultiReceptiveFields, TinyUNet
from medseg.nn.blocks import count_parameters

from .checks import (
    fill_with_waves,
    golden,
    on_meta,
)

TINY: dict[str, Any] = {"widths": (8, 16, 16), "receptive_fields": 4}


def test_it_has_the_parameters_and_the_arithmetic_of_the_official_code() -> None:
    net = on_meta(TinyUNet)
    assert count_parameters(net) == 481_105
    macs = count_macs(net, torch.empty(1, 3, 256, 256, device="meta"))
    assert macs / 1e9 == pytest.approx(1.561, rel=0.02)


def test_classes_and_channels_change_only_head_and_first_convolution() -> None:
    assert count_parameters(on_meta(TinyUNet, 1, 1)) == 481_105 - 2 * 8
    assert count_parameters(on_meta(TinyUNet, 3, 9)) == 481_105 + 8 * 65


@given(inputs=st.integers(1, 40), units=st.integers(1, 5), fields=st.integers(1, 8))
def test_a_modules_parameters_have_a_closed_form(inputs: int, units: int, fields: int) -> None:
    outputs = 2 * fields * units
    module = on_meta(CascadeMultiReceptiveFields, inputs, outputs, fields)
    reduce = inputs * 2 * units + 2 * 2 * units
    cascade = (fields - 1) * (9 * units + 2 * units)
    mix = outputs // 2 * outputs + 2 * outputs
    assert count_parameters(module) == reduce + cascade + mix


def test_encoder_maps_halve_from_level_to_level() -> None:
    features = TinyUNet(**TINY).eval().forward_features(torch.zeros(1, 3, 32, 48))
    assert [tuple(f.shape) for f in features] == [
        (1, width, 32 >> i, 48 >> i) for i, width in enumerate(TINY["widths"])
    ]


@torch.no_grad()
@pytest.mark.parametrize(("fields", "reach"), [(1, 0), (2, 1), (4, 3), (8, 7)])
def test_a_module_sees_one_pixel_farther_for_each_convolution_of_its_cascade(
    fields: int, reach: int
) -> None:
    module = fill_with_waves(CascadeMultiReceptiveFields(3, 4 * fields, fields)).double()
    x = torch.randn(1, 3, 21, 21, dtype=torch.float64)
    changed = x.clone()
    changed[0, :, 10, 10] += 5
    rows, columns = (module(x) != module(changed)).any(1)[0].nonzero().T
    assert (rows.min(), rows.max()) == (10 - reach, 10 + reach)
    assert (columns.min(), columns.max()) == (10 - reach, 10 + reach)


@torch.no_grad()
def test_a_module_is_the_papers_formula_of_odd_and_even_channels() -> None:
    module = fill_with_waves(CascadeMultiReceptiveFields(5, 12, 3))
    x = torch.randn(2, 5, 6, 7)
    reduced = F.gelu(module.reduce(x))  # (2, 4, 6, 7), channels numbered from 1 in the paper
    odd = torch.stack([reduced[:, 0], reduced[:, 2]], 1)
    even = torch.stack([reduced[:, 1], reduced[:, 3]], 1)
    once = module.cascade[0](even)
    twice = module.cascade[1](once)
    expected = F.gelu(module.mix(torch.cat([odd + even, once, twice], 1)))
    torch.testing.assert_close(module(x), expected)


def test_known_weights_give_known_logits() -> None:
    expected = [-0.05296982, 0.02815665, -0.05496744, -0.05045786]
    assert golden(TinyUNet(**TINY)) == pytest.approx(expected, rel=1e-4)
