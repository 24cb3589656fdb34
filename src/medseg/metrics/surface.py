"""How far apart the surfaces of two regions are.

A surface is made of elements that lie between pixels, where a neighbourhood of 2 x 2 pixels (or
2 x 2 x 2 voxels) is neither empty nor full. Each has the length (or area) of the piece of marching
squares (or cubes, Lorensen and Cline 1987) through the midpoints of the neighbourhood's edges; all
means and shares are weighted by it, so that they do not depend on how a surface happens to lie in
the grid. What lies beyond the image is background.

With d the distances from each element of one surface to the nearest of the other, both ways:

    HD    = the largest d                                     (Hausdorff)
    HD95  = the larger of the two directions' 95th percentiles of d
    ASSD  = the mean of d over both surfaces                  (average symmetric surface distance)
    NSD   = the share of both surfaces with d <= tolerance    (arXiv 1809.04430)

HD, HD95 and ASSD are in the units of the spacing, 0 is perfect; NSD lies in 0 to 1, 1 is perfect.
All four are undefined (NaN) where a region is empty.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_Point = tuple[int, ...]
_Edge = tuple[_Point, _Point]


@dataclass(frozen=True)
class SurfaceDistances:
    """Two regions' surfaces and the distances between them.

    Attributes:
        truth: boolean, 2D or 3D.
        prediction: boolean, of the same shape.
        spacing: of the pixels along each axis, in mm or another unit.
    """

    truth: NDArray[np.bool_]
    prediction: NDArray[np.bool_]
    spacing: tuple[float, ...]

    @property
    def defined(self) -> bool:
        """Whether both regions show something."""
        return bool(self.truth.any() and self.prediction.any())

    @cached_property
    def _both_ways(self) -> tuple[tuple[Floats, Floats], tuple[Floats, Floats]]:
        """For each surface its elements' distances, ascending, and their weights."""
        from scipy.ndimage import distance_transform_edt

        box = _bounding_box(self.truth | self.prediction)
        weights = [_surface(region[box], self.spacing) for region in (self.truth, self.prediction)]
        found = []
        for own, other in (weights, weights[::-1]):
            away = distance_transform_edt(other == 0, sampling=self.spacing)
            here = own > 0
            order = np.argsort(away[here], kind="stable")
            found.append((away[here][order], own[here][order]))
        return found[0], found[1]

    def hausdorff(self, percentile: float = 100) -> float:
        """The larger of both directions' ``percentile`` of the distance, in units of the spacing.

        The percentile of a surface is the smallest distance that at least that share of it has.
        """
        if not self.defined:
            return math.nan
        return max(_percentile(*way, percentile) for way in self._both_ways)

    def average(self) -> float:
        """The mean distance over both surfaces together, in units of the spacing."""
        if not self.defined:
            return math.nan
        total = sum(float(weights.sum()) for _, weights in self._both_ways)
        return sum(float(away @ weights) for away, weights in self._both_ways) / total

    def dice(self, tolerance: float) -> float:
        """The share of both surfaces that lies within ``tolerance`` of the other."""
        if not self.defined:
            return math.nan
        total = sum(float(weights.sum()) for _, weights in self._both_ways)
        near = sum(float(weights[away <= tolerance].sum()) for away, weights in self._both_ways)
        return near / total


def boundary_iou(
    truth: NDArray[np.bool_], prediction: NDArray[np.bool_], *, width: float = 0.02
) -> float:
    """IoU of the inner borders of two regions (Cheng et al. 2021, arXiv 2103.16562).

    Args:
        truth: boolean, 2D or 3D.
        prediction: boolean, of the same shape.
        width: of the borders, as a share of the image's diagonal; at least one pixel.

    Returns:
        0 to 1; NaN when both are empty.
    """
    pixels = max(1, round(width * math.hypot(*truth.shape)))
    a, b = (_inner_border(region, pixels) for region in (truth, prediction))
    either = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / either if either else math.nan


