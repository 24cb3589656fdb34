"""EGE-UNet: products with learnt maps along three axes, and skips that know the coarser mask.

Ruan, Xie, Gao, Liu, Fu (2023), "EGE-UNet: an Efficient Group Enhanced UNet for skin lesion
segmentation", MICCAI, arXiv 2307.08473. Official code: github.com/JCruan519/EGE-UNet (Apache-2.0).

Below 1/8 attention is a product: a quarter of the channels is multiplied by a learnt map, a quarter
by a learnt line along the height, a quarter by one along the width, all stretched to the map's
size. Every decoder stage predicts a mask of its own, and the bridge to the next one groups the
skip, what the deeper bridge gave, and that mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import pad_to_multiple
from medseg.nn.channel_norm import ChannelNorm
from medseg.nn.fan_out import initialise_by_fan_out
from medseg.nn.stretch import stretch

_DILATIONS = (1, 2, 5, 7)


def depthwise(channels: int, dilation: int = 1) -> nn.Conv2d:
    """3x3, with bias; size is kept."""
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels)


class LearntLine(nn.Module):
    """A factor for each channel and each position along one axis, ``(1, C, length)``."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(1, channels, length))
        self.refine = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1, groups=channels),
            nn.GELU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, length: int) -> Tensor:
        values = F.interpolate(self.values, size=length, mode="linear", align_corners=True)
        out: Tensor = self.refine(values)
        return out


