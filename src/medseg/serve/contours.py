"""Outlines of a region as polygons, with nothing but numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Where four pixels meet, an outline may turn. The pixels, as bits: 1 above left, 2 above right,
# 4 below left, 8 below right. For each pattern: which way an outline arrives and leaves, with the
# region on its right. Where two pixels meet at a corner two outlines pass, such that the pixels
# belong together, as in medseg.inference.components.
_EAST, _SOUTH, _WEST, _NORTH = range(4)
_TURNS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((_SOUTH, _WEST),),
    2: ((_WEST, _NORTH),),
    4: ((_EAST, _SOUTH),),
    8: ((_NORTH, _EAST),),
    7: ((_WEST, _SOUTH),),
    11: ((_NORTH, _WEST),),
    14: ((_EAST, _NORTH),),
    13: ((_SOUTH, _EAST),),
    9: ((_SOUTH, _EAST), (_NORTH, _WEST)),
    6: ((_WEST, _SOUTH), (_EAST, _NORTH)),
}


def contours(region: NDArray[np.bool_]) -> list[list[list[int]]]:
    """The outlines of a region, along the edges of its pixels.

    Args:
        region: ``(H, W)``.

    Returns:
        Closed polygons, each a list of ``[x, y]`` in pixels from the image's upper left corner,
        without its first point again at the end. Outer ones run clockwise as seen, holes
        counter-clockwise, so that their signed areas sum up to the region's pixels. Pixels that
        touch at a corner are within one polygon.
    """
    padded = np.pad(region, 1).astype(np.uint8)
    corners = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    weights = np.array([1, 2, 4, 8], np.uint8)
    pattern = np.einsum("cyx,c->yx", np.stack(corners), weights)  # (H + 1, W + 1)
    rows, columns, arriving, leaving = _turns(pattern)
    follower = np.empty(len(rows), np.intp)
    for way in (_EAST, _SOUTH, _WEST, _NORTH):
        starts, ends = np.flatnonzero(leaving == way), np.flatnonzero(arriving == way)
        # Along a line the stretches of one direction do not overlap, so that, sorted, the first
        # start has the first end.
        line, place = (rows, columns) if way in (_EAST, _WEST) else (columns, rows)
        place = place if way in (_EAST, _SOUTH) else -place
        starts = starts[np.lexsort((place[starts], line[starts]))]
        ends = ends[np.lexsort((place[ends], line[ends]))]
        follower[starts] = ends
    return _walk(follower.tolist(), columns.tolist(), rows.tolist())


def _turns(
    pattern: NDArray[np.uint8],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of all turns, row by row, and the ways an outline arrives and leaves."""
    rows, columns, arriving, leaving = [], [], [], []
    for bits, passes in _TURNS.items():
        y, x = np.nonzero(pattern == bits)
        for before, after in passes:
            rows.append(y)
            columns.append(x)
            arriving.append(np.full(len(y), before))
            leaving.append(np.full(len(y), after))
    y, x = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((x, y))
    return y[order], x[order], np.concatenate(arriving)[order], np.concatenate(leaving)[order]


def _walk(follower: list[int], columns: list[int], rows: list[int]) -> list[list[list[int]]]:
    polygons = []
    seen = bytearray(len(follower))
    for start in range(len(follower)):
        if seen[start]:
            continue
        polygon = []
        at = start
        while not seen[at]:
            seen[at] = 1
            polygon.append([columns[at], rows[at]])
            at = follower[at]
        polygons.append(polygon)
    return polygons
