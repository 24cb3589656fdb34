"""U-Lite: a U-Net whose only spatial operators are crosses of depthwise convolutions.

Dinh, Nguyen, Tran, Pham (2023), "1M parameters are enough? A lightweight CNN-based model for
medical image segmentation", APSIPA ASC, arXiv 2306.16103. Official code: github.com/duong-db/U-Lite
(no licence: read for facts only).

A 7x7 neighbourhood is seen by a 7x1 and a 1x7 depthwise convolution whose outputs are added to
their input. Channels change in 1x1 convolutions only; the bottleneck has three 3x3 crosses of
dilation 1, 2 and 3 side by side.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import pad_to_multiple


class AxialDepthwise(nn.Module):
    """The input plus its depthwise convolutions along height and along width; size is kept.

    Args:
        channels: of the map.
        kernel: length of both kernels, odd.
        dilation: of both.
    """

    def __init__(self, channels: int, kernel: int, dilation: int = 1) -> None:
        super().__init__()
        reach = dilation * (kernel // 2)
        self.along_height = nn.Conv2d(
            channels, channels, (kernel, 1), padding=(reach, 0), dilation=dilation, groups=channels
        )
        self.along_width = nn.Conv2d(
            channels, channels, (1, kernel), padding=(0, reach), dilation=dilation, groups=channels
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.along_height(x) + self.along_width(x)
        return out


class EncoderBlock(nn.Module):
    """Cross, batch norm (the skip), 1x1 convolution, 2x2 max pooling, GELU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.axial = AxialDepthwise(in_channels, kernel)
        self.norm = nn.BatchNorm2d(in_channels)
        self.mix = nn.Conv2d(in_channels, out_channels, 1)
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        # (B, I, H, W) -> (B, O, H/2, W/2) and the skip (B, I, H, W)
        skip = self.norm(self.axial(x))
        return self.activation(self.pool(self.mix(skip))), skip


class Bottleneck(nn.Module):
    """A quarter of the channels (1x1), beside its three dilated crosses; norm, 1x1, GELU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        quarter = channels // 4
        self.reduce = nn.Conv2d(channels, quarter, 1)
        self.axial = nn.ModuleList(AxialDepthwise(quarter, 3, dilation) for dilation in (1, 2, 3))
        self.norm = nn.BatchNorm2d(4 * quarter)
        self.mix = nn.Conv2d(4 * quarter, channels, 1)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        branches = torch.cat([reduced, *(axial(reduced) for axial in self.axial)], dim=1)
        out: Tensor = self.activation(self.mix(self.norm(branches)))
        return out


class DecoderBlock(nn.Module):
    """Double the size (nearest), join the skip, 1x1, batch norm, cross, 1x1, GELU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(in_channels + out_channels, out_channels, 1)
        self.norm = nn.BatchNorm2d(out_channels)
        self.axial = AxialDepthwise(out_channels, kernel)
        self.mix = nn.Conv2d(out_channels, out_channels, 1)
        self.activation = nn.GELU()

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # (B, I, H, W) and (B, O, 2H, 2W) -> (B, O, 2H, 2W)
        joined = torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], dim=1)
        out: Tensor = self.activation(self.mix(self.axial(self.norm(self.reduce(joined)))))
        return out


class ULite(nn.Module):
    """U-Lite; the default has 878,417 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4 ...; 4 divides the last.
        kernel: length of the crosses in encoder and decoder, and size of the stem's kernel; odd.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 64, 128, 256, 512),
        kernel: int = 7,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1 or widths[-1] % 4:
            raise ValueError(
                f"widths {list(widths)} must hold two or more numbers >= 1, the last one a "
                "multiple of 4"
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} must be odd and >= 1, or sizes would shift")
        pairs = list(itertools.pairwise(widths))
        self.stem = nn.Conv2d(in_channels, widths[0], kernel, padding=kernel // 2)
        self.encoder = nn.ModuleList(EncoderBlock(a, b, kernel) for a, b in pairs)
        self.bottleneck = Bottleneck(widths[-1])
        self.decoder = nn.ModuleList(DecoderBlock(b, a, kernel) for a, b in reversed(pairs))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Skips at full size, 1/2, 1/4 ... and the bottleneck's map: ``(B, widths[i], H/2^i,
        W/2^i)``; the deepest stride must divide H and W."""
        features: list[Tensor] = []
        x = self.stem(image)
        for block in self.encoder:
            x, skip = block(x)
            features.append(skip)
        return [*features, self.bottleneck(x)]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 ** len(self.encoder))
        *skips, x = self.forward_features(padded)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = block(x, skip)
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
