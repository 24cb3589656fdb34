"""TinyU-Net: a U-Net made of cascades of cheap depthwise convolutions.

Chen, Chen, Wang, Cheng, Zhang, Chen (2024), "TinyU-Net: Lighter Yet Better U-Net with Cascaded
Multi-Receptive Fields", MICCAI, doi 10.1007/978-3-031-72114-4_60. Official code:
github.com/ChenJunren-Lab/TinyU-Net (MIT).

The CMRF module works on an eighth of its output channels. Half of those go through a cascade of
seven depthwise 3x3 convolutions, each one's output being kept: receptive fields of 3x3 to 15x15
side by side. Upsampling is bicubic.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import pad_to_multiple


def conv_norm(in_channels: int, out_channels: int, kernel: int = 1, groups: int = 1) -> nn.Module:
    """Convolution without bias and batch norm; size is kept."""
    return nn.Sequential(
        nn.Conv2d(
            in_channels, out_channels, kernel, padding=kernel // 2, groups=groups, bias=False
        ),
        nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03),
    )


class CascadeMultiReceptiveFields(nn.Module):
    """CMRF: ``(B, I, H, W) -> (B, O, H, W)``.

    Args:
        in_channels: I.
        out_channels: O, a multiple of ``2 * receptive_fields``.
        receptive_fields: N of the paper: one more than the convolutions of the cascade.
    """

    def __init__(self, in_channels: int, out_channels: int, receptive_fields: int) -> None:
        super().__init__()
        few = out_channels // receptive_fields
        self.reduce = conv_norm(in_channels, few)
        self.cascade = nn.ModuleList(
            conv_norm(few // 2, few // 2, 3, groups=few // 2) for _ in range(receptive_fields - 1)
        )
        self.mix = conv_norm(out_channels // 2, out_channels)
        self.activation = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        # (B, I, H, W) -> (B, O / N, H, W), whose channels are dealt out in turn
        reduced = self.activation(self.reduce(x))
        first, second = reduced[:, 0::2], reduced[:, 1::2]
        branches = [first + second]
        for convolution in self.cascade:
            second = convolution(second)
            branches.append(second)
        # N maps (B, O / 2N, H, W) -> (B, O, H, W)
        out: Tensor = self.activation(self.mix(torch.cat(branches, dim=1)))
        return out


class TinyUNet(nn.Module):
    """TinyU-Net; the default has 481,105 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4, 1/8, of encoder and decoder; multiples of
            ``2 * receptive_fields``.
        receptive_fields: side by side in each module.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        receptive_fields: int = 8,
    ) -> None:
        super().__init__()
        if receptive_fields < 1:
            raise ValueError(f"receptive_fields {receptive_fields} must be >= 1")
        unit = 2 * receptive_fields
        if not widths or min(widths) < 1 or any(width % unit for width in widths):
            raise ValueError(
                f"widths {list(widths)} must hold multiples of {unit}, which is twice "
                f"receptive_fields {receptive_fields}"
            )
        self.encoder = nn.ModuleList(
            CascadeMultiReceptiveFields(before, width, receptive_fields)
            for before, width in zip((in_channels, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        below = (*widths[1:], widths[-1])
        self.decoder = nn.ModuleList(
            CascadeMultiReceptiveFields(deep + width, width, receptive_fields)
            for deep, width in zip(below[::-1], widths[::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps ``(B, widths[i], H/2^i, W/2^i)``; the deepest stride must divide H and W."""
        features: list[Tensor] = []
        for block in self.encoder:
            features.append(block(self.pool(features[-1]) if features else image))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        skips = self.forward_features(pad_to_multiple(image, 2 ** len(self.encoder)))
        x = self.pool(skips[-1])
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            up = F.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
            x = block(torch.cat([up, skip], dim=1))
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
