from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from medseg.nn.fan_out import initialise_by_fan_out


@pytest.mark.parametrize(
    ("layer", "std"),
    [
        (nn.Conv2d(32, 64, 3), math.sqrt(2 / (9 * 64))),
        (nn.Conv2d(256, 256, 3, groups=256), math.sqrt(2 / 9)),
        (nn.Conv1d(64, 32, 3), math.sqrt(2 / (3 * 32))),
        (nn.Linear(64, 64), 0.02),
    ],
)
def test_weights_have_the_standard_deviation_of_their_kind(layer: nn.Module, std: float) -> None:
    torch.manual_seed(0)
    initialise_by_fan_out(layer)
    weight = layer.get_parameter("weight")
    assert weight.std().item() == pytest.approx(std, rel=0.06)
    assert weight.mean().item() == pytest.approx(0, abs=0.1 * std)


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 8, 3), nn.Linear(4, 8)])
def test_biases_of_maps_and_linear_layers_are_zero(layer: nn.Module) -> None:
    initialise_by_fan_out(layer)
    assert not layer.get_parameter("bias").any()
