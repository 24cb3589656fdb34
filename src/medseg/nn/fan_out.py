"""Initialisation of several light networks' official codes."""

from __future__ import annotations

import math

from torch import nn


def initialise_by_fan_out(layer: nn.Module) -> None:
    """Convolutions N(0, 2 / fan-out), linear layers N(0, 0.02^2); biases of 1D ones are kept.

    Biases of the others are set to zero. Of depthwise convolutions the fan-out is that of a group.
    To be given to ``module.apply``.
    """
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    elif isinstance(layer, nn.Conv1d):
        fan_out = layer.kernel_size[0] * layer.out_channels
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
    elif isinstance(layer, nn.Conv2d):
        fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
        nn.init.normal_(layer.weight, std=math.sqrt(2 / fan_out))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
