"""What every decoder of volumes hands over, and how it becomes slices of an image or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.geometry import Header
from medseg.data.io.pixels import (
    MaskFile,
    check_finite,
    check_labels,
    intensity_range,
    map_to_uint8,
    pack_colours,
)
from medseg.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Voxels:
    """A decoded volume.

    Attributes:
        header: where the voxels lie.
        values: (I, J, K) or (I, J, K, C), any real dtype, rescaled as the file says.
        colour: whether C = 3 are red, green and blue.
        window: the values that are shown as black and as white, or None.
        inverted: whether the smallest value is shown as white.
        palette: (N, 3) uint8 when ``values`` are palette indices.
        lossy: whether the compression may have changed values.
    """

    header: Header
    values: NDArray[Any]
    colour: bool = False
    window: tuple[float, float] | None = None
    inverted: bool = False
    palette: NDArray[np.uint8] | None = None
    lossy: bool = False


def as_pictures(voxels: Voxels) -> NDArray[np.uint8]:
    """(S, H, W, C) uint8.

    Values of another type are mapped by the window, else from the 0.1 to the 99.9 percentile of
    the whole volume, each channel by itself, so that slices are comparable.

    Raises:
        DataError: NaN or infinity.
    """
    values, path = voxels.values, voxels.header.files[0]
    if values.dtype == np.bool_:
        values = values.view(np.uint8) * np.uint8(255)
    if voxels.palette is not None:
        values = voxels.palette[np.minimum(values, len(voxels.palette) - 1)]
    check_finite(values, path)
    if values.ndim == 3:
        values = values[..., None]
    cut = voxels.header.slicing.cut(values)
    pictures = np.empty(cut.shape, np.uint8)
    together = voxels.colour or voxels.palette is not None
    channels = [slice(None)] if together else [slice(c, c + 1) for c in range(cut.shape[3])]
    for channel in channels:
        plane = cut[..., channel]
        span = voxels.window
        if span is None and plane.dtype != np.uint8:
            span = intensity_range(plane)
        for picture, stored in zip(pictures[..., channel], plane, strict=True):
            # Slice by slice: whole volumes would need eight bytes a voxel on the way.
            picture[...] = stored if span is None else map_to_uint8(stored, *span)
    return np.invert(pictures) if voxels.inverted else pictures


def as_labels(voxels: Voxels) -> MaskFile:
    """The stored values of a mask; ``values`` is (S, H, W), of the smallest type that holds them.

    Raises:
        DataError: several channels, colours, or values that are not whole numbers of at least 0.
    """
    path, values = voxels.header.files[0], voxels.values
    if values.ndim == 4:
        raise DataError(
            path,
            "holds colours" if voxels.colour else f"is 4D, with {values.shape[3]} channels",
            "Save the mask as one grey volume, a class value a voxel",
        )
    check_labels(values, path)
    most = int(values.max())
    kept = np.uint8 if most < 256 else np.uint16 if most < 65536 else np.int32
    cut = np.ascontiguousarray(voxels.header.slicing.cut(values)).astype(kept)
    palette = None if voxels.palette is None else pack_colours(voxels.palette)
    return MaskFile(cut, lossy=voxels.lossy, palette=palette)  # type: ignore[arg-type]
