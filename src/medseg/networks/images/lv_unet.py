"""LV-UNet: the first blocks of MobileNetV3 and a plain U of 1x1 convolutions that can be fused.

Jiang, Wang, Tian, Cheng, Liu (2024), "LV-UNet: A Lightweight and Vanilla Model for Medical Image
Segmentation", BIBM workshop ML4BMI, arXiv 2408.16886. Official code:
github.com/juntaoJianggavin/LV-UNet (no licence).

Down to 1/16 the encoder is MobileNetV3-Large's (Howard et al. 2019, arXiv 1905.02244). Below it,
and in the decoder, a block is two 1x1 convolutions and VanillaNet's activation (Chen et al. 2023,
arXiv 2305.12972), whose depthwise convolution of the rectified map is all that sees neighbours.
A leaky ReLU between the two convolutions is meant to become linear while training goes on, so that
afterwards the two are one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from medseg.networks.images.mobile_unet import TABLES, inverted_residual
from medseg.nn.blocks import ConvNormAct, pad_to_multiple
from medseg.nn.fan_out import initialise_by_fan_out

_LAST = (16, 16)
"""Channels of the decoder at 1/2 and full size, where there is no skip."""


def conv_norm(in_channels: int, out_channels: int) -> nn.Sequential:
    """1x1 convolution with bias, batch norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels, eps=1e-6)
    )


def folded(convolution: nn.Module, norm: nn.Module) -> nn.Conv2d:
    """A convolution that gives what a batch norm in eval mode makes of another's output."""
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    return fuse_conv_bn_eval(convolution, norm).requires_grad_()  # also the new bias


class SeriesActivation(nn.Module):
    """ReLU, depthwise convolution without bias, batch norm; a sum of shifted, weighted ReLUs.

    Args:
        channels: of input and output.
        reach: the convolution sees so many pixels on each side.
    """

    def __init__(self, channels: int, reach: int) -> None:
        super().__init__()
        self.sum = nn.Conv2d(
            channels, channels, 2 * reach + 1, padding=reach, groups=channels, bias=False
        )
        self.norm: nn.Module = nn.BatchNorm2d(channels, eps=1e-6)
        nn.init.trunc_normal_(self.sum.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.sum(F.relu(x)))
        return out

    def fuse(self) -> None:
        """Make convolution and norm one."""
        self.sum = folded(self.sum, self.norm)
        self.norm = nn.Identity()


class VanillaBlock(nn.Module):
    """Two 1x1 convolutions, a change of size, a series activation; ``(B, I, ...) -> (B, O, ...)``.

    Args:
        in_channels: I.
        out_channels: O.
        resample: changes the size.
        reach: of the activation.
        slope: of the leaky ReLU between the convolutions.
    """

    def __init__(
        self, in_channels: int, out_channels: int, resample: nn.Module, reach: int, slope: float
    ) -> None:
        super().__init__()
        self.mix: nn.Module = nn.Sequential(
            *conv_norm(in_channels, in_channels),
            nn.LeakyReLU(slope),
            *conv_norm(in_channels, out_channels),
        )
        self.resample = resample
        self.activation = SeriesActivation(out_channels, reach)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.resample(self.mix(x)))
        return out

    def fuse(self) -> None:
        """Make the two convolutions one, with all norms inside."""
        if not isinstance(self.mix, nn.Sequential):
            return
        first = folded(self.mix[0], self.mix[1])
        second = folded(self.mix[3], self.mix[4])
        assert first.bias is not None
        assert second.bias is not None
        weight = second.weight.flatten(1)  # (O, I)
        self.mix = nn.Conv2d(first.in_channels, second.out_channels, 1)
        self.mix.weight = nn.Parameter((weight @ first.weight.flatten(1))[..., None, None])
        self.mix.bias = nn.Parameter(weight @ first.bias + second.bias)
        self.activation.fuse()


class LVUNet(nn.Module):
    """LV-UNet; the default has 934,545 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels below the MobileNetV3 blocks, at 1/32, 1/64, 1/128.
        reach: activations see so many pixels on each side.
        slope: of the leaky ReLUs between 1x1 convolutions, 0 to 1; with 1 they are linear, and
            the network can be fused.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (160, 240, 480),
        reach: int = 1,
        slope: float = 0.0,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold numbers >= 1")
        if reach < 0:
            raise ValueError(f"reach {reach} must be >= 0")
        if not 0 <= slope <= 1:
            raise ValueError(f"slope {slope} must be in 0 ... 1")
        table = TABLES["mobilenetv3_large_100"]
        rows = [row for stage in table.stages for row in stage][:9]
        before = (table.stem, *(row.channels for row in rows))
        layers = [
            ConvNormAct(in_channels, table.stem, stride=2, activation=table.activation),
            *(inverted_residual(a, row, table) for a, row in zip(before, rows, strict=False)),
        ]
        # The skips leave amid, not after, the blocks of one size.
        self.encoder = nn.ModuleList(
            nn.Sequential(*layers[a:b]) for a, b in ((0, 3), (3, 6), (6, 10))
        )
        self.encoder.apply(initialise_by_fan_out)
        for layer in self.encoder.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eps, layer.momentum = 1e-3, 0.01
        shallow = [rows[i].channels for i in (1, 4, 8)]
        self.encoder.extend(
            VanillaBlock(a, b, nn.MaxPool2d(2), reach, slope)
            for a, b in zip((shallow[-1], *widths), widths, strict=False)
        )
        upward = (*widths[::-1], *shallow[::-1], *_LAST)
        up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        self.decoder = nn.ModuleList(
            VanillaBlock(a, b, up, reach, slope) for a, b in itertools.pairwise(upward)
        )
        self.head = nn.Conv2d(_LAST[-1], num_classes, 1)

    def set_slope(self, slope: float) -> None:
        """Of the leaky ReLUs, e.g. before each epoch; the authors': ``1 - cos(pi / 2 * progress)``.

        Args:
            slope: 0 to 1.
        """
        for layer in self.modules():
            if isinstance(layer, nn.LeakyReLU):
                layer.negative_slope = slope

    @torch.no_grad()
    def fuse(self) -> None:
        """Make each block's convolutions and norms two convolutions; logits stay as they are.

        The default then has 513,585 parameters. For a network that has been trained up to slope 1;
        weights of a fused network go into one that was built with slope 1 and fused.

        Raises:
            ValueError: slopes are not 1, or the network is being trained.
        """
        slopes = {m.negative_slope for m in self.modules() if isinstance(m, nn.LeakyReLU)}
        if slopes - {1.0}:
            raise ValueError(f"slope {max(slopes - {1.0})} must be 1 before blocks can be fused")
        if self.training:
            raise ValueError("call eval() first: norms that still learn cannot be fused")
        for block in self.modules():
            if isinstance(block, VanillaBlock):
                block.fuse()

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/4 (24 channels), 1/8 (40), 1/16 (80), 1/32, 1/64 and 1/128 (widths).

        The deepest stride must divide H and W.
        """
        features: list[Tensor] = []
        for stage in self.encoder:
            features.append(stage(features[-1] if features else image))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        padded = pad_to_multiple(image, 2 ** (len(self.encoder) + 1))
        *skips, x = self.forward_features(padded)
        for block in self.decoder:
            x = block(x)
            if skips:
                x = x + skips.pop()
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]
