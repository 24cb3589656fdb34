"""Mamba layers on sequences and on maps, around the selective scan.

Gu, Dao (2023), arXiv 2312.00752 (:class:`Mamba`); Zhu, Liao, Zhang, Wang, Liu, Wang (2024),
"Vision Mamba", arXiv 2401.09417 (:class:`BidirectionalMamba`); Liu, Tian, Zhao, Yu, Xie, Wang, Ye,
Liu (2024), "VMamba: visual state space model", arXiv 2401.10166 (:class:`SS2D`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.channel_norm import ChannelNorm
from medseg.nn.scan_orders import cross_merge, cross_scan
from medseg.nn.selective_scan import selective_scan


def step_bias(channels: int) -> Tensor:
    """Biases whose softplus is spread evenly, on a logarithmic scale, over 0.001 to 0.1."""
    low, high = math.log(1e-3), math.log(1e-1)
    steps = torch.exp(torch.rand(channels) * (high - low) + low).clamp_min(1e-4)
    return steps + torch.log(-torch.expm1(-steps))  # the inverse of softplus


class SelectiveSSM(nn.Module):
    """A selective scan whose step sizes, inputs and outputs are linear in what it scans.

    Args:
        channels: E of ``(B, groups x E, L)``.
        states: of every channel, N.
        rank: of the map to step sizes; default: a sixteenth of ``width``.
        width: that the default rank is taken of; default: E.
        groups: sequences that are scanned side by side, each with parameters of its own.
    """

    def __init__(
        self,
        channels: int,
        states: int = 16,
        *,
        rank: int | None = None,
        width: int | None = None,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.groups, self.states = groups, states
        self.rank = rank or math.ceil((width or channels) / 16)
        total = groups * channels
        self.select = nn.Conv1d(
            total, groups * (self.rank + 2 * states), 1, groups=groups, bias=False
        )
        self.step = nn.Conv1d(groups * self.rank, total, 1, groups=groups)
        # (E N,): what has one axis is not decayed, and rates must not be.
        self.log_rates = nn.Parameter(
            torch.log(torch.arange(1, states + 1, dtype=torch.float32)).repeat(total)
        )
        self.skip = nn.Parameter(torch.ones(total))
        bound = self.rank**-0.5
        nn.init.uniform_(self.step.weight, -bound, bound)
        assert self.step.bias is not None
        self.step.bias.data.copy_(step_bias(total))

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """``x`` and ``gate`` ``(B, groups x E, L)`` to the output, ``(B, groups x E, L)``."""
        selected = self.select(x).unflatten(1, (self.groups, -1))  # (B, G, R + 2N, L)
        step, b, c = selected.split([self.rank, self.states, self.states], dim=2)
        delta = F.conv1d(step.flatten(1, 2), self.step.weight, groups=self.groups)
        rates = -torch.exp(self.log_rates).view(-1, self.states)
        out, _ = selective_scan(
            x, delta, rates, b, c, self.skip, gate, self.step.bias, delta_softplus=True
        )
        return out


class Mamba(nn.Module):
    """The block of Mamba: a causal convolution and a selective scan, gated; ``(B, L, C)`` is kept.

    Args:
        channels: C.
        states: of every channel of the scan.
        kernel: of the convolution, in steps.
        expansion: channels of the scan over C.
    """

    def __init__(
        self, channels: int, *, states: int = 16, kernel: int = 4, expansion: int = 2
    ) -> None:
        super().__init__()
        inner = expansion * channels
        self.enter = nn.Linear(channels, 2 * inner, bias=False)
        self.convolve = nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner)
        self.scan = SelectiveSSM(inner, states, width=channels)
        self.leave = nn.Linear(inner, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        values, gate = self.enter(x).transpose(1, 2).chunk(2, dim=1)  # each (B, E, L)
        values = F.silu(self.convolve(values)[..., : x.shape[1]])
        out: Tensor = self.leave(self.scan(values, gate).transpose(1, 2))
        return out


class BidirectionalMamba(nn.Module):
    """Two Mamba branches, one of them on the reversed sequence, between one pair of linear layers.

    Args:
        channels: C of ``(B, L, C)``.
        states: of every channel of the scans.
        kernel: of the convolutions, in steps.
        expansion: channels of a scan over C.
        halved: whether the sum of both branches is divided by two, the published default.
    """

    def __init__(
        self,
        channels: int,
        *,
        states: int = 16,
        kernel: int = 4,
        expansion: int = 2,
        halved: bool = True,
    ) -> None:
        super().__init__()
        inner = expansion * channels
        self.enter = nn.Linear(channels, 2 * inner, bias=False)
        self.convolve = nn.ModuleList(
            nn.Conv1d(inner, inner, kernel, padding=kernel - 1, groups=inner) for _ in range(2)
        )
        self.scan = nn.ModuleList(SelectiveSSM(inner, states, width=channels) for _ in range(2))
        self.leave = nn.Linear(inner, channels, bias=False)
        self.share = 0.5 if halved else 1.0

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x).transpose(1, 2)
        both = self._branch(0, entered) + self._branch(1, entered.flip(-1)).flip(-1)
        out: Tensor = self.leave(self.share * both.transpose(1, 2))
        return out

    def _branch(self, index: int, entered: Tensor) -> Tensor:
        values, gate = entered.chunk(2, dim=1)
        values = F.silu(self.convolve[index](values)[..., : entered.shape[-1]])
        out: Tensor = self.scan[index](values, gate)
        return out


class SS2D(nn.Module):
    """The scan of VMamba: a map's pixels along rows and columns, each in both directions, summed.

    The defaults are those of its first version, which VM-UNet and Mamba-UNet use; the current one
    has no gate, one state, an expansion of 1 and no bias in the convolution.

    Args:
        channels: C of ``(B, C, H, W)``.
        states: of every channel of the scans.
        expansion: channels of a scan over C.
        gated: whether SiLU of a second linear map of the input multiplies the output.
        bias: of the 3x3 depthwise convolution.
    """

    def __init__(
        self,
        channels: int,
        *,
        states: int = 16,
        expansion: int = 2,
        gated: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        inner = expansion * channels
        self.gated = gated
        self.enter = nn.Conv2d(channels, (2 if gated else 1) * inner, 1, bias=False)
        self.convolve = nn.Conv2d(inner, inner, 3, padding=1, groups=inner, bias=bias)
        self.scan = SelectiveSSM(inner, states, width=channels, groups=4)
        self.norm = ChannelNorm(inner, eps=1e-5)
        self.leave = nn.Conv2d(inner, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        values, *gate = self.enter(x).chunk(2 if self.gated else 1, dim=1)
        values = F.silu(self.convolve(values))
        sequences = cross_scan(values)  # (B, E, H, W) -> (B, 4, E, H W)
        scanned = self.scan(sequences.flatten(1, 2)).unflatten(1, (4, -1))
        merged = self.norm(cross_merge(scanned, (values.shape[-2], values.shape[-1])))
        for each in gate:
            merged = merged * F.silu(each)
        out: Tensor = self.leave(merged)
        return out
