"""Exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import chain

import torch
from torch import Tensor, nn


class WeightAverage:
    """Average of a network's weights and buffers over the steps.

    The decay rises from 0.1 to ``decay`` as ``(1 + t) / (10 + t)``, so that short trainings are
    not held back by the initial weights.

    Args:
        network: followed by :meth:`update`.
        decay: in [0, 1); 0 makes the average a copy of the last weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after one more step."""
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for ours, theirs in zip(_tensors(self.network), _tensors(network), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, weight)
            else:
                ours.copy_(theirs)


def _tensors(network: nn.Module) -> Iterator[Tensor]:
    """Weights and buffers, tied ones once."""
    return chain(network.parameters(), network.buffers())
