"""How much memory the prediction of a volume takes, and how it is kept below a limit.

What depends on the size of the slices are the sums of logits; they are made smaller by computing
the volume in several parts of its slices, one after the other. Windows that reach into several
parts are computed for each of them.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from medseg.engine.memory import PROGRAM, LiveBytes
from medseg.inference.volumes.sliding import Box, Windows
from medseg.inference.volumes.streaming import Regrid

SCRATCH = 1.75
"""Resident memory over bytes of live tensors in a forward pass of 3D convolutions on a CPU: scratch
space, and gaps between blocks that the C library keeps. Measured with PyTorch 2.13 on U-Nets of 16
and 32 channels at windows of 64 and 96 voxels: 1.38 to 1.66."""

LIBRARIES = 60_000_000
"""Bytes of what is loaded only while a volume is read and computed: decoders, splines, kernels."""

MARGIN = 1.05
"""Forecasts are made larger by this."""

_FLOAT = 4


def resident() -> int:
    """Bytes of memory that this process holds; where the system is not Linux, what it holds there
    with a small network."""
    if not sys.platform.startswith("linux"):
        return PROGRAM
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def forward_bytes(network: nn.Module, shape: Sequence[int], dtype: torch.dtype) -> int:
    """Bytes of the tensors alive at the peak of a forward pass, input and logits included.

    The pass is made on tensors without content (PyTorch's ``meta`` device), with a copy of the
    network that has no content either.

    Args:
        network: stays as it is.
        shape: of its input.
        dtype: in which it computes.

    Raises:
        Exception: whatever a network raises that asks for the content of tensors.
    """
    empty: dict[int, object] = {}
    for parameter in network.parameters():
        bare = torch.empty_like(parameter, device="meta")
        empty[id(parameter)] = nn.Parameter(bare, requires_grad=False)
    for buffer in network.buffers():
        empty[id(buffer)] = torch.empty_like(buffer, device="meta")
    bare_network = copy.deepcopy(network, empty).to(dtype)
    counter = LiveBytes([*bare_network.parameters(), *bare_network.buffers()])
    with torch.no_grad(), counter:
        logits: Tensor = bare_network(torch.empty(*shape, dtype=dtype, device="meta"))
    del logits
    return counter.peak - counter.at_start


@dataclass(frozen=True)
class Need:
    """Bytes that the prediction of a volume takes.

    Attributes:
        program: held before the volume is read, the network included.
        reading: at most while the volume is read, normalised and resampled.
        volume: held while windows are computed: the network's input, the mask, probabilities.
        window: at most while a window is computed.
        writing: at most once the mask is complete.
    """

    program: int
    reading: int
    volume: int
    window: int
    writing: int

    def peak(self, sums: int) -> int:
        """With ``sums`` bytes for logits."""
        most = max(self.reading, self.volume + self.window + sums, self.writing)
        return round((self.program + LIBRARIES + most) * MARGIN)

    def room(self, limit: int) -> int:
        """Bytes that are left for logits where ``limit`` is kept."""
        return round(limit / MARGIN) - self.program - LIBRARIES - self.volume - self.window


@dataclass(frozen=True)
class _Division:
    """An axis of the output cut into equal parts.

    Attributes:
        parts: first places, and one past the last.
        longest: of the parts.
        near: the most places of logits that one comes from.
        windows: along the axis, that touch the parts, summed over these.
    """

    parts: tuple[tuple[int, int], ...]
    longest: int
    near: int
    windows: int


def choose_boxes(
    windows: Windows, regrid: Regrid, classes: int, room: int | None
) -> tuple[tuple[Box, ...], int]:
    """The parts in which slices are computed so that the logits of each fit in ``room`` bytes.

    Args:
        windows: on the volume.
        regrid: to the output.
        classes: logits of a voxel.
        room: None: all there is.

    Returns:
        As few windows to compute as possible; the smallest parts where none fit, which are half
        a window wide, so that a window is computed about nine times at most; and the bytes that the
        largest part takes.
    """
    rows, columns = _divisions(windows, regrid, 1), _divisions(windows, regrid, 2)
    choices = [(high, wide) for high in rows for wide in columns]
    fitting = [
        pair for pair in choices
        if room is None or _bytes(*pair, windows, regrid, classes) <= room
    ]  # fmt: skip
    high, wide = min(
        fitting or choices[-1:],
        key=lambda pair: (pair[0].windows * pair[1].windows, len(pair[0].parts)),
    )
    boxes = tuple(Box(row, column) for row in high.parts for column in wide.parts)
    return boxes, _bytes(high, wide, windows, regrid, classes)


def _bytes(high: _Division, wide: _Division, windows: Windows, regrid: Regrid, classes: int) -> int:
    """Of the logits of a part while they are summed up, resampled and decided on."""
    held = windows.window[0] + regrid.axes[0].taps + 3
    planes = held * high.near * wide.near + 2 * high.longest * wide.near
    window = 2 * windows.window[1] * windows.window[2]
    return _FLOAT * classes * (planes + 4 * high.longest * wide.longest + window)


def _divisions(windows: Windows, regrid: Regrid, axis: int) -> list[_Division]:
    """1, 2, 3 ... parts, none much shorter than half a window."""
    linear, window = regrid.axes[axis], windows.window[axis]
    half = max(1, round(window * linear.wanted / linear.length / 2))
    found = []
    for count in range(1, max(1, linear.wanted // half) + 1):
        edges = [linear.wanted * part // count for part in range(count + 1)]
        parts = tuple(pairwise(edges))
        reached = [linear.reach(*part) for part in parts]
        touching = sum(
            start < stop and start + window > first
            for first, stop in reached
            for start in windows.starts[axis]
        )
        longest = max(stop - first for first, stop in parts)
        near = max(stop - first for first, stop in reached)
        found.append(_Division(parts, longest, near, touching))
    return found
