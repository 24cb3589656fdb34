"""LightM-UNet: a U-Net whose encoder is made of Mamba layers, for images and volumes.

Liao, Zhu, Wang, Pan, Wang, Ma (2024), "LightM-UNet: Mamba assists in lightweight UNet for medical
image segmentation", arXiv 2403.05246. Official code: github.com/MrBlankness/LightM-UNet.

Every layer of the encoder scans the pixels row by row (and slice by slice) with a Mamba block, so
that what a pixel becomes depends on all pixels before it. The decoder has depthwise separable
convolutions only, and adds the encoder's maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medseg.nn.blocks import crop, pad_to_multiple, resize_to
from medseg.nn.dims import CONV, MAX_POOL, Dims
from medseg.nn.mamba import Mamba

GROUPS = 8


def separable(
    dims: Dims, in_channels: int, out_channels: int, kernel: int, *, bias: bool = False
) -> nn.Sequential:
    """A depthwise convolution and a pointwise one to the new width; size is kept."""
    conv = CONV[dims]
    return nn.Sequential(
        conv(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels, bias=bias),
        conv(in_channels, out_channels, 1, bias=bias),
    )


def norm_relu(channels: int) -> nn.Sequential:
    """Group norm and ReLU."""
    return nn.Sequential(nn.GroupNorm(GROUPS, channels), nn.ReLU(inplace=True))


class RVMLayer(nn.Module):
    """Residual Vision Mamba: ``Linear(LN(Mamba(LN(x)) + s x))`` of the pixels in raster order.

    Both norms have the same weights. ``(B, I, *size) -> (B, O, *size)``.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.mamba = Mamba(in_channels)
        self.scale = nn.Parameter(torch.ones(1))
        self.project = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, I, *size) -> (B, pixels, I)
        mixed = self.mamba(self.norm(tokens)) + self.scale * tokens
        out: Tensor = self.project(self.norm(mixed))
        return out.transpose(1, 2).reshape(x.shape[0], -1, *x.shape[2:])


class ResMambaBlock(nn.Module):
    """Two RVM layers, each after group norm and ReLU, around an identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm_relu(channels),
            RVMLayer(channels, channels),
            norm_relu(channels),
            RVMLayer(channels, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)
        return out


class ResUpBlock(nn.Module):
    """``ReLU(GN(conv(ReLU(GN(x))) + s x))`` with a separable convolution."""

    def __init__(self, dims: Dims, channels: int) -> None:
        super().__init__()
        self.before = norm_relu(channels)
        self.convolve = separable(dims, channels, channels, 3)
        self.scale = nn.Parameter(torch.ones(1))
        self.after = norm_relu(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(self.convolve(self.before(x)) + self.scale * x)
        return out


class LightMUNet(nn.Module):
    """LightM-UNet; the default has 5,011,732 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        dims: 2 for images, 3 for volumes.
        width: channels at full size, a multiple of 8; doubled at each of the next three sizes.
        depths: blocks of two Mamba layers at full size, 1/2, 1/4 and 1/8.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        dims: Dims = 2,
        width: int = 32,
        depths: Sequence[int] = (1, 2, 2, 4),
    ) -> None:
        super().__init__()
        if width < 1 or width % GROUPS:
            raise ValueError(f"width {width} must be a multiple of {GROUPS}")
        if len(depths) != 4 or min(depths) < 0:
            raise ValueError(f"depths {list(depths)} must hold four numbers >= 0")
        widths = [width * 2**level for level in range(4)]
        self.stem = separable(dims, in_channels, width, 3)
        self.encoder = nn.ModuleList()
        for level, depth in enumerate(depths):
            stage = nn.Sequential()
            if level:
                stage.append(RVMLayer(widths[level - 1], widths[level]))
                stage.append(MAX_POOL[dims](2))
            stage.extend(ResMambaBlock(widths[level]) for _ in range(depth))
            self.encoder.append(stage)
        self.reduce = nn.ModuleList(CONV[dims](2 * w, w, 1, bias=False) for w in widths[2::-1])
        self.decoder = nn.ModuleList(ResUpBlock(dims, w) for w in widths[2::-1])
        self.last = norm_relu(width)
        self.scale, self.head = separable(dims, width, num_classes, 1, bias=True)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Maps of the encoder: ``(B, C, *size)``, of which 8 divides every side, to
        ``(B, width, *size)``, ``(B, 2 width, *size / 2)``, likewise at 1/4 and 1/8."""
        features: list[Tensor] = []
        x = self.stem(image)
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *size)`` images or volumes of any size to ``(B, K, *size)`` logits."""
        *skips, x = self.forward_features(pad_to_multiple(image, 8))
        for reduce, block, skip in zip(self.reduce, self.decoder, reversed(skips), strict=True):
            x = block(resize_to(reduce(x), skip) + skip)
        logits: Tensor = self.head(self.scale(self.last(x)))
        return crop(logits, image.shape[2:])