def _inner_border(region: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """The pixels of a region within ``pixels`` (largest of the axes' steps) of its outside."""
    from scipy.ndimage import minimum_filter

    kept = minimum_filter(region, 2 * pixels + 1, mode="constant", cval=0)
    border: NDArray[np.bool_] = region & ~kept
    return border


def _percentile(away: Floats, weights: Floats, percentile: float) -> float:
    share = np.cumsum(weights) / weights.sum()
    place = np.searchsorted(share, percentile / 100)
    return float(away[min(int(place), len(away) - 1)])


def _bounding_box(region: NDArray[np.bool_]) -> tuple[slice, ...]:
    box = []
    for axis in range(region.ndim):
        others = tuple(other for other in range(region.ndim) if other != axis)
        places = np.flatnonzero(region.any(axis=others))
        box.append(slice(int(places[0]), int(places[-1]) + 1))
    return tuple(box)


def _surface(region: NDArray[np.bool_], spacing: Sequence[float]) -> Floats:
    """The size of the surface element in each neighbourhood, 0 where there is none.

    (n, ...) -> (n + 1, ...): neighbourhoods overlap, and the first and last reach outside.
    """
    padded = np.pad(region, 1).astype(np.uint8)
    codes = np.zeros([length + 1 for length in region.shape], np.uint8)
    for bit, corner in enumerate(_corners(region.ndim)):
        window = tuple(
            slice(step, step + length) for step, length in zip(corner, codes.shape, strict=True)
        )
        codes |= padded[window] << bit
    return _element_sizes(tuple(spacing))[codes]


def _corners(axes: int) -> list[_Point]:
    return list(itertools.product((0, 1), repeat=axes))


@lru_cache(maxsize=64)
def _element_sizes(spacing: tuple[float, ...]) -> Floats:
    """The length or area of the surface in a neighbourhood, for each pattern of its corners."""
    corners = _corners(len(spacing))
    sizes = np.zeros(2 ** len(corners))
    for code in range(len(sizes)):
        inside = [corner for bit, corner in enumerate(corners) if code >> bit & 1]
        # Where corners of a face touch only diagonally, those in the minority are kept apart.
        few = inside if 2 * len(inside) <= len(corners) else sorted(set(corners) - set(inside))
        if len(spacing) == 2:
            lines = _face_segments(corners, set(few))
            sizes[code] = sum(math.dist(*_midpoints(line, spacing)) for line in lines)
        else:
            sizes[code] = sum(_area(loop, spacing) for loop in _loops(set(few)))
    sizes.flags.writeable = False
    return sizes


def _face_segments(face: Sequence[_Point], few: set[_Point]) -> list[tuple[_Edge, _Edge]]:
    """The lines, from edge to edge, that part the corners of a square in ``few`` from the rest."""
    cut = [edge for edge in _edges(face) if (edge[0] in few) != (edge[1] in few)]
    if len(cut) == 2:
        return [(cut[0], cut[1])]
    lines = [[edge for edge in cut if corner in edge] for corner in face if corner in few]
    return [(line[0], line[1]) for line in lines if line]


def _edges(corners: Sequence[_Point]) -> list[_Edge]:
    pairs = itertools.combinations(corners, 2)
    return [(a, b) for a, b in pairs if sum(x != y for x, y in zip(a, b, strict=True)) == 1]


def _loops(few: set[_Point]) -> list[list[_Edge]]:
    """The closed lines in which the surface cuts the faces of a cube, as edges in their order."""
    lines = []
    for axis, side in itertools.product(range(3), (0, 1)):
        face = [corner for corner in _corners(3) if corner[axis] == side]
        lines += _face_segments(face, few)
    loops = []
    while lines:
        loop = list(lines.pop())
        while loop[0] != loop[-1]:
            line = next(line for line in lines if loop[-1] in line)
            lines.remove(line)
            loop.append(line[1] if line[0] == loop[-1] else line[0])
        loops.append(loop[:-1])
    return loops


def _area(loop: Sequence[_Edge], spacing: Sequence[float]) -> float:
    """The area of the triangles that fan out from a corner of a loop.

    Of the corners the one is taken that gives the largest area in a grid of unit spacing, which
    is the choice of DeepMind's surface-distance, too.
    """
    turned = [[*loop[start:], *loop[:start]] for start in range(len(loop))]
    best = max(turned, key=lambda points: _fan(_midpoints(points, (1.0, 1.0, 1.0))))
    return _fan(_midpoints(best, spacing))


def _midpoints(edges: Sequence[_Edge], spacing: Sequence[float]) -> Floats:
    ends: Floats = np.array(edges, dtype=np.float64)
    middle: Floats = ends.mean(axis=1) * np.asarray(spacing)
    return middle


def _fan(points: Floats) -> float:
    sides = points[1:] - points[0]
    normals: NDArray[Any] = np.cross(sides[:-1], sides[1:])
    return float(np.linalg.norm(normals, axis=1).sum() / 2)
