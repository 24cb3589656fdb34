"""Layers by the number of spatial axes: 2 for images ``(B, C, H, W)``, 3 for volumes
``(B, C, D, H, W)``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

Dims = Literal[2, 3]


def _instance_norm(norm: nn.InstanceNorm2d | nn.InstanceNorm3d, x: Tensor) -> Tensor:
    return torch.instance_norm(x, norm.weight, norm.bias, None, None, True, 0.0, norm.eps, True)


class InstanceNorm2d(nn.InstanceNorm2d):
    """Its bias where a map is a single pixel, which PyTorch's own refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return _instance_norm(self, x)


class InstanceNorm3d(nn.InstanceNorm3d):
    """Its bias where a map is a single voxel, which PyTorch's own refuses."""

    def forward(self, x: Tensor) -> Tensor:
        return _instance_norm(self, x)


CONV: Mapping[Dims, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED_CONV: Mapping[Dims, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}
MAX_POOL: Mapping[Dims, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {
    2: nn.MaxPool2d,
    3: nn.MaxPool3d,
}
BATCH_NORM: Mapping[Dims, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {
    2: nn.BatchNorm2d,
    3: nn.BatchNorm3d,
}
INSTANCE_NORM: Mapping[Dims, type[InstanceNorm2d] | type[InstanceNorm3d]] = {
    2: InstanceNorm2d,
    3: InstanceNorm3d,
}
LINEAR: Mapping[int, str] = {2: "bilinear", 3: "trilinear"}
"""The mode of linear interpolation."""
