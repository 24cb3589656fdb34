"""Volumes on a grid of another spacing.

Two grids share their outer faces, not the centres of their first voxels: voxel ``i`` of ``n`` lies
at ``(i + 0.5) / n`` of the extent. Nothing is smoothed before it is made coarser, as in nnU-Net
(Isensee et al. 2021, doi:10.1038/s41592-020-01008-z), whose rules these are: images by cubic
splines, kept within the range of their values; masks linearly, each class by itself, the largest
share winning. Where one axis is more than three times as coarse as another, before or after, a
spline along it would invent what was never seen: it is then resampled by itself, by the nearest
slice, and the other two as pictures.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ANISOTROPIC = 3.0
"""Ratio of the largest to the smallest spacing from which the coarse axis is resampled apart."""

# Spacings that differ by less are one: headers hold them as rounded float32.
_SAME = 1e-3

Triple = tuple[float, float, float]
Shape = tuple[int, int, int]


def resampled_shape(shape: tuple[int, ...], spacing: Triple, target: Triple) -> Shape:
    """Voxels along each axis once the spacing is ``target``; at least one.

    Args:
        shape: of the volume.
        spacing: of the volume, mm along each axis.
        target: wanted, mm; an axis within 1/1000 of it keeps its voxels.
    """
    across, rows, columns = (
        length if abs(own / wanted - 1) <= _SAME else max(1, round(length * own / wanted))
        for length, own, wanted in zip(shape, spacing, target, strict=True)
    )
    return across, rows, columns


def axis_apart(spacing: Triple, target: Triple) -> int | None:
    """The axis (0 to 2) that is resampled by itself, or None; that of ``spacing`` comes first."""
    for mm in (spacing, target):
        coarsest = max(mm)
        coarse = [axis for axis in range(3) if mm[axis] == coarsest]
        if coarsest > ANISOTROPIC * min(mm) and len(coarse) == 1:
            return coarse[0]
    return None


def resample_image(
    image: NDArray[np.float32], shape: Shape, *, apart: int | None = None
) -> NDArray[np.float32]:
    """Resample by cubic splines.

    Args:
        image: ``(C, S, H, W)``.
        shape: wanted (S, H, W).
        apart: of :func:`axis_apart`.

    Returns:
        ``(C, *shape)``, within the range of each channel's values; ``image`` itself where it has
        the shape.
    """
    if image.shape[1:] == shape:
        return image
    channels = [_clipped(_zoom(channel, shape, apart, order=3), channel) for channel in image]
    return np.stack(channels)


def resample_mask(
    mask: NDArray[np.uint8], shape: Shape, *, apart: int | None = None
) -> NDArray[np.uint8]:
    """Resample each class by itself, linearly; the class with the largest share wins.

    Args:
        mask: ``(S, H, W)`` class indices; ``IGNORE`` is a class like any other.
        shape: wanted.
        apart: of :func:`axis_apart`.

    Returns:
        ``shape``; of equal shares the lower index wins. ``mask`` itself where it has the shape.
    """
    if mask.shape == shape:
        return mask
    found = np.zeros(shape, np.uint8)
    best = np.full(shape, -1, np.float32)
    for index in np.unique(mask):
        share = _zoom((mask == index).astype(np.float32), shape, apart, order=1)
        better = share > best
        found[better] = index
        best[better] = share[better]
    return found


def nearest_places(length: int, wanted: int) -> NDArray[np.int64]:
    """Which of ``length`` places each of ``wanted`` evenly spread ones is nearest to."""
    centres = (np.arange(wanted) + 0.5) * length / wanted
    return np.minimum(centres.astype(np.int64), length - 1)


def _zoom(
    values: NDArray[np.float32], shape: Shape, apart: int | None, *, order: int
) -> NDArray[np.float32]:
    """(S, H, W) to ``shape``."""
    if apart is None:
        return _spline(values, shape, order)
    pictures = np.moveaxis(values, apart, 0)
    size = tuple(length for axis, length in enumerate(shape) if axis != apart)
    places = nearest_places(len(pictures), shape[apart])
    # Each picture that is wanted is resampled once, however often it is repeated.
    wanted, back = np.unique(places, return_inverse=True)
    resampled = np.stack([_spline(pictures[place], size, order) for place in wanted])
    return np.ascontiguousarray(np.moveaxis(resampled[back], 0, apart))


def _spline(values: NDArray[Any], shape: tuple[int, ...], order: int) -> NDArray[np.float32]:
    from scipy import ndimage

    if values.shape == shape:
        return np.asarray(values, np.float32)
    factors = [wanted / length for wanted, length in zip(shape, values.shape, strict=True)]
    found: NDArray[np.float32] = ndimage.zoom(
        values, factors, np.float32, order=order, mode="nearest", grid_mode=True
    )
    return found


def _clipped(found: NDArray[np.float32], source: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(found, source.min(), source.max(), out=found)
