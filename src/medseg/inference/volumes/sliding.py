"""A network applied to a volume window by window; where windows overlap, their logits are averaged
with a Gaussian weight, as in nnU-Net (Isensee et al. 2021, doi:10.1038/s41592-020-01008-z).

Windows stand on a grid, so that the weights that meet in a voxel add up to a product of one number
an axis, and no map of them is kept. The averages of a slice are complete once no later window
covers it, and leave then: of the logits, never more slices are in memory than a window has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.inference.volumes.arrays import Arrays, arrays_of

SIGMA = 1 / 8
"""Standard deviation of the weights, as a share of the window."""

Triple = tuple[int, int, int]
Network = Callable[[Any], Any]
"""``(B, C, *window)`` to logits ``(B, K, *window)``, tensors or NumPy arrays."""


@dataclass(frozen=True)
class Box:
    """A part of every slice: rows and columns, first and one past the last."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def height(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class Windows:
    """Where the windows on a volume stand.

    They are spread evenly, the first and the last at the ends of the volume.

    Args:
        shape: slices, rows and columns of the volume; none shorter than the window's.
        window: likewise.
        overlap: share of the window that the next one covers, too, at least; 0 to below 1.
    """

    shape: Triple
    window: Triple
    overlap: float = 0.5

    @cached_property
    def starts(self) -> tuple[tuple[int, ...], ...]:
        """First places of the windows along each axis."""
        return tuple(
            window_starts(length, window, self.overlap)
            for length, window in zip(self.shape, self.window, strict=True)
        )

    @cached_property
    def weights(self) -> tuple[NDArray[np.float64], ...]:
        """Along each axis of a window; a voxel's weight is their product."""
        return tuple(gaussian(length) for length in self.window)

    @cached_property
    def totals(self) -> tuple[NDArray[np.float64], ...]:
        """Sums of the weights along each axis of the volume."""
        sums = [np.zeros(length) for length in self.shape]
        for total, starts, weight in zip(sums, self.starts, self.weights, strict=True):
            for start in starts:
                total[start : start + len(weight)] += weight
        return tuple(sums)

    @property
    def whole(self) -> Box:
        return Box((0, self.shape[1]), (0, self.shape[2]))

    def touching(self, box: Box) -> list[tuple[int, int]]:
        """First rows and columns of the windows that cover a part of ``box``, in order."""
        sides = (box.rows, box.columns)
        rows, columns = (
            [start for start in starts if start < stop and start + window > first]
            for starts, window, (first, stop) in zip(
                self.starts[1:], self.window[1:], sides, strict=True
            )
        )
        return list(product(rows, columns))

    def count(self, box: Box) -> int:
        """How many windows the logits of ``box`` take."""
        return len(self.starts[0]) * len(self.touching(box))


def window_starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    """First places of as few windows as cover ``length`` voxels and overlap by ``overlap``.

    Raises:
        ValueError: the window is longer, or the overlap is not in 0 .. below 1.
    """
    if window > length or not 0 <= overlap < 1:
        raise ValueError(f"windows of {window} overlapping by {overlap} on {length} voxels")
    step = max(1, int(window * (1 - overlap) + 1e-9))
    gaps = math.ceil((length - window) / step)
    return tuple(
        round(index * (length - window) / gaps) if gaps else 0 for index in range(gaps + 1)
    )


def gaussian(length: int) -> NDArray[np.float64]:
    """Weights along one axis of a window, 1 in the middle."""
    places = np.arange(length) - (length - 1) / 2
    weights: NDArray[np.float64] = np.exp(-0.5 * np.square(places / (SIGMA * length)))
    return weights


def slide(
    network: Network, image: Any, windows: Windows, *, box: Box | None = None, batch: int = 1
) -> Iterator[Any]:
    """The averaged logits of a volume, slice by slice.

    A voxel's logits are added up in the order of the windows, in float32, whatever ``box`` and
    ``batch``: where the network gives each window of a batch what it gives that window by itself,
    the result does not depend on them.

    Args:
        network: ``(B, C, *window)`` to logits ``(B, K, *window)``.
        image: ``(C, *shape)``, a tensor or a NumPy array.
        windows: on it.
        box: the part of the slices that is wanted; all of them without it.
        batch: windows that the network takes at once.

    Yields:
        ``(K, h, w)`` float32 for each slice, in order, where h and w are those of ``box``.
    """
    box = box or windows.whole
    deep, high, wide = windows.window
    arrays = arrays_of(image)
    across, rows, columns = map(arrays.of, windows.weights)
    plane = rows[:, None] * columns
    totals = [arrays.of(total) for total in windows.totals]
    around = totals[1][slice(*box.rows), None] * totals[2][slice(*box.columns)]
    starts = windows.starts[0]
    sums: Any = None
    for start, after in zip(starts, (*starts[1:], windows.shape[0]), strict=True):
        places = iter(windows.touching(box))
        while corners := list(islice(places, batch)):
            crops = [
                image[:, start : start + deep, row : row + high, column : column + wide]
                for row, column in corners
            ]
            logits = network(arrays.stack(crops))
            if sums is None:
                sums = arrays.zeros((deep, logits.shape[1], box.height, box.width))
            for (row, column), found in zip(corners, logits, strict=True):
                _add(arrays, sums, found, start, (row, column), box, across, plane)
            del logits, found
        assert sums is not None
        for index in range(start, after):
            held = sums[index % deep]
            yield held / (around * totals[0][index])
            held[...] = 0


def _add(
    arrays: Arrays,
    sums: Any,
    logits: Any,
    start: int,
    corner: tuple[int, int],
    box: Box,
    across: Any,
    plane: Any,
) -> None:
    """Add a window's weighted logits (K, d, h, w) to those of its slices, of which slice ``i`` is
    ``sums[i % d]``."""
    (top, bottom), (left, right) = (
        (max(first, place), min(last, place + length))
        for place, length, (first, last) in zip(
            corner, plane.shape, (box.rows, box.columns), strict=True
        )
    )
    inside = slice(top - corner[0], bottom - corner[0]), slice(left - corner[1], right - corner[1])
    there = (
        slice(top - box.rows[0], bottom - box.rows[0]),
        slice(left - box.columns[0], right - box.columns[0]),
    )
    weights = plane[inside]
    for index, share in enumerate(across):
        weighted = arrays.single(logits[:, index, *inside]) * (weights * share)
        sums[(start + index) % len(sums), :, *there] += weighted


def mirrored(network: Network, axes: tuple[int, ...]) -> Network:
    """The mean of the logits over all mirrorings along ``axes`` (0 to 2), mirrored back."""
    turns = [
        tuple(axis + 2 for axis in chosen)
        for count in range(len(axes) + 1)
        for chosen in combinations(axes, count)
    ]

    def averaged(image: Any) -> Any:
        arrays = arrays_of(image)
        total = arrays.single(network(image))
        for turn in turns[1:]:
            found = arrays.single(network(arrays.flip(image, turn)))
            total = total + arrays.flip(found, turn)
        return total / len(turns)

    return averaged
