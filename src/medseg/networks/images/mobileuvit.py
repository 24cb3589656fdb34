"""Mobile U-ViT: large depthwise kernels, then attention among few pixels at an eighth of the size.

Tang, Nian, Ding, Ma, Quan, Dong, Yang, Liu, Zhou (2025), "Mobile U-ViT: Revisiting large kernel and
U-shaped ViT for efficient medical image segmentation", ACM MM, arXiv 2508.01064. Official code:
github.com/FengheTan9/Mobile-U-ViT.

Three levels of ConvUtr (a residual depthwise convolution and a residual inverted bottleneck) embed
patches. At 1/8 large-kernel local-global-local (LKLGL) blocks gate what they have by 9x9
neighbourhoods, let every second pixel of every second row attend to each other, and spread the
result over 2x2 pixels; after them a shallow transformer attends among all pixels. Skips are pooled
before they are joined, so that nothing is convolved at full size on the way up but 16 channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.images.cmunext import conv_gelu_norm, conv_norm_relu
from medseg.nn.blocks import pad_to_multiple
from medseg.nn.channel_norm import ChannelNorm
from medseg.nn.stochastic_depth import StochasticDepth
from medseg.nn.stretch import stretch


class ConvUtrBlock(nn.Module):
    """A depthwise convolution and 1x1 to four times the channels and back, each around an identity.

    GELU and then batch norm follow each of the three.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.depthwise = conv_gelu_norm(channels, channels, kernel, groups=channels)
        self.mix = nn.Sequential(
            conv_gelu_norm(channels, 4 * channels), conv_gelu_norm(4 * channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.depthwise(x)
        out: Tensor = x + self.mix(x)
        return out


class ConvUtr(nn.Sequential):
    """``depth`` blocks and a 3x3 convolution to the new width; size is kept."""

    def __init__(self, in_channels: int, out_channels: int, depth: int, kernel: int) -> None:
        super().__init__(
            *(ConvUtrBlock(in_channels, kernel) for _ in range(depth)),
            conv_norm_relu(in_channels, out_channels),
        )


class LocalAggregation(nn.Module):
    """Three times ``x (sigmoid(g) + 1/2)``, whose gates ``g`` see 9x9, 9x9 and 5x5 pixels.

    The first gate is a depthwise convolution, the second one between two 1x1 convolutions, the
    third two 3x3 convolutions of which each channel has four times as many of its own between.
    """

    def __init__(self, channels: int, drop: float) -> None:
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 9, padding=4, groups=channels)
        self.mix = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, channels, 1),
            nn.Conv2d(channels, channels, 9, padding=4, groups=channels),
            nn.Conv2d(channels, channels, 1),
            StochasticDepth(drop),
        )
        self.each = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, 4 * channels, 3, padding=1, groups=channels),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 3, padding=1, groups=channels),
            StochasticDepth(drop),
        )

    def forward(self, x: Tensor) -> Tensor:
        for gate in (self.position, self.mix, self.each):
            # A gate that is dropped is 0 before the sigmoid, and the identity after it.
            x = x + x * (torch.sigmoid(gate(x)) - 0.5)
        return x


class SparseAttention(nn.Module):
    """Self-attention among the pixels of every ``stride``-th row and column.

    A transposed depthwise convolution spreads the result over the pixels between.

    Args:
        channels: C of ``(B, C, H, W)``.
        heads: a divisor of C.
        stride: a divisor of H and W; at 1 all pixels attend, and nothing is spread.
    """

    def __init__(self, channels: int, heads: int, stride: int) -> None:
        super().__init__()
        self.heads, self.stride = heads, stride
        self.query_key_value = nn.Conv2d(channels, 3 * channels, 1)
        self.spread = nn.Sequential()
        if stride > 1:
            self.spread.append(
                nn.ConvTranspose2d(channels, channels, stride, stride, groups=channels)
            )
            self.spread.append(ChannelNorm(channels, eps=1e-5))
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., :: self.stride, :: self.stride]
        batch, channels, height, width = x.shape
        # (B, 3C, H, W) -> three of (B, heads, H W, C / heads)
        parts = self.query_key_value(x).reshape(batch, 3, self.heads, -1, height * width)
        query, key, value = parts.transpose(-2, -1).unbind(1)
        attended = F.scaled_dot_product_attention(query, key, value)
        maps = attended.transpose(-2, -1).reshape(batch, channels, height, width)
        out: Tensor = self.project(self.spread(maps))
        return out


