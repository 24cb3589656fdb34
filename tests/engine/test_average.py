from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.engine.average import WeightAverage


def network(value: float) -> nn.Module:
    net = nn.BatchNorm2d(2)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


@given(decay=st.floats(0, 0.999), steps=st.integers(1, 40))
@settings(deadline=None, max_examples=30)
def test_the_average_has_its_closed_form(decay: float, steps: int) -> None:
    average = WeightAverage(network(0), decay)
    expected = 0.0
    for t in range(steps):
        average.update(network(t + 1))
        kept = min(decay, (1 + t) / (10 + t))
        expected = kept * expected + (1 - kept) * (t + 1)
    found = average.network.state_dict()
    for name in ("weight", "bias", "running_mean", "running_var"):
        assert found[name].tolist() == pytest.approx([expected] * 2, rel=1e-4)
    assert found["num_batches_tracked"] == steps


def test_decay_zero_is_the_last_network_bit_for_bit() -> None:
    net = nn.Conv2d(3, 4, 3)
    average = WeightAverage(nn.Conv2d(3, 4, 3), 0)
    average.update(net)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in average.network.state_dict().items())


def test_weights_that_stand_still_are_their_own_average() -> None:
    net = nn.Conv2d(3, 4, 3)
    average = WeightAverage(net, 0.99)
    for _ in range(5):
        average.update(net)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in average.network.state_dict().items())


def test_the_average_neither_trains_nor_shares_memory() -> None:
    net = network(1)
    average = WeightAverage(net, 0.9)
    with torch.no_grad():
        net.weight.fill_(7)
    assert average.network.weight.tolist() == [1, 1]
    assert not average.network.training
    assert not any(p.requires_grad for p in average.network.parameters())
    assert net.training


def test_tied_weights_are_averaged_once() -> None:
    def tied(value: float) -> nn.Module:
        first = network(value)
        return nn.Sequential(first, first)

    average, alone = WeightAverage(tied(0), 0.9), WeightAverage(network(0), 0.9)
    for _ in range(3):
        average.update(tied(1))
        alone.update(network(1))
    assert torch.equal(average.network[0].weight, alone.network.weight)
