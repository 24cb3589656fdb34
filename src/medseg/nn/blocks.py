"""Convolution blocks, norms, activations and resizing shared by networks of images and volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.dims import BATCH_NORM, CONV, INSTANCE_NORM, LINEAR, Dims

Norm = Literal["batch", "instance", "group", "none"]
Activation = Literal["relu", "relu6", "leaky_relu", "gelu", "silu", "hard_swish"]

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "hard_swish": lambda: nn.Hardswish(inplace=True),
}


def make_norm(norm: Norm, channels: int, dims: Dims = 2) -> nn.Module:
    """A normalisation over ``channels`` of a ``(B, C, H, W)`` or ``(B, C, D, H, W)`` map.

    Groups hold as many channels as divide ``channels``, up to 8.

    Raises:
        KeyError: ``norm`` is not one of ``batch | instance | group | none``.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: BATCH_NORM[dims](channels),
        "instance": lambda: INSTANCE_NORM[dims](channels, affine=True),
        "group": lambda: nn.GroupNorm(channels // _group_size(channels), channels),
        "none": nn.Identity,
    }
    return makers[norm]()


def _group_size(channels: int) -> int:
    return max(size for size in range(1, 9) if channels % size == 0)


class ConvNormAct(nn.Sequential):
    """Convolution without bias, normalisation, activation; ``(B, I, H, W) -> (B, O, H', W')``.

    The padding keeps the size at stride 1 and gives ``ceil(size / stride)`` otherwise.

    Args:
        in_channels: I.
        out_channels: O.
        kernel: odd kernel size.
        stride: of the convolution.
        groups: ``in_channels`` makes it depthwise.
        norm: what follows the convolution.
        activation: what follows the norm, or None for a linear output.
        dims: spatial axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: Norm = "batch",
        activation: Activation | None = "relu",
        dims: Dims = 2,
    ) -> None:
        layers: list[nn.Module] = [
            CONV[dims](
                in_channels,
                out_channels,
                kernel,
                stride,
                kernel // 2,
                groups=groups,
                bias=norm == "none",
            ),
            make_norm(norm, out_channels, dims),
        ]
        if activation is not None:
            layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around an identity (He et al. 2016, arXiv 1512.03385); size is kept."""

    def __init__(
        self,
        channels: int,
        *,
        norm: Norm = "batch",
        activation: Activation = "relu",
        dims: Dims = 2,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(channels, channels, norm=norm, activation=activation, dims=dims),
            ConvNormAct(channels, channels, norm=norm, activation=None, dims=dims),
        )
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.body(x))
        return out


def resize_to(x: Tensor, reference: Tensor) -> Tensor:
    """Linear resize of ``x`` to the spatial size of ``reference`` (pixel-centre aligned)."""
    axes = x.ndim - 2
    return F.interpolate(x, size=reference.shape[-axes:], mode=LINEAR[axes], align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int | Sequence[int]) -> Tensor:
    """Repeat the last row, column and slice until every side is a multiple of ``multiple``.

    Args:
        x: ``(B, C, *spatial)``.
        multiple: of all sides, or one for each.
    """
    sides = x.shape[2:]
    multiples = [multiple] * len(sides) if isinstance(multiple, int) else multiple
    # PyTorch takes the padding from the last axis to the first, before and after each.
    after = [-side % each for side, each in zip(sides, multiples, strict=True)]
    return F.pad(x, [amount for each in after[::-1] for amount in (0, each)], mode="replicate")


def crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The first corner of ``(B, C, *spatial)``, of spatial ``size``: undoes the padding."""
    corner: tuple[EllipsisType | slice, ...] = (..., *(slice(side) for side in size))
    return x[corner]


_CONVOLUTIONS = (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def initialise(module: nn.Module) -> None:
    """He initialisation by fan-in of every convolution (arXiv 1502.01852); biases at zero."""
    for layer in module.modules():
        if isinstance(layer, _CONVOLUTIONS):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def spatial_mean(x: Tensor) -> Tensor:
    """Global average pooling, ``(B, C, H, W) -> (B, C, 1, 1)``."""
    return torch.mean(x, dim=(-2, -1), keepdim=True)
