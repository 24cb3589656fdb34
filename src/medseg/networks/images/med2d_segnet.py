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
from torch.nn import functional as F

from medseg.nn.blocks import (
    ACTIVATIONS,
    Activation,
    ConvNormAct,
    Norm,
    ResidualUnit,
    initialise,
    resize_to,
    spatial_mean,
)

Gate = Literal["gap", "se", "none"]
Decoder = Literal["residual", "depthwise"]


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


class DepthwiseUnit(nn.Module):
    """A residual unit of a 3x3 depthwise and a 1x1 convolution; size and channels are kept."""

    def __init__(self, channels: int, *, norm: Norm, activation: Activation) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(channels, channels, groups=channels, norm=norm, activation=activation),
            ConvNormAct(channels, channels, 1, norm=norm, activation=None),
        )
        self.activation = ACTIVATIONS[activation]()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(x + self.body(x))
        return out


class DecoderStage(nn.Module):
    """Reduce channels, upsample to the skip's size, add the skip, refine with a residual unit."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        unit: Decoder,
        norm: Norm,
        activation: Activation,
    ) -> None:
        super().__init__()
        self.project = ConvNormAct(in_channels, out_channels, 1, norm=norm, activation=activation)
        units = {"residual": ResidualUnit, "depthwise": DepthwiseUnit}
        self.refine = units[unit](out_channels, norm=norm, activation=activation)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        out: Tensor = self.refine(resize_to(self.project(x), skip) + skip)
        return out


class StagedSegNet(nn.Module):
    """A stem, stages each at half the size of the one before, and a residual decoder.

    With ``stem_stride`` 2 the stem halves the size in place of the first stage, so that the stages
    still work at 1/2, 1/4, ...; the decoder then ends at 1/2, and the head gives each of its pixels
    four logits a class, one for each pixel of the image (pixel shuffle, arXiv 1609.05158).

    Args:
        in_channels: image channels.
        num_classes: logit channels.
        widths: channels of the stem and of the stages.
        depths: blocks of each stage.
        make_blocks: for each stage, ``(in_channels, out_channels, stride)`` to a module that maps
            ``(B, I, H, W) -> (B, O, ceil(H / stride), ceil(W / stride))``.
        norm: of stem and decoder.
        activation: of stem and decoder.
        stem_stride: 1 or 2.
        decoder: how its stages refine: ``residual`` (two 3x3 convolutions) or ``depthwise``.

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
        make_blocks: Sequence[Callable[[int, int, int], nn.Module]],
        norm: Norm,
        activation: Activation,
        stem_stride: int = 1,
        decoder: Decoder = "residual",
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        if len(depths) != len(widths) - 1 or min(depths) < 1:
            raise ValueError(
                f"depths {list(depths)} must hold one number >= 1 for each of the "
                f"{len(widths) - 1} stages after the stem of widths {list(widths)}"
            )
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride {stem_stride} must be 1 or 2")
        self.stem_stride = stem_stride
        self.stem = ConvNormAct(
            in_channels, widths[0], stride=stem_stride, norm=norm, activation=activation
        )
        self.stages = nn.ModuleList()
        stride = 3 - stem_stride
        for make_block, before, width, depth in zip(
            make_blocks, widths, widths[1:], depths, strict=False
        ):
            blocks = [make_block(before, width, stride)]
            blocks += [make_block(width, width, 1) for _ in range(depth - 1)]
            self.stages.append(nn.Sequential(*blocks))
            stride = 2
        # A stem of stride 2 is no skip: the first stage has its size.
        skips = widths[stem_stride - 1 :]
        self.decoder = nn.ModuleList(
            DecoderStage(deep, shallow, unit=decoder, norm=norm, activation=activation)
            for deep, shallow in zip(skips[:0:-1], skips[-2::-1], strict=True)
        )
        self.head = nn.Conv2d(skips[0], num_classes * stem_stride**2, 1)
        initialise(self)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps from the largest to the smallest, each half as large as the one before.

        ``(B, widths[i], H/2^i, W/2^i)``, rounded up; with ``stem_stride`` 2 the stem's map is left
        out and they begin at 1/2.
        """
        features = [self.stem(image)]
        for stage in self.stages:
            features.append(stage(features[-1]))
        return features[self.stem_stride - 1 :]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        return self._logits(self._decode(image)[-1], image)

    def _decode(self, image: Tensor) -> list[Tensor]:
        """What the decoder's stages give, from the deepest to the shallowest."""
        *skips, x = self.forward_features(image)
        maps: list[Tensor] = []
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            x = stage(x, skip)
            maps.append(x)
        return maps

    def _logits(self, x: Tensor, image: Tensor) -> Tensor:
        """The head on the shallowest map."""
        logits: Tensor = self.head(x)
        if self.stem_stride == 1:
            return logits
        # The stem rounds odd sizes up; what lies beyond the image is cut off.
        return F.pixel_shuffle(logits, 2)[..., : image.shape[-2], : image.shape[-1]]


