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


def box_bytes(box: Box, windows: Windows, regrid: Regrid, classes: int) -> int:
    """Bytes of the logits of a part while they are summed up, resampled and decided on."""
    near = regrid.reach(box)
    held = windows.window[0] + regrid.axes[0].taps + 3
    planes = held * near.height * near.width + 2 * box.height * near.width
    window = 2 * windows.window[1] * windows.window[2]
    return _FLOAT * classes * (planes + 4 * box.height * box.width + window)


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
    rows, columns = (_divisions(windows, regrid, axis) for axis in (1, 2))
    best: tuple[int, tuple[Box, ...], int] | None = None
    for high in rows:
        for wide in columns:
            boxes = tuple(Box(row, column) for row in high for column in wide)
            largest = max(box_bytes(box, windows, regrid, classes) for box in boxes)
            if room is not None and largest > room:
                continue
            count = sum(windows.count(regrid.reach(box)) for box in boxes)
            if best is None or count < best[0]:
                best = count, boxes, largest
            break
    if best is not None:
        return best[1:]
    boxes = tuple(Box(row, column) for row in rows[-1] for column in columns[-1])
    return boxes, max(box_bytes(box, windows, regrid, classes) for box in boxes)


def _divisions(windows: Windows, regrid: Regrid, axis: int) -> list[list[tuple[int, int]]]:
    """An axis of the output in 1, 2, 3 ... equal parts, none much shorter than half a window."""
    linear = regrid.axes[axis]
    half = max(1, round(windows.window[axis] * linear.wanted / linear.length / 2))
    return [
        [
            (linear.wanted * part // count, linear.wanted * (part + 1) // count)
            for part in range(count)
        ]
        for count in range(1, max(1, linear.wanted // half) + 1)
    ]
