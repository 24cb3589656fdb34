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
from typing import Any

import numpy as np

from medseg.inference.volumes.arrays import arrays_of
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

    def stretch(self, values: Any, axis: int, start: int, stop: int) -> Any:
        """The outputs ``start`` to ``stop`` from their inputs, those of :meth:`reach`, tensors or
        NumPy arrays."""
        if self.length == self.wanted:
            return values
        arrays = arrays_of(values)
        taps = self._taps[start:stop] - self.reach(start, stop)[0]
        shape = [-1 if each == axis else 1 for each in range(values.ndim)]
        total: Any = None
        # Products and sums apart: fused, they would round differently in different places.
        for tap, weight in zip(taps.T, self._weights[start:stop].T, strict=True):
            part = arrays.take(values, np.ascontiguousarray(tap), axis)
            part *= arrays.of(weight).reshape(shape)
            total = _sum(total, part)
        return total

    def stream(self, planes: Iterator[Any]) -> Iterator[Any]:
        """Output planes from all input planes, both in order."""
        if self.length == self.wanted:
            yield from planes
            return
        held: deque[Any] = deque()
        first = 0
        for index in range(self.wanted):
            low, high = self.reach(index, index + 1)
            while first + len(held) < high:
                held.append(next(planes))
            while first < low:
                held.popleft()
                first += 1
            total: Any = None
            for tap, weight in zip(self._taps[index], self._weights[index], strict=True):
                total = _sum(total, held[tap - first] * float(weight))
            yield total


def _sum(total: Any, part: Any) -> Any:
    """``part`` added to ``total``, in place; None is nothing."""
    if total is None:
        return part
    total += part
    return total


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

    def stream(self, planes: Iterator[Any], box: Box) -> Iterator[Any]:
        """``(K, h, w)`` output slices of ``box`` from all slices of logits of its
        :meth:`reach`."""
        for plane in self.axes[0].stream(planes):
            stretched = self.axes[1].stretch(plane, 1, *box.rows)
            yield self.axes[2].stretch(stretched, 2, *box.columns)
