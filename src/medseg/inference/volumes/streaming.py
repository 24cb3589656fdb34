"""Logits on the grid of the file, slice by slice.

Logits are interpolated linearly, one axis after the other: across the slices, then down the rows,
then along the columns. An output voxel takes the two nearest inputs along an axis, or, where the
output is coarser, all those within its own length, the nearer ones more. So an output slice needs
only a few neighbouring slices of logits, and each voxel gets the same bits whatever part of a
volume it is computed in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from medseg.inference.volumes.sliding import Box


class Linear:
    """Interpolation along one axis between two grids that share their outer faces.

    Args:
        length: of the input.
        wanted: of the output.
    """

    def __init__(self, length: int, wanted: int) -> None:
        self.length = length
        self.wanted = wanted
        width = max(1.0, length / wanted)
        centres = (np.arange(wanted) + 0.5) * length / wanted - 0.5
        first = np.floor(centres - width).astype(np.int64) + 1
        taps = first[:, None] + np.arange(math.ceil(2 * width))
        weights = np.maximum(0, 1 - np.abs(taps - centres[:, None]) / width)
        self._taps = np.clip(taps, 0, length - 1)
        self._weights = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)

    @property
    def taps(self) -> int:
        """Inputs that an output is made of."""
        return 1 if self.length == self.wanted else self._taps.shape[1]

    def reach(self, start: int, stop: int) -> tuple[int, int]:
        """The inputs, first and one past the last, of the outputs ``start`` to ``stop``."""
        if self.length == self.wanted:
            return start, stop
        return int(self._taps[start].min()), int(self._taps[stop - 1].max()) + 1

    def stretch(self, values: Tensor, axis: int, start: int, stop: int) -> Tensor:
        """The outputs ``start`` to ``stop`` from their inputs, those of :meth:`reach`."""
        if self.length == self.wanted:
            return values
        taps = torch.from_numpy(self._taps[start:stop] - self.reach(start, stop)[0])
        shape = [-1 if each == axis else 1 for each in range(values.ndim)]
        weights = torch.from_numpy(self._weights[start:stop]).to(values.device)
        total: Tensor | None = None
        # Products and sums apart: fused, they would round differently in different places.
        for tap, weight in zip(taps.to(values.device).T, weights.T, strict=True):
            part = values.index_select(axis, tap).mul_(weight.reshape(shape))
            total = part if total is None else total.add_(part)
        assert total is not None
        return total

    def stream(self, planes: Iterator[Tensor]) -> Iterator[Tensor]:
        """Output planes from all input planes, both in order."""
        if self.length == self.wanted:
            yield from planes
            return
        held: deque[Tensor] = deque()
        first = 0
        for index in range(self.wanted):
            low, high = self.reach(index, index + 1)
            while first + len(held) < high:
                held.append(next(planes))
            while first < low:
                held.popleft()
                first += 1
            total: Tensor | None = None
            for tap, weight in zip(self._taps[index], self._weights[index], strict=True):
                part = held[tap - first] * float(weight)
                total = part if total is None else total.add_(part)
            assert total is not None
            yield total


class Regrid:
    """From the grid of the logits to that of the output.

    Args:
        shape: slices, rows and columns of the logits.
        wanted: of the output.
    """

    def __init__(self, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        self.axes = [Linear(*lengths) for lengths in zip(shape, wanted, strict=True)]
        self.wanted = wanted

    def reach(self, box: Box) -> Box:
        """The part of each slice of logits that the part ``box`` of output slices comes from."""
        return Box(self.axes[1].reach(*box.rows), self.axes[2].reach(*box.columns))

    def stream(self, planes: Iterator[Tensor], box: Box) -> Iterator[Tensor]:
        """``(K, h, w)`` output slices of ``box`` from all slices of logits of its
        :meth:`reach`."""
        for plane in self.axes[0].stream(planes):
            stretched = self.axes[1].stretch(plane, 1, *box.rows)
            yield self.axes[2].stretch(stretched, 2, *box.columns)