class Med2DSegNet(StagedSegNet):
    """Med-2D SegNet; the default has 2,069,041 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels of the stem and of the stages at 1/2, 1/4, 1/8, 1/16.
        depths: Med Blocks of each stage.
        expansion: channel expansion inside a Med Block; one number, or one a stage.
        kernel: depthwise kernel size, odd; one number, or one a stage.
        gate: channel gate after the depthwise convolution: ``gap``, ``se`` or ``none``.
        norm: ``batch``, ``instance``, ``group`` or ``none``.
        activation: ``relu6``, ``relu``, ``leaky_relu``, ``gelu`` or ``silu``.
        stem_stride: 1, or 2 for a stem at 1/2 (see :class:`StagedSegNet`).
        decoder: ``residual`` (two 3x3 convolutions a stage) or ``depthwise``.
        side_heads: add a 1x1 head to each of the decoder's stages but the last, at 1/2, 1/4 and
            1/8 (at 1/4 and 1/8 with ``stem_stride`` 2), for deep supervision. The other weights
            start as without them, and :meth:`drop_side_heads` takes them away after training.

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
        expansion: int | Sequence[int] = 6,
        kernel: int | Sequence[int] = 7,
        gate: Gate = "gap",
        norm: Norm = "batch",
        activation: Activation = "relu6",
        stem_stride: int = 1,
        decoder: Decoder = "residual",
        side_heads: bool = False,
    ) -> None:
        kernels = _each_stage("kernel", kernel, len(depths))
        expansions = _each_stage("expansion", expansion, len(depths))
        if any(size < 1 or size % 2 == 0 for size in kernels):
            raise ValueError(f"kernel {kernel} must be odd and >= 1, or sizes would shift")
        if min(expansions) < 1:
            raise ValueError(f"expansion {expansion} must be >= 1")

        def maker(expansion: int, kernel: int) -> Callable[[int, int, int], MedBlock]:
            return lambda before, width, stride: MedBlock(
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
            make_blocks=[maker(*each) for each in zip(expansions, kernels, strict=True)],
            norm=norm,
            activation=activation,
            stem_stride=stem_stride,
            decoder=decoder,
        )
        shallow = widths[stem_stride:-1] if side_heads else ()
        self.side_heads = nn.ModuleList(nn.Conv2d(width, num_classes, 1) for width in shallow)

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """The logits and those of the side heads, from shallow to deep, each ``(B, K, H, W)``."""
        *deep, last = self._decode(image)
        logits = self._logits(last, image)
        sides = zip(self.side_heads, reversed(deep), strict=False)
        return [logits, *(resize_to(head(x), logits) for head, x in sides)]

    def drop_side_heads(self) -> None:
        """Take the side heads away; what the network answers stays the same."""
        self.side_heads = nn.ModuleList()


def _each_stage(name: str, value: int | Sequence[int], stages: int) -> Sequence[int]:
    """``value`` for every stage."""
    values = [value] * stages if isinstance(value, int) else value
    if len(values) != stages:
        raise ValueError(
            f"{name} {list(values)} must be one number, or one for each of the {stages} stages"
        )
    return values
