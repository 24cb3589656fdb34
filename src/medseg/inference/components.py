"""Dropping small or secondary components of a mask, with nothing but numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.inference.bundle import Postprocessing


def clean(classes: NDArray[np.uint8], rules: Postprocessing) -> NDArray[np.uint8]:
    """Apply ``rules`` to every foreground class by itself.

    Args:
        classes: ``(H, W)`` class indices.
        rules: of the model.

    Returns:
        Of the same shape; what was dropped is background. The same array where nothing was.
    """
    if not rules.keep_largest and rules.min_pixels <= 1:
        return classes
    kept = classes
    for index in np.unique(classes):
        if index == 0:
            continue
        numbers, sizes = components(classes == index)
        wanted = sizes >= rules.min_pixels
        if rules.keep_largest and len(sizes):
            # Of several largest ones the first met, row by row, as in the browser.
            wanted &= np.arange(len(sizes)) == int(np.argmax(sizes))
        if not wanted.all():
            kept = kept.copy() if kept is classes else kept
            kept[~np.append(True, wanted)[numbers]] = 0
    return kept


def components(region: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number the components of a region; pixels that touch at a corner belong together.

    Returns:
        ``(H, W)`` numbers from 1 in the order in which rows from the top meet them, 0 outside; and
        the pixels of each.
    """
    height, width = region.shape
    edges = np.diff(np.pad(region, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    # A run is a stretch of one row; on a line of all rows, with a gap between them, the runs of
    # the row above that one touches are neighbours of each other.
    step = width + 2
    first = np.searchsorted(rows * step + ends, (rows - 1) * step + starts, "left")
    last = np.searchsorted(rows * step + starts, (rows - 1) * step + ends, "right")
    count = np.maximum(last - first, 0)
    below = np.repeat(np.arange(len(rows)), count)
    above = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[below]
    roots = _roots(len(rows), below, above)
    _, number = np.unique(roots, return_inverse=True)
    numbers = np.zeros(height * width + 1, np.int64)
    np.add.at(numbers, rows * width + starts, number + 1)
    np.subtract.at(numbers, rows * width + ends, number + 1)
    sizes = np.bincount(number, weights=ends - starts).astype(np.int64)
    return numbers.cumsum()[:-1].reshape(height, width), sizes


def _roots(count: int, ones: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each of ``count`` things the least one it is connected with, through any others."""
    roots = np.arange(count)
    while True:
        low = np.minimum(roots[ones], roots[others])
        after = roots.copy()
        for side in (ones, others):
            np.minimum.at(after, roots[side], low)
        after = after[after]
        if np.array_equal(after, roots):
            return roots
        roots = after
