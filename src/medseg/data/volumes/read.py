"""Whole volumes, at their own precision and in one orientation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import LabelMap
from medseg.data.io import MAX_PIXELS
from medseg.data.io import volume as volumes
from medseg.data.io.geometry import Header, Slicing, slicing
from medseg.data.io.pixels import check_finite
from medseg.data.labels import Snap, read_classes
from medseg.data.slices import Slice, Stack, Whole, volume_of
from medseg.data.source import Channels, Source
from medseg.data.volumes.resample import Shape, Triple
from medseg.errors import DataError, plural


@dataclass(frozen=True, slots=True)
class Grid:
    """The voxels of a volume, as slices, rows and columns.

    Attributes:
        shape: of them.
        spacing: between them in mm; None where the files do not say.
        plane: of the slices; empty where it is unknown.
    """

    shape: Shape
    spacing: Triple | None
    plane: str


def grid_of(image: Source, plane: str = "") -> Grid:
    """The grid of a volume, from its header.

    Args:
        image: of a :class:`medseg.data.slices.Whole`.
        plane: the volume is turned to lie in it; empty: as it is shown in 2D.

    Raises:
        DataError: a header cannot be read, or the image is one picture and no volume.
    """
    files = volume_of(image)
    if files is None:
        return _grid_of_pictures(image)
    header = volumes.read_header(files)
    turned = _turned(header, plane)
    across, rows, columns = (header.shape[axis] for axis in turned.order)
    spacing = None
    if header.affine is not None:
        stored = np.linalg.norm(header.affine[:3, :3], axis=0)
        mm = [float(stored[axis]) for axis in turned.order]
        spacing = (mm[0], mm[1], mm[2])
    return Grid((across, rows, columns), spacing, turned.plane)


def read_image(
    image: Source, channels: int, plane: str = "", *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.float32]:
    """All channels of a volume as they are stored, rescaled as the files say.

    Args:
        image: of a :class:`medseg.data.slices.Whole`.
        channels: wanted; colour becomes luma where one is, grey is repeated where three are.
        plane: as in :func:`grid_of`.
        max_pixels: of a slice.

    Returns:
        ``(C, S, H, W)`` float32.

    Raises:
        DataError: a file cannot be read, NaN or infinity, or another number of channels.
    """
    found: NDArray[Any]
    if volume_of(image) is None:
        found = _pictures(image, max_pixels)
    else:
        parts = [_voxels_of(files, fourth, plane, max_pixels) for files, fourth in _files_of(image)]
        found = np.concatenate(parts, axis=3) if len(parts) > 1 else parts[0]
    if found.shape[3] != channels:
        if {found.shape[3], channels} != {1, 3}:
            raise DataError(
                image,
                f"has {plural(found.shape[3], 'channel')} where {channels} are needed",
                "All volumes must have the same channels",
            )
        found = _luma_or_grey(found, channels)
    return np.ascontiguousarray(np.moveaxis(found, 3, 0), dtype=np.float32)


def read_mask(
    whole: Whole,
    labels: LabelMap,
    plane: str = "",
    *,
    snap: Snap = "auto",
    max_pixels: int = MAX_PIXELS,
) -> NDArray[np.uint8]:
    """The classes of a labelled volume.

    Returns:
        ``(S, H, W)`` uint8 class indices or ``IGNORE``, on the grid of :func:`read_image`.

    Raises:
        DataError: a file cannot be read, or a value that no class has.
    """
    assert whole.mask is not None
    planes = [
        read_classes(
            case.mask,
            labels,
            snap=snap,
            field_of_view=case.field_of_view,
            max_pixels=max_pixels,
        )
        for case in whole.cases
        if case.mask is not None
    ]
    classes = np.stack(planes)
    files = volume_of(whole.image)
    if files is None:
        return classes
    header = volumes.read_header(files)
    if len(classes) != header.num_slices:
        raise DataError(
            files[0],
            f"only {len(classes)} of its {header.num_slices} slices have a mask",
            "Label all slices of a volume, or train with --set data.dims=2",
        )
    own, wanted = header.slicing, _turned(header, plane)
    return np.ascontiguousarray(wanted.cut(own.join(classes)) if own != wanted else classes)


def _turned(header: Header, plane: str) -> Slicing:
    return slicing(header.shape, header.affine, plane) if plane else header.slicing


def _files_of(image: Source) -> list[tuple[tuple[Path, ...], bool]]:
    """The volumes that hold the channels, and whether a fourth axis holds several."""
    first = image.slices[0] if isinstance(image, Stack) else image
    parts = first.parts if isinstance(first, Channels) else (first,)
    return [(part.volume, part.fourth) for part in parts if isinstance(part, Slice)]


def _voxels_of(
    files: tuple[Path, ...], fourth: bool, plane: str, max_pixels: int
) -> NDArray[np.float32]:
    """``(S, H, W, C)``."""
    volumes.check_slices(volumes.read_header(files), max_pixels, channels=fourth)
    voxels = volumes.read_voxels(files)
    values: NDArray[Any] = voxels.values
    if voxels.palette is not None:
        values = voxels.palette[np.minimum(values, len(voxels.palette) - 1)]
    check_finite(values, files[0])
    if values.ndim == 3:
        values = values[..., None]
    cut = _turned(voxels.header, plane).cut(values)
    found = np.ascontiguousarray(cut, dtype=np.float32)
    return np.negative(found) if voxels.inverted else found


def _slices_of(image: Source) -> Sequence[Source]:
    return image.slices if isinstance(image, Stack) else (image,)


def _pictures(image: Source, max_pixels: int) -> NDArray[np.uint8]:
    """``(S, H, W, C)`` of a stack of pictures."""
    pictures = [each.read_image(max_pixels=max_pixels) for each in _slices_of(image)]
    for source, picture in zip(_slices_of(image), pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise DataError(
                source,
                f"has the shape {picture.shape}, the first slice of its volume {pictures[0].shape}",
                "All slices of a volume must have one size and the same channels",
            )
    return np.stack(pictures)


def _grid_of_pictures(image: Source) -> Grid:
    if not isinstance(image, Stack):
        raise DataError(
            image,
            "is a picture, and a network of volumes is to be trained",
            "Give volumes, say with --set data.slices=PATTERN which pictures are slices of one, "
            "or take a network of pictures (`medseg systems list --dims 2`)",
        )
    height, width, _ = image.slices[0].read_image().shape
    return Grid((len(image.slices), height, width), None, "")


def _luma_or_grey(found: NDArray[Any], channels: int) -> NDArray[np.float32]:
    """Three channels ``(S, H, W, 3)`` become their luma (ITU-R 601), one becomes three."""
    if channels == 3:
        return np.repeat(found, 3, axis=3).astype(np.float32)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return (found.astype(np.float32) @ weights)[..., None]
