from __future__ import annotations

import pytest
from torch import nn

from medseg.methods.method import adamw
from medseg.methods.rates import parameter_groups
from medseg.models import create_model
from medseg.recipe import OptimizerSettings


def network() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Conv2d(2, 2, 3))


def test_with_equal_rates_there_are_decayed_weights_and_the_rest() -> None:
    decayed, plain = parameter_groups(network(), OptimizerSettings(weight_decay=0.3))
    assert [p.ndim for p in decayed["params"]] == [4, 4]
    assert [p.ndim for p in plain["params"]] == [1, 1, 1, 1]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.3, 0.0)
    assert "lr_scale" not in decayed


def test_rates_grow_geometrically_from_the_first_layer_to_the_last() -> None:
    layers = network()
    groups = parameter_groups(layers, OptimizerSettings(first_layer_rate=0.01))
    rates = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    found = [rates[id(layer.weight)] for layer in layers]
    assert found == pytest.approx([0.01, 0.1, 1.0])
    assert all(rates[id(layer.weight)] == rates[id(layer.bias)] for layer in layers)


@pytest.mark.parametrize("system", ["unetpp", "med2d-segnet"])
def test_every_trained_parameter_is_in_one_group(system: str) -> None:
    small = create_model(system, widths=(4, 6, 8, 8, 8))
    frozen, *rest = small.parameters()
    frozen.requires_grad_(False)
    groups = parameter_groups(small, OptimizerSettings(first_layer_rate=0.1))
    held = [id(p) for group in groups for p in group["params"]]
    assert sorted(held) == sorted(map(id, rest))


def test_parameters_that_layers_share_are_held_once() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    groups = parameter_groups(nn.Sequential(first, second), OptimizerSettings(first_layer_rate=0.1))
    held = [id(p) for group in groups for p in group["params"]]
    assert len(held) == len(set(held)) == 3


def test_a_network_of_one_layer_learns_at_the_first_layers_rate() -> None:
    (group, *_) = parameter_groups(nn.Linear(2, 2), OptimizerSettings(first_layer_rate=0.5))
    assert group["lr_scale"] == 0.5


def test_the_optimizer_keeps_the_scale_of_each_group() -> None:
    optimizer = adamw(network(), OptimizerSettings(first_layer_rate=0.25))
    scales = [group["lr_scale"] for group in optimizer.param_groups]
    assert scales == pytest.approx([0.25, 0.25, 0.5, 1.0, 1.0])
