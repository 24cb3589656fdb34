"""U-Net: encoder and decoder of double convolutions, joined by concatenating skips.

Ronneberger, Fischer, Brox (2015), "U-Net: Convolutional Networks for Biomedical Image
Segmentation", MICCAI, arXiv 1505.04597. Differs from the paper in what everybody's U-Net does:
convolutions are padded so that logits have the image's size, and batch norm follows them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.nn.blocks import ACTIVATIONS, Activation, Norm, initialise, make_norm, pad_to_multiple


class DoubleConv(nn.Sequential):
    """Two 3x3 convolutions (with bias), each followed by norm and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: Norm, activation: Activation
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            make_norm(norm, out_channels),
            ACTIVATIONS[activation](),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            make_norm(norm, out_channels),
            ACTIVATIONS[activation](),
        )


class UShape(nn.Module):
    """What every U-Net does with its layers, whatever its blocks are.

    A subclass sets ``encoder``, blocks from shallow to deep; ``pool`` between them; ``up``, layers
    that double the size, from deep to shallow; ``decoder``, blocks of what came up and the skip;
    and ``head``.
    """

    encoder: nn.ModuleList
    pool: nn.Module
    up: nn.ModuleList
    decoder: nn.ModuleList
    head: nn.Module

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps ``(B, width, H/2^i, W/2^i)``; the deepest stride must divide H and W."""
        features: list[Tensor] = []
        x = image
        for i, block in enumerate(self.encoder):
            x = block(self.pool(x) if i else x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 ** (len(self.encoder) - 1))
        *skips, x = self.forward_features(padded)
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = block(torch.cat([skip, up(x)], dim=1))
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]


class UNet(UShape):
    """U-Net; the default has 31,043,521 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4 ...; (16, 32, 64, 128, 256) has 1,944,049
            parameters.
        norm: ``batch``, ``instance``, ``group``, or ``none`` as in the paper.
        activation: ``relu``, ``relu6``, ``leaky_relu``, ``gelu`` or ``silu``.

    Raises:
        ValueError: widths that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        norm: Norm = "batch",
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold one or more numbers >= 1")
        self.encoder = nn.ModuleList(
            DoubleConv(before, width, norm=norm, activation=activation)
            for before, width in zip([in_channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        deep_to_shallow = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(deep, shallow, 2, 2) for deep, shallow in deep_to_shallow
        )
        self.decoder = nn.ModuleList(
            DoubleConv(2 * shallow, shallow, norm=norm, activation=activation)
            for _, shallow in deep_to_shallow
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        initialise(self)
