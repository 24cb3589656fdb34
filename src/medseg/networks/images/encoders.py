"""One network, six encoders: what the Med Block is worth beside other blocks of equal size.

Sabrin et al. (2025, arXiv 2504.14715) compare Med-2D SegNet's encoder with other architectures;
which ones, and how they were joined to the decoder, is in no text that can be had. Ours: the stem,
the resolutions, the number of blocks and the decoder of Med-2D SegNet are kept, the block is
exchanged, and all widths are scaled alike until the whole network has as many parameters as
Med-2D SegNet. Norm and activation inside a block are those of its own paper; stem and decoder have
Med-2D SegNet's.

Blocks: two 3x3 convolutions (Ronneberger et al. 2015, arXiv 1505.04597); the basic residual block
(He et al. 2016, arXiv 1512.03385); the inverted residual of MobileNetV2 (Sandler et al. 2018, arXiv
1801.04381); ConvNeXt's (Liu et al. 2022, arXiv 2201.03545); the position-sensitive axial attention
of Axial-DeepLab (Wang et al. 2020, arXiv 2003.07853).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn

from medseg.networks.images.med2d_segnet import MedBlock, StagedSegNet
from medseg.nn.blocks import ConvNormAct, count_parameters, pad_to_multiple
from medseg.nn.channel_norm import ChannelNorm

Block = Literal["med", "plain", "residual", "mobilenetv2", "convnext", "axial"]

BUDGET = 2_069_041
"""Parameters of Med-2D SegNet, 3 input channels and 1 class."""

_WIDTHS = (24, 32, 64, 128, 256)
_DEPTHS = (1, 1, 2, 2)


class PlainBlock(nn.Sequential):
    """Two 3x3 convolutions with batch norm and ReLU; the first has the stride."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            ConvNormAct(in_channels, out_channels, stride=stride),
            ConvNormAct(out_channels, out_channels),
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut, projected (1x1) where the shape changes; ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(
            ConvNormAct(in_channels, out_channels, stride=stride),
            ConvNormAct(out_channels, out_channels, activation=None),
        )
        self.shortcut = _projection(in_channels, out_channels, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.body(x) + self.shortcut(x))
        return out


