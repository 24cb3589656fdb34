"""UNet++: a grid of nested, dense skips, whose every column is a network of its own.

Zhou, Siddiquee, Tajbakhsh, Liang (2019), "UNet++: Redesigning Skip Connections to Exploit
Multiscale Features in Image Segmentation", IEEE TMI 39(6), arXiv 1912.05074; first at DLMIA 2018,
arXiv 1807.10165. Official code: github.com/MrGiovanni/UNetPlusPlus, in Keras and, on nnU-Net, in
PyTorch.

Node X(i, j) lies at scale 1/2^i in column j. Column 0 is the encoder; X(i, j) sees all nodes
before it in its row and the one below: H([X(i, 0) ... X(i, j-1), up(X(i+1, j-1))]). Every X(0, j)
has a head, so that a trained network can be cut down to its first columns.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import (
    ACTIVATIONS,
    Activation,
    Norm,
    crop,
    initialise,
    make_norm,
    pad_to_multiple,
)
from medseg.nn.dims import CONV, MAX_POOL, TRANSPOSED_CONV, Dims
from medseg.nn.stretch import stretch

Released = Literal[False, "keras", "nnunet"]

_NORMS: dict[Released, Norm] = {False: "batch", "keras": "none", "nnunet": "instance"}


class DoubleConvolution(nn.Sequential):
    """H: two convolutions with bias, each followed by norm, activation and dropout.

    ``(B, I, *spatial) -> (B, O, *spatial / stride)``.

    Args:
        in_channels: I.
        out_channels: O.
        norm: after each convolution.
        activation: after each norm.
        dropout: share of values that are dropped after each activation.
        stride: of the first convolution.
        dims: spatial axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        activation: Activation,
        dropout: float = 0.0,
        stride: int = 1,
        dims: Dims = 2,
    ) -> None:
        layers: list[nn.Module] = []
        for channels, step in ((in_channels, stride), (out_channels, 1)):
            layers.append(CONV[dims](channels, out_channels, 3, step, padding=1))
            layers.append(make_norm(norm, out_channels, dims))
            layers.append(ACTIVATIONS[activation]())
            if dropout:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class UNetPlusPlus(nn.Module):
    """UNet++; the default has 9,049,572 parameters (3 input channels, 1 class).

    A trained network is pruned by building it with fewer columns (``depth``) and giving it what it
    has of the trained weights: its logits are exactly those of its column's head before.

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        dims: 2 for images, 3 for volumes.
        widths: channels at full size, 1/2, 1/4 ...; one more than there are columns with heads.
        depth: columns that are kept, 1 (a U-Net of two scales) to all; None keeps all.
        norm: ``batch``, ``instance``, ``group`` or ``none``, as in the paper; None takes
            ``batch``, or that of ``as_released``.
        activation: None takes ``relu``, or that of ``as_released``.
        upsampling: ``transposed`` convolutions 2x2, or ``linear`` between corners, as in the
            most used re-implementation.
        deep_supervision: a head for each column; without, the last column alone has one.
        accurate: logits of the mean of the probabilities of all heads (the paper's accurate
            mode), instead of the last head's (its fast mode). For training with deep supervision.
        as_released: ``keras``: no norm, and half of the values dropped after each convolution.
            ``nnunet``: instance norm, leaky ReLU, strides instead of pooling, up-convolutions and
            heads without bias.

    Raises:
        ValueError: widths or a depth that make no network.
    """

    pruned_by = "depth"

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        dims: Dims = 2,
        widths: Sequence[int] = (32, 64, 128, 256, 512),
        depth: int | None = None,
        norm: Norm | None = None,
        activation: Activation | None = None,
        upsampling: Literal["transposed", "linear"] = "transposed",
        deep_supervision: bool = True,
        accurate: bool = False,
        as_released: Released = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        depth = len(widths) - 1 if depth is None else depth
        if not 1 <= depth < len(widths):
            raise ValueError(
                f"depth {depth} is not in 1 to {len(widths) - 1}, the columns there are"
            )
        if accurate and not deep_supervision:
            raise ValueError("accurate True needs the heads of deep_supervision True")
        # Pruned or not, images are padded alike, so that borders get the same logits.
        self.multiple = 2 ** (len(widths) - 1)
        self.depth = depth
        self.accurate = accurate
        nnunet = as_released == "nnunet"
        make = functools.partial(
            DoubleConvolution,
            norm=_NORMS[as_released] if norm is None else norm,
            activation=activation or ("leaky_relu" if nnunet else "relu"),
            dropout=0.5 if as_released == "keras" else 0.0,
            dims=dims,
        )
        self.pool = nn.Identity() if nnunet else MAX_POOL[dims](2)
        self.nodes = nn.ModuleDict()
        self.up = nn.ModuleDict()
        for i, width in enumerate(widths[: depth + 1]):
            before = widths[i - 1] if i else in_channels
            self.nodes[f"{i}_0"] = make(before, width, stride=2 if nnunet and i else 1)
        for j in range(1, depth + 1):
            for i in range(depth + 1 - j):
                width, below = widths[i], widths[i + 1]
                if upsampling == "transposed":
                    self.up[f"{i}_{j}"] = TRANSPOSED_CONV[dims](below, width, 2, 2, bias=not nnunet)
                    below = width
                self.nodes[f"{i}_{j}"] = make(j * width + below, width)
        columns = range(1, depth + 1) if deep_supervision else [depth]
        self.heads = nn.ModuleDict(
            {str(j): CONV[dims](widths[0], num_classes, 1, bias=not nnunet) for j in columns}
        )
        initialise(self)

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Column 0: ``(B, widths[i], *spatial / 2^i)``; the deepest stride must divide the size."""
        features = [self.nodes["0_0"](image)]
        for i in range(1, self.depth + 1):
            features.append(self.nodes[f"{i}_0"](self.pool(features[-1])))
        return features

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """The logits of all heads, each ``(B, K, *spatial)``, from the last column to the first.

        For deep supervision: the paper weighs their losses alike.
        """
        top = self._top_row(pad_to_multiple(image, self.multiple))
        columns = sorted(map(int, self.heads), reverse=True)
        return [crop(self.heads[str(j)](top[j]), image.shape[2:]) for j in columns]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, *spatial)`` images of any size to ``(B, K, *spatial)`` logits."""
        if self.accurate:
            return logits_of_mean(self.forward_all(image))
        top = self._top_row(pad_to_multiple(image, self.multiple))
        logits: Tensor = self.heads[str(self.depth)](top[-1])
        return crop(logits, image.shape[2:])

    def _top_row(self, image: Tensor) -> list[Tensor]:
        """X(0, 0) ... X(0, depth)."""
        rows = [[x] for x in self.forward_features(image)]
        for j in range(1, self.depth + 1):
            for i in range(self.depth + 1 - j):
                below = self._up(i, j, rows[i + 1][j - 1], rows[i][0])
                rows[i].append(self.nodes[f"{i}_{j}"](torch.cat([*rows[i], below], dim=1)))
        return rows[0]

    def _up(self, i: int, j: int, below: Tensor, reference: Tensor) -> Tensor:
        if self.up:
            up: Tensor = self.up[f"{i}_{j}"](below)
            return up
        return stretch(below, reference.shape[2:])


def logits_of_mean(outputs: Sequence[Tensor]) -> Tensor:
    """Logits of the mean of the probabilities of several ``(B, K, *spatial)`` logits."""
    stacked = torch.stack(list(outputs))
    if stacked.shape[2] == 1:
        return F.logsigmoid(stacked).logsumexp(0) - F.logsigmoid(-stacked).logsumexp(0)
    return stacked.log_softmax(dim=2).logsumexp(0) - math.log(len(outputs))
