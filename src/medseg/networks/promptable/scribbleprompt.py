"""ScribblePrompt-UNet (Wong, Rakic, Guttag, Dalca 2023, ECCV 2024, arXiv 2312.07381).

A U-Net small enough to answer a click at once on a CPU. What is pointed at becomes four further
channels beside the image: a filled box, what is on the structure and what is beside it (clicks are
single pixels, strokes are soft), and the logits of the mask so far. A level is one convolution with
a PReLU, all levels are equally wide, and there is no norm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.prompts import Kind
from medseg.nn.blocks import pad_to_multiple
from medseg.nn.prompts import PromptTensors, box_maps, click_maps
from medseg.nn.published import Published


class ConvBlock(nn.Module):
    """3x3 convolution and PReLU with one slope; ``(B, I, H, W) -> (B, O, H, W)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, padding=1), nn.PReLU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class Logits(nn.Module):
    """1x1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return out


class ScribblePromptUNet(nn.Module):
    """One structure at a time, wherever it is pointed at.

    The modules bear the names of the published weights.

    Args:
        in_channels: of the image; the paper's are grey.
        num_classes: 1, the structure.
        widths: channels of each level.

    Raises:
        ValueError: more than one class, no width, or one below 1.
    """

    prompts: ClassVar[tuple[Kind, ...]] = ("point", "box", "scribble", "mask")

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (192, 192, 192, 192),
    ) -> None:
        super().__init__()
        if num_classes != 1:
            raise ValueError(f"num_classes={num_classes}: structures are segmented one by one")
        if not widths or min(widths) < 1:
            raise ValueError(f"widths={list(widths)} must hold numbers from 1")
        self.multiple: int = 2 ** len(widths)
        self.downs = nn.ModuleList()
        channels = in_channels + 4
        for width in widths:
            self.downs.append(ConvBlock(channels, width))
            channels = width
        self.bottleneck = ConvBlock(channels, channels)
        self.ups = nn.ModuleList()
        for width in reversed(widths):
            self.ups.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
            self.ups.append(ConvBlock(width + channels, width))
            channels = width
        self.final_conv = Logits(channels, 1)

    def forward(self, image: Tensor, prompts: PromptTensors | None = None) -> Tensor:
        """``(B, C, H, W)`` of any size -> ``(B, 1, H, W)`` logits.

        Args:
            image: the paper's are scaled to 0..1.
            prompts: in pixels of the image; by default nothing is pointed at.
        """
        height, width = image.shape[-2:]
        prompts = PromptTensors.none(image) if prompts is None else prompts
        pointed = self.encode(prompts, (height, width)).to(image)
        right, bottom = -width % self.multiple, -height % self.multiple
        x = torch.cat(
            [pad_to_multiple(image, self.multiple), F.pad(pointed, (0, right, 0, bottom))], 1
        )  # (B, C + 4, H', W')
        skips = []
        for down in self.downs:
            x = down(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for up, block in zip(self.ups[::2], self.ups[1::2], strict=True):
            x = block(torch.cat([skips.pop(), up(x)], 1))
        logits: Tensor = self.final_conv(x)
        return logits[..., :height, :width]

    @staticmethod
    def published(weights: Mapping[str, Tensor]) -> Published:
        """The authors' weights (``ScribblePrompt_unet_v1_nf192_res128.pt``), of grey images in
        0..1 at 128 pixels.

        Raises:
            ValueError: these are other weights.
        """
        widths: list[int] = []
        while (kernel := weights.get(f"downs.{len(widths)}.conv.0.weight")) is not None:
            widths.append(kernel.shape[0])
        if not widths or weights["downs.0.conv.0.weight"].shape[1] != 5:
            raise ValueError("these are not weights of a ScribblePrompt-UNet of grey images")
        return Published(
            weights, 1, 1, {"widths": tuple(widths)}, image_size=128, mean=0.0, std=1.0
        )

    @staticmethod
    def encode(prompts: PromptTensors, size: tuple[int, int]) -> Tensor:
        """``(B, 4, H, W)``: box, on the structure, beside it, logits of the mask so far."""
        clicks = click_maps(prompts.points, prompts.labels, size)
        drawn = (clicks.to(prompts.scribbles) + prompts.scribbles).clamp(0, 1)
        return torch.cat(
            [box_maps(prompts.boxes, size).to(drawn), drawn, prompts.mask.to(drawn)], 1
        )