class TransformerBlock(nn.Module):
    """A depthwise 3x3 convolution, attention and an MLP, each added to its input."""

    def __init__(self, channels: int, heads: int, *, stride: int = 1, drop: float = 0.0) -> None:
        super().__init__()
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.attend = nn.Sequential(
            ChannelNorm(channels), SparseAttention(channels, heads, stride), StochasticDepth(drop)
        )
        self.mlp = nn.Sequential(
            ChannelNorm(channels),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
            StochasticDepth(drop),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position(x)
        x = x + self.attend(x)
        out: Tensor = x + self.mlp(x)
        return out


def double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch norm and ReLU; size is kept."""
    return nn.Sequential(
        conv_norm_relu(in_channels, out_channels), conv_norm_relu(out_channels, out_channels)
    )


class MobileUViT(nn.Module):
    """Mobile U-ViT; the default has 1,390,305 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4, and in the transformer at 1/8; of the last two
            ``heads`` is a divisor.
        depths: blocks of the three levels of ConvUtr, LKLGL blocks, transformer blocks.
        kernels: depthwise kernel size of the three levels of ConvUtr, odd.
        heads: of attention.
        drop: probability of stochastic depth in the LKLGL blocks.

    Mobile U-ViT-L: widths 32, 64, 128, 256, depths 1, 1, 3, 3, 4, 8 heads.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 64, 128),
        depths: Sequence[int] = (1, 1, 3, 3, 3),
        kernels: Sequence[int] = (3, 3, 7),
        heads: int = 4,
        drop: float = 0.1,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads {heads} must be >= 1")
        if len(widths) != 4 or min(widths) < 1 or widths[2] % heads or widths[3] % heads:
            raise ValueError(
                f"widths {list(widths)} must hold four numbers >= 1, the last two of them "
                f"multiples of heads {heads}"
            )
        if len(depths) != 5 or min(depths) < 1:
            raise ValueError(f"depths {list(depths)} must hold five numbers >= 1")
        if len(kernels) != 3 or any(k < 1 or k % 2 == 0 for k in kernels):
            raise ValueError(f"kernels {list(kernels)} must hold three odd numbers")
        if not 0 <= drop < 1:
            raise ValueError(f"drop {drop} must be at least 0 and below 1")
        full, half, quarter, deepest = widths
        self.stem = conv_norm_relu(in_channels, full)
        self.embeddings = nn.ModuleList(
            ConvUtr(*numbers)
            for numbers in zip(
                (full, full, half), (full, half, quarter), depths, kernels, strict=False
            )
        )
        self.pool = nn.MaxPool2d(2)
        self.local_global_local = nn.Sequential()
        for _ in range(depths[3]):
            self.local_global_local.append(LocalAggregation(quarter, drop))
            self.local_global_local.append(TransformerBlock(quarter, heads, stride=2, drop=drop))
        self.transformer = nn.Sequential(
            double_conv(quarter, deepest),
            *(TransformerBlock(deepest, heads) for _ in range(depths[4])),
        )
        self.reduce = double_conv(deepest, quarter)
        self.decoder = nn.ModuleList(
            double_conv(2 * width, width) for width in (quarter, half, full)
        )
        self.up = nn.ModuleList(
            conv_norm_relu(below, width)
            for below, width in ((quarter, half), (half, full), (full, full))
        )
        self.head = nn.Conv2d(full, num_classes, 1)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Pooled maps of ConvUtr at 1/2, 1/4, 1/8 and what the transformer makes of the last.

        ``(B, C, H, W)``, of which 16 divides H and W, to ``(B, widths[0], H/2, W/2)``,
        ``(B, widths[1], H/4, W/4)``, ``(B, widths[2], H/8, W/8)``, ``(B, widths[3], H/8, W/8)``.
        """
        features: list[Tensor] = []
        x = self.stem(image)
        for embedding in self.embeddings:
            x = self.pool(embedding(x))
            features.append(x)
        return [*features, self.transformer(self.local_global_local(x))]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        *skips, x = self.forward_features(pad_to_multiple(image, 16))
        x = self.reduce(x)
        for block, up, skip in zip(self.decoder, self.up, reversed(skips), strict=True):
            x = block(torch.cat([x, skip], dim=1))
            x = up(stretch(x, (2 * x.shape[-2], 2 * x.shape[-1])))
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
