"""Weights as their authors published them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Published:
    """What a network makes of a state dict in the authors' layout.

    A network class that knows one has a static method ``published(weights) -> Published``, which
    raises ``ValueError`` where the weights are not in it.

    Attributes:
        weights: by this project's names.
        in_channels: of the images.
        num_classes: logit channels.
        options: of the network.
        image_size: pixels a side at which the network was trained.
        mean: subtracted from images on the scale 0..1.
        std: that they are then divided by.
    """

    weights: Mapping[str, Tensor]
    in_channels: int
    num_classes: int
    options: Mapping[str, Any] = field(default_factory=dict)
    image_size: int = 256
    mean: float = 0.5
    std: float = 0.5
