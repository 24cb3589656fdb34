"""The U-Net of the semi-supervised literature: narrow, with dropout that grows with depth.

From the collections PyMIC and SSL4MIS (github.com/HiLab-git), where UA-MT, BCP and many others
train it on ACDC. Differs from :mod:`medseg.networks.images.unet` in leaky ReLUs, dropout between
the two convolutions of a block, and upsampling by a 1x1 convolution and interpolation.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.nn.blocks import crop, pad_to_multiple


class DropoutBlock(nn.Sequential):
    """Two 3x3 convolutions with batch norm and leaky ReLU, dropout of single values between.

    ``(B, I, H, W) -> (B, O, H, W)``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(out_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.LeakyReLU(),
        )


class UpBlock(nn.Module):
    """Join a map with the skip of twice its size: ``(B, I, H, W) -> (B, O, 2H, 2W)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels, out_channels, 1)
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.block = DropoutBlock(2 * out_channels, out_channels)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        joined: Tensor = self.block(torch.cat([skip, self.up(self.reduce(x))], dim=1))
        return joined


class DropoutUNet(nn.Module):
    """U-Net with dropout; the default has 1,813,764 parameters for 1 channel and 4 classes.

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4 ...
        dropout: share of values dropped in each block of the encoder.

    Raises:
        ValueError: widths or dropout that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 64, 128, 256),
        dropout: Sequence[float] = (0.05, 0.1, 0.2, 0.3, 0.5),
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        if len(dropout) != len(widths) or not all(0 <= share < 1 for share in dropout):
            raise ValueError(
                f"dropout {list(dropout)} must hold {len(widths)} numbers from 0 to below 1"
            )
        self.encoder = nn.ModuleList(
            DropoutBlock(before, width, dropout=share)
            for before, width, share in zip(
                [in_channels, *widths[:-1]], widths, dropout, strict=True
            )
        )
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(
            UpBlock(deep, shallow)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 3, padding=1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps ``(B, widths[i], H/2^i, W/2^i)``; the deepest stride must divide H and W."""
        features: list[Tensor] = []
        x = image
        for index, block in enumerate(self.encoder):
            x = block(self.pool(x) if index else x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        padded = pad_to_multiple(image, 2 ** (len(self.encoder) - 1))
        *skips, x = self.forward_features(padded)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        return crop(self.head(x), image.shape[2:])
