"""Convolution blocks, norms, activations and resizing shared by the networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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


def make_norm(norm: Norm, channels: int) -> nn.Module:
    """A normalisation over ``channels`` of a ``(B, C, H, W)`` map.

    Groups hold as many channels as divide ``channels``, up to 8.

    Raises:
        KeyError: ``norm`` is not one of ``batch | instance | group | none``.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "batch": lambda: nn.BatchNorm2d(channels),
        "instance": lambda: nn.InstanceNorm2d(channels, affine=True),
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
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(
                in_channels,
                out_channels,
                kernel,
                stride,
                kernel // 2,
                groups=groups,
                bias=norm == "none",
            ),
            make_norm(norm, out_channels),
        ]
        if activation is not None:
            layers.append(ACTIVATIONS[activation]())
        super().__init__(*layers)


class ResidualUnit(nn.Module):
    """Two 3x3 convolutions around an identity (He et al. 2016, arXiv 1512.03385); size is kept."""

    def __init__(
        self, channels: int, *, norm: Norm = "batch", activation: Activation = "relu"
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(channels, channels, norm=norm, activation=activation),
            ConvNormAct(channels, channels, norm=norm, activation=None),
        )
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.body(x))
        return out


def resize_to(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear resize of ``x`` to the height and width of ``reference`` (pixel-centre aligned)."""
    return F.interpolate(x, size=reference.shape[-2:], mode="bilinear", align_corners=False)


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of ``multiple``."""
    bottom = -x.shape[-2] % multiple
    right = -x.shape[-1] % multiple
    return F.pad(x, (0, right, 0, bottom), mode="replicate")


def initialise(module: nn.Module) -> None:
    """He initialisation by fan-in of every convolution (arXiv 1502.01852); biases at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def count_parameters(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


def spatial_mean(x: Tensor) -> Tensor:
    """Global average pooling, ``(B, C, H, W) -> (B, C, 1, 1)``."""
    return torch.mean(x, dim=(-2, -1), keepdim=True)
