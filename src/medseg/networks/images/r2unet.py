"""R2U-Net: a U-Net of residual units whose convolutions run several times over their own output.

Alom, Hasan, Yakopcic, Taha, Asari (2018), "Recurrent Residual Convolutional Neural Network based on
U-Net (R2U-Net) for Medical Image Segmentation", arXiv 1802.06955. The authors' code is Keras; what
others compare with is a PyTorch form (github.com/LeeJunHyun/Image_Segmentation), and so is this.

A recurrent unit convolves its input to h, then ``steps`` times the sum of its input and h, with one
set of weights: steps widen what is seen, and cost no parameters. The paper's equation has a kernel
for the input and another one for h (``shared=False``).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medseg.networks.images.unet import UShape
from medseg.nn.blocks import initialise


class RecurrentConv(nn.Module):
    """3x3 convolution with bias, batch norm and ReLU, run ``steps + 1`` times; shape is kept.

    Args:
        channels: of input and output.
        steps: after the first run; 0 makes it an ordinary convolution.
        shared: one kernel for the sum of the input and what the last step gave, or one for each.
    """

    def __init__(self, channels: int, steps: int, *, shared: bool) -> None:
        super().__init__()
        self.steps = steps
        self.forth = nn.Conv2d(channels, channels, 3, padding=1)
        apart = not shared and steps > 0
        self.back = nn.Conv2d(channels, channels, 3, padding=1, bias=False) if apart else None
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.forth(x)
        state = torch.relu(self.norm(first))
        for _ in range(self.steps):
            again = self.forth(x + state) if self.back is None else first + self.back(state)
            state = torch.relu(self.norm(again))
        return state


class RecurrentUnit(nn.Module):
    """1x1 convolution to the width, then two recurrent ones, around an identity where ``residual``;
    ``(B, I, H, W)`` to ``(B, O, H, W)``."""

    def __init__(
        self, in_channels: int, out_channels: int, *, steps: int, residual: bool, shared: bool
    ) -> None:
        super().__init__()
        self.residual = residual
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.body = nn.Sequential(
            RecurrentConv(out_channels, steps, shared=shared),
            RecurrentConv(out_channels, steps, shared=shared),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(x)
        out: Tensor = self.body(x)
        return x + out if self.residual else out


class R2UNet(UShape):
    """R2U-Net; the default has 39,091,393 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels at full size, 1/2, 1/4 ...
        steps: of each recurrent convolution after its first run (the paper's t).
        residual: False makes it the paper's RU-Net.
        shared: one kernel for input and state, as everybody's form has it, or two, as the paper's
            equation has.

    Raises:
        ValueError: numbers that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        steps: int = 2,
        residual: bool = True,
        shared: bool = True,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold one or more numbers >= 1")
        if steps < 0:
            raise ValueError(f"steps {steps} must be at least 0")

        def unit(before: int, width: int) -> RecurrentUnit:
            return RecurrentUnit(before, width, steps=steps, residual=residual, shared=shared)

        self.encoder = nn.ModuleList(
            unit(before, width) for before, width in pairwise([in_channels, *widths])
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2),
                nn.Conv2d(deep, shallow, 3, padding=1),
                nn.BatchNorm2d(shallow),
                nn.ReLU(inplace=True),
            )
            for deep, shallow in pairwise(widths[::-1])
        )
        self.decoder = nn.ModuleList(unit(2 * width, width) for width in widths[-2::-1])
        self.head = nn.Conv2d(widths[0], num_classes, 1)
        initialise(self)
