"""UNeXt: three convolution stages, then two of tokenised MLPs that see shifted channels.

Valanarasu, Patel (2022), "UNeXt: MLP-based Rapid Medical Image Segmentation Network", MICCAI, arXiv
2203.04967. Official code: github.com/jeya-maria-jose/UNeXt-pytorch (MIT).

An MLP that mixes the channels of one pixel sees its neighbours because five groups of channels have
been moved by -2 ... 2 pixels before it, once along the width and once along the height. Skips are
added, not concatenated. The widths 16, 32, 128, 160, 256 are those of the code and give the 1.47 M
parameters that everybody quotes; with 32, 64, 128, 160, 256, which reviews quote of the paper's
text, there would be 1.58 M.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import pad_to_multiple, resize_to
from medseg.nn.channel_norm import ChannelNorm
from medseg.nn.fan_out import initialise_by_fan_out

_HEIGHT, _WIDTH = 2, 3


def shift(x: Tensor, axis: int, groups: int = 5) -> Tensor:
    """Move groups of channels along an axis, each by another distance; zeros take their place.

    Args:
        x: ``(B, C, H, W)``.
        axis: 2 for the height, 3 for the width.
        groups: odd; the first moves by ``-(groups // 2)`` pixels, the last by ``groups // 2``.

    Returns:
        ``(B, C, H, W)``.
    """
    reach = groups // 2
    margin = (reach, reach, 0, 0) if axis == _WIDTH else (0, 0, reach, reach)
    parts = F.pad(x, margin).chunk(groups, dim=1)
    moved = [part.narrow(axis, 2 * reach - i, x.shape[axis]) for i, part in enumerate(parts)]
    return torch.cat(moved, dim=1)


class TokenizedMLP(nn.Module):
    """Norm, shift, linear layer, depthwise 3x3, GELU, shift along the other axis, linear layer.

    The input is added; ``(B, C, H, W) -> (B, C, H, W)``. Linear layers are 1x1 convolutions.

    Args:
        channels: C.
        axes: of the first and of the second shift.
    """

    def __init__(self, channels: int, axes: tuple[int, int]) -> None:
        super().__init__()
        self.axes = axes
        self.norm = ChannelNorm(channels, eps=1e-5)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.position = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.activation = nn.GELU()
        self.mix_again = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.axes
        tokens = self.activation(self.position(self.mix(shift(self.norm(x), first))))
        out: Tensor = x + self.mix_again(shift(tokens, second))
        return out


class ConvStage(nn.Sequential):
    """3x3 convolution, batch norm, 2x2 max pooling, ReLU; ``(B, I, H, W) -> (B, O, H/2, W/2)``."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.MaxPool2d(2),
            nn.ReLU(inplace=True),
        )


class TokenStage(nn.Sequential):
    """Tokens of overlapping patches (3x3, stride 2), a tokenised MLP, norm; halves the size."""

    def __init__(self, in_channels: int, out_channels: int, axes: tuple[int, int]) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
            ChannelNorm(out_channels, eps=1e-5),
            TokenizedMLP(out_channels, axes),
            ChannelNorm(out_channels, eps=1e-5),
        )


class UNeXt(nn.Module):
    """UNeXt; the default has 1,471,921 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at 1/2, 1/4, 1/8 (convolutions), 1/16 and 1/32 (tokens);
            (8, 16, 32, 64, 128) is UNeXt-S with 253,561 parameters.
        as_released: shift along the height first and then along the width, as the official code
            does; the paper shifts along the width first.

    Raises:
        ValueError: widths that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (16, 32, 128, 160, 256),
        as_released: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) != 5 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold five numbers >= 1")
        axes = (_HEIGHT, _WIDTH) if as_released else (_WIDTH, _HEIGHT)
        before = [in_channels, *widths]
        stages: list[nn.Module] = [ConvStage(before[i], widths[i]) for i in range(3)]
        stages += [TokenStage(before[i], widths[i], axes) for i in (3, 4)]
        self.encoder = nn.ModuleList(stages)
        self.up = nn.ModuleList(
            nn.Sequential(nn.Conv2d(deep, shallow, 3, padding=1), nn.BatchNorm2d(shallow))
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.decoder = nn.ModuleList(
            nn.Sequential(TokenizedMLP(width, axes), ChannelNorm(width, eps=1e-5))
            for width in (widths[3], widths[2])
        )
        self.decoder.extend([nn.Identity(), nn.Identity()])
        self.last = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        for module in self.modules():
            if isinstance(module, TokenStage | TokenizedMLP):
                initialise_tokens(module)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2 ... 1/32: ``(B, widths[i], H/2^(i+1), W/2^(i+1))``."""
        features: list[Tensor] = []
        for stage in self.encoder:
            features.append(stage(features[-1] if features else image))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 32)
        *skips, x = self.forward_features(padded)
        for up, block, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = block(F.relu(resize_to(up(x), skip)) + skip)
        # (B, widths[0], H/2, W/2) -> (B, K, H, W)
        logits: Tensor = self.head(F.relu(resize_to(self.last(x), padded)))
        return logits[..., :height, :width]


def initialise_tokens(module: TokenStage | TokenizedMLP) -> None:
    """As in the official code: linear layers N(0, 0.02^2), convolutions by fan-out; biases 0."""
    for layer in module.children():
        initialise_by_fan_out(layer)
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            nn.init.normal_(layer.weight, std=0.02)
