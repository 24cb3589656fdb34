"""Med-2D SegNet: an encoder of Med Blocks and a residual decoder.

Sabrin, Chowdhury, Tapu, Sarkar, Bin Ali (2025), "Med-2D SegNet: A Light Weight Deep Neural
Network for Medical 2D Image Segmentation", arXiv 2504.14715.

No code is public. From the paper: the Med Block expands the channels (1x1), aggregates space
depthwise, reduces the channels (1x1) and is joined by a residual path; encoder stages work at
1/2, 1/4, 1/8 and 1/16; the decoder restores the size "integrating residual connections"; the
whole has 2.07 M parameters. From a review that quotes the equations: expansion 6, depthwise
kernel 7x7, a global average pooling after it. Ours: the widths and depths (chosen to meet the
parameter count), the reading of the pooling as a gate, the stem, ReLU6, the decoder's residual
units, and bilinear upsampling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medseg.nn.blocks import (
    Activation,
    ConvNormAct,
    Norm,
    ResidualUnit,
    initialise,
    resize_to,
    spatial_mean,
)

Gate = Literal["gap", "se", "none"]


class AveragePoolGate(nn.Module):
    """Scale each channel by the sigmoid of its own spatial mean; no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(spatial_mean(x))


class SqueezeExcitation(nn.Module):
    """Channel gate through a bottleneck of ``hidden`` channels (Hu et al. 2018, arXiv 1709.01507).

    Args:
        channels: of the gated map.
        hidden: of the bottleneck.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x * self.gate(spatial_mean(x))
        return out


def make_gate(gate: Gate, channels: int, hidden: int) -> nn.Module:
    """The channel gate named ``gate``, for a map of ``channels``.

    Raises:
        KeyError: ``gate`` is not one of ``gap | se | none``.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "gap": AveragePoolGate,
        "se": lambda: SqueezeExcitation(channels, hidden),
        "none": nn.Identity,
    }
    return makers[gate]()


class MedBlock(nn.Module):
    """Expand channels, aggregate space depthwise, gate, reduce channels, add a residual path.

    ``(B, I, H, W) -> (B, O, ceil(H / stride), ceil(W / stride))``. The residual path is the
    identity where the shapes agree, else average pooling (stride 2) and a 1x1 projection.

    Args:
        in_channels: I.
        out_channels: O.
        stride: 1 or 2.
        expansion: expanded channels over ``in_channels``.
        kernel: depthwise kernel size, odd.
        gate: ``gap`` (sigmoid of the channel's mean), ``se`` or ``none``.
        norm: after every convolution.
        activation: after the expansion and the depthwise convolution; the reduction is linear.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        expansion: int = 6,
        kernel: int = 7,
        gate: Gate = "gap",
        norm: Norm = "batch",
        activation: Activation = "relu6",
    ) -> None:
        super().__init__()
        middle = expansion * in_channels
        self.expand = ConvNormAct(in_channels, middle, 1, norm=norm, activation=activation)
        self.aggregate = ConvNormAct(
            middle, middle, kernel, stride=stride, groups=middle, norm=norm, activation=activation
        )
        self.gate = make_gate(gate, middle, max(8, in_channels // 4))
        self.reduce = ConvNormAct(middle, out_channels, 1, norm=norm, activation=None)
        self.shortcut = nn.Sequential()
        if stride == 2:
            self.shortcut.append(nn.AvgPool2d(2, ceil_mode=True))
        if stride != 1 or in_channels != out_channels:
            self.shortcut.append(
                ConvNormAct(in_channels, out_channels, 1, norm=norm, activation=None)
            )

    def forward(self, x: Tensor) -> Tensor:
        # (B, I, H, W) -> (B, 6I, H, W) -> (B, 6I, H/s, W/s) -> (B, O, H/s, W/s)
        out: Tensor = self.reduce(self.gate(self.aggregate(self.expand(x))))
        out = out + self.shortcut(x)
        return out


class DecoderStage(nn.Module):
    """Reduce channels, upsample to the skip's size, add the skip, refine with a residual unit."""

    def __init__(
        self, in_channels: int, out_channels: int, *, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, out_channels, 1, norm=norm, activation=activation)
        self.refine = ResidualUnit(out_channels, norm=norm, activation=activation)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.refine(resize_to(self.project(x), skip) + skip)
        return out


class StagedSegNet(nn.Module):
    """A stem, stages each at half the size of the one before, and a residual decoder.

    Args:
        in_channels: image channels.
        num_classes: logit channels.
        widths: channels of the full-resolution stem and of the stages.
        depths: blocks of each stage; the first has stride 2.
        make_block: ``(in_channels, out_channels, stride)`` to a module that maps
            ``(B, I, H, W) -> (B, O, ceil(H / stride), ceil(W / stride))``.
        norm: of stem and decoder.
        activation: of stem and decoder.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        make_block: Callable[[int, int, int], nn.Module],
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        if len(depths) != len(widths) - 1 or min(depths) < 1:
            raise ValueError(
                f"depths {list(depths)} must hold one number >= 1 for each of the "
                f"{len(widths) - 1} stages after the stem of widths {list(widths)}"
            )
        self.stem = ConvNormAct(in_channels, widths[0], norm=norm, activation=activation)
        self.stages = nn.ModuleList()
        for before, width, depth in zip(widths, widths[1:], depths, strict=False):
            blocks = [make_block(before, width, 2)]
            blocks += [make_block(width, width, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
        self.decoder = nn.ModuleList(
            DecoderStage(deep, shallow, norm=norm, activation=activation)
            for deep, shallow in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        initialise(self)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at full size, 1/2, 1/4, 1/8 and 1/16: ``(B, widths[i], H/2^i, W/2^i)``."""
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        *skips, x = self.forward_features(image)
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            x = stage(x, skip)
        logits: Tensor = self.head(x)
        return logits


class Med2DSegNet(StagedSegNet):
    """Med-2D SegNet; the default has 2,069,041 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels of the full-resolution stem and of the stages at 1/2, 1/4, 1/8, 1/16.
        depths: Med Blocks of each stage; the first has stride 2.
        expansion: channel expansion inside a Med Block.
        kernel: depthwise kernel size, odd.
        gate: channel gate after the depthwise convolution: ``gap``, ``se`` or ``none``.
        norm: ``batch``, ``instance``, ``group`` or ``none``.
        activation: ``relu6``, ``relu``, ``leaky_relu``, ``gelu`` or ``silu``.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (24, 32, 64, 128, 256),
        depths: Sequence[int] = (1, 1, 2, 2),
        expansion: int = 6,
        kernel: int = 7,
        gate: Gate = "gap",
        norm: Norm = "batch",
        activation: Activation = "relu6",
    ) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} must be odd and >= 1, or sizes would shift")
        if expansion < 1:
            raise ValueError(f"expansion {expansion} must be >= 1")

        def make_block(before: int, width: int, stride: int) -> MedBlock:
            return MedBlock(
                before,
                width,
                stride=stride,
                expansion=expansion,
                kernel=kernel,
                gate=gate,
                norm=norm,
                activation=activation,
            )

        super().__init__(
            in_channels,
            num_classes,
            widths=widths,
            depths=depths,
            make_block=make_block,
            norm=norm,
            activation=activation,
        )