class InvertedResidual(nn.Module):
    """Expand six times (1x1), convolve depthwise (3x3), reduce linearly (1x1); ReLU6.

    The identity is added where the shape does not change.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        middle = 6 * in_channels
        self.body = nn.Sequential(
            ConvNormAct(in_channels, middle, 1, activation="relu6"),
            ConvNormAct(middle, middle, stride=stride, groups=middle, activation="relu6"),
            ConvNormAct(middle, out_channels, 1, activation=None),
        )
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, layer norm, four times the channels (1x1), GELU, back (1x1), layer scale.

    As in the paper the block keeps its shape, and what changes it stands before it: layer norm
    and a 2x2 convolution of stride 2.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.resample = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            self.resample.append(ChannelNorm(in_channels))
            self.resample.append(nn.Conv2d(in_channels, out_channels, stride, stride))
        self.body = nn.Sequential(
            nn.Conv2d(out_channels, out_channels, 7, padding=3, groups=out_channels),
            ChannelNorm(out_channels),
            nn.Conv2d(out_channels, 4 * out_channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * out_channels, out_channels, 1),
        )
        self.scale = nn.Parameter(torch.full((out_channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        # (B, I, H, W) -> (B, O, ceil(H / s), ceil(W / s))
        x = self.resample(pad_to_multiple(x, self.stride))
        out: Tensor = x + self.scale[:, None, None] * self.body(x)
        return out


class AxialAttention(nn.Module):
    """Self-attention of each column of a ``(B, C, H, W)`` map, sensitive to relative position.

    Queries and keys have half the channels of the values. Query, key and value each have a learnt
    encoding of the distance from query to key, shared by all heads; distances beyond the span
    share the outermost. The three similarities and the two outputs have batch norms of their own.

    Args:
        channels: C, a multiple of ``head``.
        head: value channels of a head, even.
        span: the number of pixels with distances of their own on each side, the query included.
    """

    def __init__(self, channels: int, *, head: int = 8, span: int = 56) -> None:
        super().__init__()
        self.heads = channels // head
        self.parts = (head // 2, head)
        self.span = span
        self.project = ConvNormAct(channels, 2 * channels, 1, activation=None)
        self.relative = nn.Parameter(torch.randn(2 * head, 2 * span - 1) / math.sqrt(head))
        self.similarity_norms = nn.ModuleList(nn.BatchNorm2d(self.heads) for _ in range(3))
        self.output_norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        # (B, C, H, W) -> (B W, heads, 2 head, H)
        columns = self.project(x).permute(0, 3, 1, 2)
        heads = columns.reshape(batch * width, self.heads, -1, height)
        query, key, value = heads.tensor_split(self.parts, dim=2)
        to_query, to_key, to_value = self._encodings(height).tensor_split(self.parts)
        similarities = (
            torch.einsum("ngci,ngcj->ngij", query, key),
            torch.einsum("ngci,cij->ngij", query, to_query),
            torch.einsum("ngcj,cij->ngij", key, to_key),
        )
        normed = [norm(s) for norm, s in zip(self.similarity_norms, similarities, strict=True)]
        attention = torch.stack(normed).sum(0).softmax(-1)
        outputs = (
            torch.einsum("ngij,ngcj->ngci", attention, value),
            torch.einsum("ngij,cij->ngci", attention, to_value),
        )
        # (B W, heads, head, H) -> (B, C, H, W)
        maps = [o.reshape(batch, width, channels, height).permute(0, 2, 3, 1) for o in outputs]
        out: Tensor = self.output_norms[0](maps[0]) + self.output_norms[1](maps[1])
        return out

    def _encodings(self, length: int) -> Tensor:
        """``(2 head, length, length)``: of query ``i`` and key ``j``, by ``j - i``."""
        at = torch.arange(length, device=self.relative.device)
        farthest = self.span - 1
        distance = (at[None, :] - at[:, None]).clamp(-farthest, farthest) + farthest
        # On a CPU the gradient of selecting adds up in a fixed order; that of indexing does not.
        chosen = self.relative.index_select(1, distance.flatten())
        return chosen.view(-1, length, length)


class AxialBlock(nn.Module):
    """Reduce channels (1x1), attend along columns, then rows, restore (1x1), add the shortcut.

    Inside are half the output channels, rounded down to a multiple of 8.

    A stride of 2 averages before the attention, whose memory grows with the third power of the
    size.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        middle = 8 * max(1, out_channels // 16)
        self.reduce = ConvNormAct(in_channels, middle, 1)
        self.pool = nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.along_columns = AxialAttention(middle)
        self.along_rows = AxialAttention(middle)
        self.expand = ConvNormAct(middle, out_channels, 1, activation=None)
        self.shortcut = _projection(in_channels, out_channels, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        # (B, I, H, W) -> (B, O // 2, H / s, W / s) -> (B, O, H / s, W / s)
        columns = self.along_columns(self.pool(self.reduce(x)))
        rows = self.along_rows(columns.transpose(-2, -1)).transpose(-2, -1)
        out: Tensor = self.activation(self.expand(self.activation(rows)) + self.shortcut(x))
        return out


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    """A residual shortcut: the identity where the shape does not change, else a 1x1 convolution."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return ConvNormAct(in_channels, out_channels, 1, stride=stride, activation=None)


def _med_block(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    return MedBlock(in_channels, out_channels, stride=stride)


BLOCKS: dict[Block, Callable[[int, int, int], nn.Module]] = {
    "med": _med_block,
    "plain": PlainBlock,
    "residual": BasicBlock,
    "mobilenetv2": InvertedResidual,
    "convnext": ConvNeXtBlock,
    "axial": AxialBlock,
}


class EncoderSegNet(StagedSegNet):
    """Med-2D SegNet with another block in its encoder.

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        block: of the encoder: ``med``, ``plain``, ``residual``, ``mobilenetv2``, ``convnext`` or
            ``axial``.
        widths: channels of the full-resolution stem and of the stages at 1/2, 1/4, 1/8, 1/16;
            :func:`widths_for` gives those at which a block has a wanted number of parameters.
        depths: blocks of each stage; the first has stride 2.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        block: Block = "med",
        widths: Sequence[int] = _WIDTHS,
        depths: Sequence[int] = _DEPTHS,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes,
            widths=widths,
            depths=depths,
            make_blocks=[BLOCKS[block]] * len(depths),
            norm="batch",
            activation="relu6",
        )


def widths_for(block: Block, budget: int = BUDGET) -> tuple[int, ...]:
    """Widths at which :class:`EncoderSegNet` with ``block`` has about ``budget`` parameters.

    All are multiples of 8 and within 8 of one multiple of Med-2D SegNet's (24, 32, 64, 128, 256);
    of these, the ones whose count is closest to the budget.

    Args:
        block: of the encoder.
        budget: parameters of the whole network, 3 input channels and 1 class.

    Raises:
        ValueError: the budget is below the narrowest network's count.
    """
    best = (8,) * len(_WIDTHS)
    least = _count(block, best)
    if budget < least:
        raise ValueError(f"no encoder of {block} blocks has less than {least:,} parameters")
    deepest = 0
    while True:
        deepest += 8
        scale = deepest / _WIDTHS[-1]
        rounded = [_multiples_of_8(scale * width) for width in _WIDTHS[:-1]] + [(deepest,)]
        widest = tuple(max(choices) for choices in rounded)
        if _count(block, widest) < budget:
            best = widest
            continue
        found = [best, *itertools.product(*rounded)]
        best = min(found, key=lambda widths: abs(_count(block, widths) - budget))
        if _count(block, tuple(min(choices) for choices in rounded)) > budget:
            return best


def _multiples_of_8(width: float) -> tuple[int, ...]:
    """Those on both sides of ``width``, at least 8."""
    return tuple(sorted({max(8, 8 * math.floor(width / 8)), max(8, 8 * math.ceil(width / 8))}))


def _count(block: Block, widths: tuple[int, ...]) -> int:
    stages = zip(widths, widths[1:], _DEPTHS, strict=False)
    return sum(_parts(block, *stage)[1] for stage in stages) + _parts(block, *widths[:2], 1)[0]


@cache
def _parts(block: Block, before: int, width: int, depth: int) -> tuple[int, int]:
    """Parameters of stem and head, and of a stage and what decodes it."""
    with torch.device("meta"):
        net = EncoderSegNet(block=block, widths=(before, width), depths=(depth,))
    stage = count_parameters(net.stages) + count_parameters(net.decoder)
    return count_parameters(net) - stage, stage
