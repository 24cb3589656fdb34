from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.nn.blocks import (
    ConvNormAct,
    ResidualUnit,
    count_parameters,
    initialise,
    make_norm,
    pad_to_multiple,
    resize_to,
)


@given(size=st.integers(1, 30), kernel=st.sampled_from([1, 3, 5, 7]), stride=st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_convolution_divides_the_size_by_its_stride_rounding_up(
    size: int, kernel: int, stride: int
) -> None:
    block = ConvNormAct(2, 3, kernel, stride=stride, activation=None).eval()
    assert block(torch.zeros(1, 2, size, size)).shape[-1] == math.ceil(size / stride)


def test_a_convolution_has_a_bias_only_without_a_norm() -> None:
    assert ConvNormAct(2, 3, norm="none")[0].bias is not None
    assert ConvNormAct(2, 3, norm="batch")[0].bias is None


@given(channels=st.integers(1, 100))
@settings(deadline=None)
def test_groups_divide_the_channels_and_hold_at_most_eight(channels: int) -> None:
    norm = make_norm("group", channels)
    assert isinstance(norm, nn.GroupNorm)
    assert channels % norm.num_groups == 0
    assert channels // norm.num_groups <= 8
    assert channels % 8 or norm.num_groups == channels // 8


def test_a_residual_unit_whose_last_norm_is_zero_is_its_activation() -> None:
    unit = ResidualUnit(4)
    nn.init.zeros_(unit.body[1][1].weight)
    x = torch.randn(2, 4, 5, 6)
    assert torch.equal(unit(x), x.relu())


def test_resizing_keeps_a_linear_ramp_inside() -> None:
    ramp = torch.arange(8.0).expand(1, 1, 6, 8)
    resized = resize_to(ramp, torch.zeros(1, 1, 12, 16))
    expected = (torch.arange(16) + 0.5) / 2 - 0.5
    torch.testing.assert_close(resized[0, 0, 5, 1:-1], expected[1:-1])


@given(height=st.integers(1, 40), width=st.integers(1, 40), multiple=st.integers(1, 32))
@settings(deadline=None)
def test_padding_repeats_the_last_row_and_column_and_keeps_the_image(
    height: int, width: int, multiple: int
) -> None:
    x = torch.randn(1, 2, height, width)
    padded = pad_to_multiple(x, multiple)
    assert padded.shape[-2] % multiple == padded.shape[-1] % multiple == 0
    assert padded.shape[-2] < height + multiple
    rows = torch.arange(padded.shape[-2]).clamp_max(height - 1)
    columns = torch.arange(padded.shape[-1]).clamp_max(width - 1)
    assert torch.equal(padded, x[..., rows, :][..., columns])


def test_initial_weights_have_the_variance_of_he_and_zero_biases() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 128, 3)
    initialise(conv)
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 9)), rel=0.02)
    assert conv.bias is not None
    assert not conv.bias.any()


def test_frozen_parameters_are_not_counted() -> None:
    layers = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 5).requires_grad_(False))
    assert count_parameters(layers) == 8
