"""MK-UNet: inverted residuals of three kernel sizes at once, and three kinds of attention.

Rahman, Marculescu (2025), "MK-UNet: Multi-kernel Lightweight CNN for Medical Image Segmentation",
ICCV workshop CVAMD, arXiv 2509.18493. Official code: github.com/SLDGroup/MK-UNet (BSD-3-Clause).

Between two 1x1 convolutions depthwise 1x1, 3x3 and 5x5 convolutions run side by side and are
summed. Encoder stages are halved by max pooling; decoder stages weigh channels, then pixels, before
the same block. Skips pass a gate whose convolutions see two channels each, and are added.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import ConvNormAct, pad_to_multiple, resize_to, spatial_mean


class MultiKernelConvolution(nn.Module):
    """MKDC: the sum of depthwise convolutions of several sizes; channels are then shuffled.

    Args:
        channels: of input and output.
        kernels: odd sizes.
        groups: whose first channels come first after the shuffle, then their second ones.
    """

    def __init__(self, channels: int, kernels: Sequence[int], groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.branches = nn.ModuleList(
            ConvNormAct(channels, channels, kernel, groups=channels, activation="relu6")
            for kernel in kernels
        )

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.branches
        summed = first(x)
        for branch in others:
            summed = summed + branch(x)
        batch, channels, height, width = summed.shape
        # (B, C, H, W) -> (B, groups, C / groups, H, W) -> (B, C, H, W)
        grouped = summed.view(batch, self.groups, channels // self.groups, height, width)
        out: Tensor = grouped.transpose(1, 2).flatten(1, 2)
        return out


class MultiKernelResidual(nn.Module):
    """MKIR: widen (1x1), multi-kernel convolution, narrow linearly (1x1), add the input.

    ``(B, I, H, W) -> (B, O, H, W)``; the input passes a 1x1 convolution where O is not I.

    Args:
        in_channels: I.
        out_channels: O.
        kernels: odd sizes of the depthwise convolutions.
        expansion: channels in the middle, in multiples of I.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernels: Sequence[int], expansion: int
    ) -> None:
        super().__init__()
        middle = expansion * in_channels
        self.body = nn.Sequential(
            ConvNormAct(in_channels, middle, 1, activation="relu6"),
            MultiKernelConvolution(middle, kernels, math.gcd(middle, out_channels)),
            ConvNormAct(middle, out_channels, 1, activation=None),
        )
        self.shortcut: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.shortcut = nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shortcut(x) + self.body(x)
        return out


class ChannelAttention(nn.Module):
    """Weigh channels by what two layers make of their means and, apart, of their maxima."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        squeezed = max(1, channels // reduction)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, squeezed, 1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        maxima = torch.amax(x, dim=(-2, -1), keepdim=True)  # (B, C, 1, 1)
        return x * torch.sigmoid(self.layers(spatial_mean(x)) + self.layers(maxima))


class SpatialAttention(nn.Module):
    """Weigh pixels by a 7x7 convolution of the mean and the maximum of their channels."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.weigh(summary))  # (B, 2, H, W) -> (B, 1, H, W)


class GroupedAttentionGate(nn.Module):
    """GAG: weigh the skip's pixels by what decoder and skip say of them, two channels at a time.

    Both maps and the output are ``(B, C, H, W)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.of_decoder, self.of_skip = (
            nn.Sequential(
                nn.Conv2d(channels, half, 3, padding=1, groups=half), nn.BatchNorm2d(half)
            )
            for _ in range(2)
        )
        self.weigh = nn.Sequential(nn.Conv2d(half, 1, 1), nn.BatchNorm2d(1), nn.Sigmoid())

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        weights: Tensor = self.weigh(F.relu(self.of_decoder(x) + self.of_skip(skip)))
        return skip * weights


class MKUNet(nn.Module):
    """MK-UNet; the default has 315,566 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels before each of the five poolings; all but the last even.
        kernels: odd sizes of the depthwise convolutions that run side by side.
        expansion: channels in the middle of a block, in multiples of its input's.

    Widths of the paper: MK-UNet-T (27,384 parameters) 4, 8, 16, 24, 32; -S (93,050) 8, 16, 32, 48,
    80; -M (1,150,166) 32, 64, 128, 192, 320; -L (3,758,118) 64, 128, 256, 384, 512.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 64, 96, 160),
        kernels: Sequence[int] = (1, 3, 5),
        expansion: int = 2,
    ) -> None:
        super().__init__()
        if len(widths) != 5 or min(widths) < 1 or any(width % 2 for width in widths[:4]):
            raise ValueError(
                f"widths {list(widths)} must hold five numbers >= 1, all but the last even"
            )
        if not kernels or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernels {list(kernels)} must hold odd numbers >= 1")
        if expansion < 1:
            raise ValueError(f"expansion {expansion} must be >= 1")
        before = (in_channels, *widths[:4])
        self.encoder = nn.ModuleList(
            MultiKernelResidual(a, b, kernels, expansion)
            for a, b in zip(before, widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        upward = list(zip(widths[::-1], (*widths[3::-1], widths[0]), strict=True))
        self.channel_attention = nn.ModuleList(
            ChannelAttention(width, reduction)
            for width, reduction in zip(widths[::-1], (16, 16, 16, 8, 4), strict=True)
        )
        self.spatial_attention = SpatialAttention()
        self.decoder = nn.ModuleList(
            MultiKernelResidual(a, b, kernels, expansion) for a, b in upward
        )
        self.gates = nn.ModuleList(GroupedAttentionGate(width) for width in widths[3::-1])
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.sides = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in widths[:3])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2 ... 1/32: ``(B, widths[i], H/2^(i+1), W/2^(i+1))``."""
        features: list[Tensor] = []
        for block in self.encoder:
            features.append(self.pool(block(features[-1] if features else image)))
        return features

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """The logits and those of the three side heads, from shallow to deep, for deep supervision.

        Each is ``(B, K, H, W)``.
        """
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 32)
        maps = self._decode(padded)
        outputs = [self.head(maps[0])]
        outputs += [resize_to(s(x), padded) for s, x in zip(self.sides, maps[1:], strict=True)]
        return [output[..., :height, :width] for output in outputs]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        logits: Tensor = self.head(self._decode(pad_to_multiple(image, 32))[0])
        return logits[..., :height, :width]

    def _decode(self, image: Tensor) -> list[Tensor]:
        """What the head sees at full size, and the side heads at 1/2, 1/4, 1/8."""
        *skips, x = self.forward_features(image)
        maps: list[Tensor] = []
        for i, (attend, block) in enumerate(zip(self.channel_attention, self.decoder, strict=True)):
            x = block(self.spatial_attention(attend(x)))
            x = F.relu(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False))
            maps.insert(0, x)
            if skips:
                x = x + self.gates[i](x, skips.pop())
        return maps[:4]
