"""From a volume as it is stored to the grid of the network, and back."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import LabelMap
from medseg.data.io import pages
from medseg.data.io.geometry import MAX_VOXELS, Header, Slicing, slicing
from medseg.data.io.volume import read_header, write_mask_like
from medseg.data.labels import decode_mask
from medseg.data.slices import volume_of
from medseg.data.source import Source
from medseg.data.volumes.normalise import Normalisation
from medseg.data.volumes.read import Grid, grid_of, read_image
from medseg.data.volumes.resample import (
    Shape,
    Triple,
    axis_apart,
    nearest_places,
    resampled_shape,
)
from medseg.errors import DataError
from medseg.inference.bundle import VolumeInput

T = TypeVar("T", bound=np.generic)

# Output slices of a spline at a time, and input slices around those it needs: beyond them the
# spline's own reach has fallen below float32's last digit.
_CHUNK, _HALO = 16, 14

# What SciPy adds to each axis before a spline.
_PADDED = 24


def reading_bytes(source: Source, grid: Grid, shape: Shape, channels: int) -> int:
    """Bytes that :func:`read_for_network` takes at its peak, at most.

    Args:
        source: of the volume.
        grid: its own.
        shape: the network's.
        channels: of the network's input.
    """
    files = volume_of(source)
    decoding = channels if files is None else read_header(files).decoding
    stored, wanted = prod(grid.shape), prod(shape)
    # Where there are several channels, they are put together, and turned.
    reading = stored * (decoding + 4 * (1 if channels == 1 else 3 * channels))
    if shape == grid.shape:
        return reading
    rows = _CHUNK * grid.shape[0] / shape[0] + 2 * _HALO + _PADDED
    spline = 20 * rows * (grid.shape[1] + _PADDED) * (grid.shape[2] + _PADDED)
    return max(reading, 4 * channels * (stored + wanted) + round(spline))


def network_shape(grid: Grid, settings: VolumeInput, where: object) -> Shape:
    """Slices, rows and columns of a volume as the network sees it.

    Raises:
        DataError: the model needs to know the spacing, and the files do not say it, or say one
            that would make the volume too large.
    """
    if settings.spacing_mm is None:
        return grid.shape
    if grid.spacing is None:
        raise DataError(
            where,
            "does not say the spacing of its voxels, which the model resamples to "
            f"{_mm(settings.spacing_mm)}",
            "Export it as NIfTI or DICOM with its spacing",
        )
    shape = resampled_shape(grid.shape, grid.spacing, settings.spacing_mm)
    if prod(shape) > MAX_VOXELS:
        raise DataError(
            where,
            f"says a spacing of {_mm(grid.spacing)}; resampled to the model's "
            f"{_mm(settings.spacing_mm)} it would have {prod(shape):,} voxels",
            "Correct the spacing in its header, or crop it",
        )
    return shape


def read_for_network(
    source: Source, settings: VolumeInput, channels: int, max_pixels: int
) -> tuple[NDArray[np.float32], Shape]:
    """Read, turn, normalise and resample a volume.

    Returns:
        ``(C, S, H, W)`` for the network, and the shape of the volume before it was resampled.

    Raises:
        DataError: it cannot be read, or does not fit the model.
    """
    grid = grid_of(source, settings.plane)
    shape = network_shape(grid, settings, source)
    stored = read_image(source, channels, settings.plane, max_pixels=max_pixels)
    return for_network(stored, grid.spacing, settings, shape), grid.shape


def for_network(
    stored: NDArray[np.float32], spacing: Triple | None, settings: VolumeInput, shape: Shape
) -> NDArray[np.float32]:
    """Normalise each channel of ``(C, S, H, W)`` stored values and resample it to ``shape``.

    The values may be overwritten. They become what
    :func:`medseg.data.volumes.resample.resample_image` makes of normalised ones, but a volume that
    is splined in 3D is so a few slices at a time, because a spline takes 16 bytes a voxel.
    """
    apart = None
    if spacing is not None and settings.spacing_mm is not None:
        apart = axis_apart(spacing, settings.spacing_mm)
    normalise = [
        intensity.of(channel) for intensity, channel in zip(settings.intensity, stored, strict=True)
    ]
    if stored.shape[1:] == shape:
        for channel, scale in zip(stored, normalise, strict=True):
            for plane in channel:
                plane[...] = scale(plane)
        return stored
    found = np.empty((len(stored), *shape), np.float32)
    for into, channel, scale in zip(found, stored, normalise, strict=True):
        if apart is None:
            _spline(channel, scale, into)
        else:
            _spline_apart(channel, scale, into, apart)
        np.clip(into, *_range(channel, scale), out=into)
    return found


def padding(shape: Sequence[int], window: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Voxels to add before and after each axis, so that the window fits."""
    missing = [max(0, least - length) for length, least in zip(shape, window, strict=True)]
    return tuple((each // 2, each - each // 2) for each in missing)


def turned(header: Header, plane: str) -> Slicing:
    """How the stored axes become those of the network."""
    return slicing(header.shape, header.affine, plane) if plane else header.slicing


def as_shown(slices: NDArray[T], files: tuple[Path, ...] | None, plane: str) -> NDArray[T]:
    """Network slices ``(S, H, W, ...)`` as those in which the volume is shown, a view; the same
    where the volume is a stack of pictures, and no file."""
    if files is None:
        return slices
    header = read_header(files)
    shown: NDArray[T] = header.slicing.cut(turned(header, plane).join(slices))
    return shown


def write_classes(
    path: Path, shown: NDArray[np.uint8], labels: LabelMap, files: tuple[Path, ...] | None
) -> None:
    """Write classes ``(S, H, W)``, in the slices of :func:`as_shown`, as a mask on the grid of the
    volume ``files``, or as pages of a TIFF.

    Raises:
        MedsegError: the folder cannot be written.
    """
    values: NDArray[np.unsignedinteger[Any]] | None = None
    # Slice by slice: looking values up takes eight bytes a voxel.
    for index, plane in enumerate(shown):
        decoded = decode_mask(plane, labels)
        if values is None:
            values = np.empty(shown.shape, decoded.dtype)
        values[index] = decoded
    assert values is not None
    if files is None:
        pages.write_mask(path, values.transpose(2, 1, 0), ())
    else:
        write_mask_like(path, values, files)


def _mm(spacing: Triple) -> str:
    return f"{' x '.join(f'{mm:g}' for mm in spacing)} mm"


def _spline(channel: NDArray[np.float32], scale: Normalisation, into: NDArray[np.float32]) -> None:
    """A cubic spline along all axes, a few slices at a time."""
    from scipy import ndimage

    steps = [own / wanted for own, wanted in zip(channel.shape, into.shape, strict=True)]
    shifts = [0.5 * step - 0.5 for step in steps]
    for start in range(0, len(into), _CHUNK):
        chunk = into[start : start + _CHUNK]
        first = start * steps[0] + shifts[0]
        low = max(0, int(first) - _HALO)
        high = min(len(channel), int(first + len(chunk) * steps[0]) + 2 + _HALO)
        ndimage.affine_transform(
            scale(channel[low:high]), steps, [first - low, *shifts[1:]], chunk.shape, chunk,
            order=3, mode="nearest",
        )  # fmt: skip


def _spline_apart(
    channel: NDArray[np.float32], scale: Normalisation, into: NDArray[np.float32], apart: int
) -> None:
    """The nearest place along the axis ``apart``, a cubic spline along the other two."""
    from scipy import ndimage

    source, target = np.moveaxis(channel, apart, 0), np.moveaxis(into, apart, 0)
    factors = [new / old for new, old in zip(target.shape[1:], source.shape[1:], strict=True)]
    places = nearest_places(len(source), len(target)).tolist()
    for index, place in enumerate(places):
        if index and place == places[index - 1]:
            target[index] = target[index - 1]
            continue
        picture = scale(source[place])
        if set(factors) != {1}:
            picture = ndimage.zoom(picture, factors, order=3, mode="nearest", grid_mode=True)
        target[index] = picture


def _range(channel: NDArray[np.float32], scale: Normalisation) -> tuple[np.float32, np.float32]:
    """Of the normalised values; normalising keeps their order."""
    ends = np.array([channel.min(), channel.max()])
    low, high = scale(ends)
    return low, high
