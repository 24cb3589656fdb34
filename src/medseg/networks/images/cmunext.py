"""CMUNeXt: large depthwise kernels and inverted bottlenecks in a U-Net with fused skips.

Tang, Ding, Wang, Ning, Zhou (2023), "CMUNeXt: An Efficient Medical Image Segmentation Network based
on Large Kernel and Skip Fusion", ISBI 2024, arXiv 2308.01239. Official code:
github.com/FengheTan9/CMUNeXt (MIT).

Every stage repeats a residual depthwise convolution of up to 9x9 and a bottleneck of four times the
channels, norms after activations, before an ordinary 3x3 convolution changes the width. A skip and
what comes up from below are convolved apart (3x3, two groups) before 1x1 convolutions fuse them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.nn.blocks import pad_to_multiple, resize_to


def conv_norm_relu(in_channels: int, out_channels: int) -> nn.Sequential:
    """3x3 convolution with bias, batch norm, ReLU; size is kept."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def conv_gelu_norm(
    in_channels: int, out_channels: int, kernel: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution with bias, GELU, batch norm; size is kept."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, groups=groups),
        nn.GELU(),
        nn.BatchNorm2d(out_channels),
    )


class CMUNeXtBlock(nn.Module):
    """Depthwise convolution around an identity, then 1x1 to four times the channels and back."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = conv_gelu_norm(channels, channels, kernel, groups=channels)
        self.expand = conv_gelu_norm(channels, 4 * channels)
        self.reduce = conv_gelu_norm(4 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.reduce(self.expand(x + self.depthwise(x)))
        return out


class Stage(nn.Sequential):
    """``depth`` blocks and a 3x3 convolution to the new width; size is kept."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, kernel: int) -> None:
        super().__init__(
            *(CMUNeXtBlock(in_channels, kernel) for _ in range(depth)),
            conv_norm_relu(in_channels, out_channels),
        )


class SkipFusion(nn.Module):
    """Upsample, convolve to the skip's width, join the skip, fuse both.

    ``(B, I, H, W)`` and ``(B, O, 2H, 2W)`` to ``(B, O, 2H, 2W)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.up = conv_norm_relu(in_channels, out_channels)
        self.fuse = nn.Sequential(
            conv_gelu_norm(2 * out_channels, 2 * out_channels, 3, groups=2),
            conv_gelu_norm(2 * out_channels, 4 * out_channels),
            conv_gelu_norm(4 * out_channels, out_channels),
        )

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.fuse(torch.cat([skip, self.up(resize_to(x, skip))], dim=1))
        return out


class CMUNeXt(nn.Module):
    """CMUNeXt; the default has 3,149,185 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4, ...
        depths: blocks of each stage.
        kernels: depthwise kernel size of each stage, odd.

    CMUNeXt-S (417,505 parameters): widths 8, 16, 32, 64, 128, one block a stage, kernels 3, 3, 7,
    7, 9. CMUNeXt-L (8,286,721): widths 32, 64, 128, 256, 512, depths 1, 1, 1, 6, 3.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 128, 160, 256),
        depths: Sequence[int] = (1, 1, 1, 3, 1),
        kernels: Sequence[int] = (3, 3, 7, 7, 7),
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        if len(depths) != len(widths) or min(depths) < 1:
            raise ValueError(
                f"depths {list(depths)} must hold one number >= 1 for each of widths {list(widths)}"
            )
        if len(kernels) != len(widths) or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(
                f"kernels {list(kernels)} must hold one odd number for each of widths "
                f"{list(widths)}"
            )
        self.stem = conv_norm_relu(in_channels, widths[0])
        before = (widths[0], *widths)
        self.encoder = nn.ModuleList(
            Stage(*numbers) for numbers in zip(before, widths, depths, kernels, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(
            SkipFusion(deep, shallow)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps ``(B, widths[i], H/2^i, W/2^i)``; the deepest stride must divide H and W."""
        features: list[Tensor] = []
        x = self.stem(image)
        for i, stage in enumerate(self.encoder):
            x = stage(self.pool(x) if i else x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 ** (len(self.encoder) - 1))
        *skips, x = self.forward_features(padded)
        for fusion, skip in zip(self.decoder, reversed(skips), strict=True):
            x = fusion(x, skip)
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
