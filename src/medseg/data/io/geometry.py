"""Where the voxels of a volume lie, and how it is cut into upright pictures."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DataError

PLANES = ("sagittal", "coronal", "axial")
"""The plane of a slice, by the anatomical axis it is perpendicular to (x, y, z of RAS+)."""

MAX_VOXELS = 1_000_000_000
"""Volumes with more voxels are refused before they are decoded."""

_ENDS = ("LR", "PA", "IS")
_THICK = 1.5
_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True, eq=False)
class Header:
    """What is known of a volume before its voxels are read.

    Attributes:
        files: all files that it is read from, in the order of its slices if they are one each.
        shape: (I, J, K), voxels along the stored axes, the fastest first.
        affine: (4, 4) float64, from voxel indices to mm in RAS+; None when the files do not say.
        channels: the size of a fourth axis; None without one.
        colour: whether a voxel is red, green and blue.
        patient: who it shows, where the files say so.
        decoding: bytes that a voxel takes while it is decoded, at most.
    """

    files: tuple[Path, ...]
    shape: tuple[int, int, int]
    affine: NDArray[np.float64] | None = None
    channels: int | None = None
    colour: bool = False
    patient: str | None = None
    decoding: int = 16

    @property
    def slicing(self) -> Slicing:
        return slicing(self.shape, self.affine)

    @property
    def num_slices(self) -> int:
        return self.shape[self.slicing.order[0]]


@dataclass(frozen=True, slots=True)
class Slicing:
    """How stored axes become slices, rows and columns.

    Attributes:
        order: the stored axis of each.
        flipped: whether each runs against its stored axis.
        plane: one of ``PLANES``; empty where the orientation is unknown.
    """

    order: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    plane: str = ""

    def cut(self, stored: NDArray[Any]) -> NDArray[Any]:
        """(I, J, K, ...) to (S, H, W, ...), a view."""
        rest = range(3, stored.ndim)
        return stored.transpose(*self.order, *rest)[self._steps]

    def join(self, slices: NDArray[Any]) -> NDArray[Any]:
        """(S, H, W, ...) to (I, J, K, ...), a view: undoes :meth:`cut`."""
        stored_axis = [self.order.index(axis) for axis in range(3)]
        return slices[self._steps].transpose(*stored_axis, *range(3, slices.ndim))

    @property
    def _steps(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)


AS_STORED = Slicing((2, 1, 0), (False, False, False))


def slicing(
    shape: tuple[int, int, int], affine: NDArray[np.float64] | None, plane: str = ""
) -> Slicing:
    """Cut a volume as it was acquired, or in ``plane``, and show it upright.

    Axes are taken as the anatomical ones that they are closest to. Slices are counted along the
    axis of the only slice; else along the one whose spacing exceeds both others by half; else
    from the feet upwards, and likewise from left to right and from back to front. Rows begin in
    front (axial) or above, columns at the patient's right (axial, coronal) or in front. Without
    an affine the last axis counts the slices.
    """
    if affine is None:
        return AS_STORED
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    unit = affine[:3, :3] / spacing
    stored = max(permutations(range(3)), key=lambda axes: _alignment(unit, axes))
    across = (
        PLANES.index(plane)
        if plane
        else _across([shape[axis] for axis in stored], [float(spacing[axis]) for axis in stored])
    )
    rows, columns = {0: (2, 1), 1: (2, 0), 2: (1, 0)}[across]
    rising = [unit[world, stored[world]] > 0 for world in range(3)]
    return Slicing(
        (stored[across], stored[rows], stored[columns]),
        (not rising[across], bool(rising[rows]), bool(rising[columns])),
        PLANES[across],
    )


def orientation(affine: NDArray[np.float64]) -> str:
    """Where the stored axes point to, e.g. ``"RAS"`` or ``"LPS"``."""
    unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    stored = max(permutations(range(3)), key=lambda axes: _alignment(unit, axes))
    return "".join(
        _ENDS[stored.index(axis)][int(unit[stored.index(axis), axis] > 0)] for axis in range(3)
    )


def difference(image: Header, other: Header, what: str = "mask") -> tuple[str, str] | None:
    """How the grids of an image and of its ``what`` differ: a kind of problem, and words.

    Corresponding numbers of the affines may differ by 1/1000 of the smallest spacing.
    """
    if other.shape != image.shape:
        return "size-mismatch", f"the {what} is {_size(other)} voxels, the image {_size(image)}"
    if image.affine is None and other.affine is None:
        return None
    if image.affine is None or other.affine is None:
        silent, telling = (what, "image") if other.affine is None else ("image", what)
        return (
            "geometry-mismatch",
            f"the {telling} says where its voxels lie and the {silent} does not",
        )
    turned = orientation(image.affine), orientation(other.affine)
    if turned[0] != turned[1]:
        return (
            "geometry-mismatch",
            f"the {what} is stored in the orientation {turned[1]}, the image in {turned[0]}",
        )
    spacing = np.linalg.norm(image.affine[:3, :3], axis=0)
    apart = np.abs(image.affine[:3] - other.affine[:3])
    if apart.max() <= _TOLERANCE * spacing.min():
        return None
    ends = [corner * (np.array(image.shape) - 1) for corner in np.ndindex(2, 2, 2)]
    moved = [
        np.linalg.norm((image.affine - other.affine)[:3] @ [*np.asarray(end), 1]) for end in ends
    ]
    return (
        "geometry-mismatch",
        f"the {what} lies up to {max(moved):.3g} mm away from the image (their affines differ)",
    )


def make_header(
    files: tuple[Path, ...],
    shape: tuple[int, ...],
    affine: NDArray[Any] | None,
    *,
    channels: int | None = None,
    colour: bool = False,
    patient: str | None = None,
    decoding: int = 16,
) -> Header:
    """A header that can be trusted.

    Raises:
        DataError: no voxels or too many, or an affine that is not invertible.
    """
    path = files[0]
    size = [int(length) for length in shape]
    if min(size) < 1 or (channels is not None and channels < 1):
        raise DataError(path, f"its header says {_times(size)} voxels", "Export it again")
    if int(np.prod(size, dtype=object)) * (3 if colour else channels or 1) > MAX_VOXELS:
        raise DataError(
            path,
            f"its header says {_times(size)} voxels, more than the {MAX_VOXELS:,} allowed",
            "Crop or resample it",
        )
    if affine is not None:
        affine = np.asarray(affine, np.float64)
        if not np.isfinite(affine).all() or not _invertible(affine[:3, :3]):
            raise DataError(
                path,
                "its affine is singular or not finite, so its voxels have no place",
                "Correct the spacing and the orientation in its header",
            )
    return Header(files, (size[0], size[1], size[2]), affine, channels, colour, patient, decoding)


def _invertible(axes: NDArray[np.float64]) -> bool:
    lengths = np.linalg.norm(axes, axis=0)
    return bool(lengths.min() > 1e-9) and abs(float(np.linalg.det(axes / lengths))) > 1e-6


def _alignment(unit: NDArray[np.float64], stored: tuple[int, ...]) -> float:
    return sum(abs(float(unit[world, axis])) for world, axis in enumerate(stored))


def _across(shape: list[int], spacing: list[float]) -> int:
    single = [axis for axis in range(3) if shape[axis] == 1]
    if len(single) == 1:
        return single[0]
    thick = max(range(3), key=lambda axis: spacing[axis])
    others = [spacing[axis] for axis in range(3) if axis != thick]
    return thick if spacing[thick] > _THICK * max(others) else 2


def _size(header: Header) -> str:
    return _times(list(header.shape))


def _times(size: list[int]) -> str:
    return " x ".join(map(str, size))