class LearntMap(nn.Module):
    """A factor for each channel and pixel, ``(1, C, H, W)``."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.ones(1, channels, length, length))
        self.refine = nn.Sequential(
            depthwise(channels), nn.GELU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, size: Sequence[int]) -> Tensor:
        out: Tensor = self.refine(stretch(self.values, size))
        return out


class HadamardAttention(nn.Module):
    """GHPA: products with a learnt map and two learnt lines, beside a convolution.

    ``(B, I, H, W) -> (B, O, H, W)``. Each takes a quarter of the channels; layer norm before and
    after, then a depthwise separable convolution.

    Args:
        in_channels: I, a multiple of 4.
        out_channels: O.
        length: of the learnt lines and sides of the learnt map, before they are stretched.
    """

    def __init__(self, in_channels: int, out_channels: int, length: int = 8) -> None:
        super().__init__()
        quarter = in_channels // 4
        self.norm = ChannelNorm(in_channels)
        self.map = LearntMap(quarter, length)
        self.along_height = LearntLine(quarter, length)
        self.along_width = LearntLine(quarter, length)
        self.convolution = nn.Sequential(
            nn.Conv2d(quarter, quarter, 1), nn.GELU(), depthwise(quarter)
        )
        self.mix = nn.Sequential(
            ChannelNorm(in_channels),
            depthwise(in_channels),
            nn.GELU(),
            nn.Conv2d(in_channels, out_channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        first, second, third, fourth = self.norm(x).chunk(4, dim=1)
        parts = [
            first * self.map((height, width)),
            second * self.along_height(height)[..., None],  # (1, C/4, H, 1)
            third * self.along_width(width)[:, :, None],  # (1, C/4, 1, W)
            self.convolution(fourth),
        ]
        out: Tensor = self.mix(torch.cat(parts, dim=1))
        return out


class GroupAggregationBridge(nn.Module):
    """GAB: four groups, each of a quarter of both maps and the mask, at dilations 1, 2, 5, 7.

    From ``(B, D, H', W')`` of the deeper bridge, ``(B, S, H, W)`` of the encoder and a mask
    ``(B, K, H, W)`` to ``(B, S, H, W)``.

    Args:
        deep: D.
        shallow: S, a multiple of 4.
        num_classes: K.
    """

    def __init__(self, deep: int, shallow: int, num_classes: int) -> None:
        super().__init__()
        group = shallow // 2 + num_classes
        self.project = nn.Conv2d(deep, shallow, 1)
        self.groups = nn.ModuleList(
            nn.Sequential(ChannelNorm(group), depthwise(group, dilation)) for dilation in _DILATIONS
        )
        self.mix = nn.Sequential(ChannelNorm(4 * group), nn.Conv2d(4 * group, shallow, 1))

    def forward(self, deep: Tensor, skip: Tensor, mask: Tensor) -> Tensor:
        projected = stretch(self.project(deep), skip.shape[-2:])
        quarters = zip(self.groups, projected.chunk(4, 1), skip.chunk(4, 1), strict=True)
        grouped = [group(torch.cat([a, b, mask], dim=1)) for group, a, b in quarters]
        out: Tensor = self.mix(torch.cat(grouped, dim=1))
        return out


class EGEUNet(nn.Module):
    """EGE-UNet; the default has 53,374 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at 1/2, 1/4, 1/8 (convolutions), 1/16 and twice 1/32 (GHPA); multiples
            of 4, the last three at least 8.

    Raises:
        ValueError: widths that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (8, 16, 24, 32, 48, 64),
    ) -> None:
        super().__init__()
        # A group of one channel has no norm where one pixel is left of the image.
        if len(widths) != 6 or min(widths) < 4 or min(widths[3:]) < 8 or any(w % 4 for w in widths):
            raise ValueError(
                f"widths {list(widths)} must hold six multiples of 4, the last three at least 8"
            )
        before = (in_channels, *widths)
        pairs = list(zip(before, widths, strict=False))
        self.encoder = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairs[:3])
        self.encoder.extend(HadamardAttention(a, b) for a, b in pairs[3:])
        self.encoder_norms = nn.ModuleList(nn.GroupNorm(4, width) for width in widths[:5])
        upward = [(b, a) for a, b in pairs[:0:-1]]
        self.decoder = nn.ModuleList(HadamardAttention(b, a) for b, a in upward[:3])
        self.decoder.extend(nn.Conv2d(b, a, 3, padding=1) for b, a in upward[3:])
        self.decoder_norms = nn.ModuleList(nn.GroupNorm(4, a) for _, a in upward)
        self.sides = nn.ModuleList(nn.Conv2d(a, num_classes, 1) for _, a in upward)
        self.bridges = nn.ModuleList(GroupAggregationBridge(b, a, num_classes) for b, a in upward)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        self.apply(initialise_by_fan_out)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2 ... 1/32 and again 1/32; 32 must divide H and W."""
        features: list[Tensor] = []
        x = image
        for stage, norm in zip(self.encoder, self.encoder_norms, strict=False):
            x = F.gelu(F.max_pool2d(norm(stage(x)), 2))
            features.append(x)
        return [*features, F.gelu(self.encoder[-1](x))]

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """The logits and those of the five side heads, from shallow to deep, for deep supervision.

        Each is ``(B, K, H, W)``; the paper weighs the sides' losses 0.5, 0.4, 0.3, 0.2, 0.1.
        """
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 32)
        outputs = self._outputs(padded)
        return [stretch(each, padded.shape[-2:])[..., :height, :width] for each in outputs]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 32)
        logits = stretch(self._outputs(padded)[0], padded.shape[-2:])
        return logits[..., :height, :width]

    def _outputs(self, image: Tensor) -> list[Tensor]:
        """Of the head at 1/2 and of the sides at 1/2 ... 1/32."""
        *skips, x = self.forward_features(image)
        bridged = x
        sides: list[Tensor] = []
        stages = zip(
            self.decoder, self.decoder_norms, self.sides, self.bridges, reversed(skips), strict=True
        )
        for stage, norm, side, bridge, skip in stages:
            # The deepest skip has the size already.
            x = F.gelu(stretch(norm(stage(x)), skip.shape[-2:]))
            mask = side(x)
            bridged = bridge(bridged, skip, mask)
            x = x + bridged
            sides.append(mask)
        return [self.head(x), *reversed(sides)]
