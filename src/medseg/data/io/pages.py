"""TIFF files of several pages: a slice a page, without a place in the body."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import tiff
from medseg.data.io.geometry import Header, make_header
from medseg.data.io.voxels import Voxels
from medseg.errors import DataError
from medseg.files import atomic_path

WRITTEN = ".tif"

_DESCRIPTION = 270


def has_pages(path: Path) -> bool:
    """Whether a TIFF holds more than one picture."""
    if _is_plain(path):
        return False
    import tifffile

    with tifffile.TiffFile(path) as file:
        return tiff.is_volume(file)


def read_header(files: tuple[Path, ...]) -> Header:
    import tifffile

    with tifffile.TiffFile(files[0]) as file:
        return _header(files, file)


def read_voxels(files: tuple[Path, ...]) -> Voxels:
    import tifffile

    path = files[0]
    with tifffile.TiffFile(path) as file:
        header = _header(files, file)
        page = file.pages.first
        if int(page.compression) in tiff.PLAIN_COMPRESSIONS:
            values = tiff.black_is_zero(file.series[0].asarray(), page)
        else:
            values = tiff.pages_with_pillow(path)
        palette = tiff.palette(page)
        lossy = int(page.compression) in tiff.JPEG_COMPRESSIONS
    count, height, width = header.shape[::-1]
    further = (-1,) if header.colour else ()
    values = values.reshape(count, height, width, *further)
    values = np.moveaxis(values, (0, 1, 2), (2, 1, 0))
    if header.colour:
        return Voxels(header, values[..., :3], colour=True, lossy=lossy)
    return Voxels(header, values, palette=palette, lossy=lossy)


def write_mask(path: Path, values: NDArray[Any], like: tuple[Path, ...]) -> None:
    """Write a mask of (I, J, K) with K pages."""
    import tifffile

    with atomic_path(path) as part:
        tifffile.imwrite(
            part,
            np.ascontiguousarray(values.transpose(2, 1, 0)),
            photometric="minisblack",
            compression="zlib",
            metadata=None,
        )


def _header(files: tuple[Path, ...], file: Any) -> Header:
    path = files[0]
    series, page = file.series[0], file.pages.first
    axes = series.axes.replace("X", "").replace("Y", "")
    colours = int(page.samplesperpixel)
    if len(file.series) > 1:
        raise DataError(path, "its pages differ in size or type", "Save one image per file")
    samples = axes.removesuffix("S")
    if len(samples) != 1 or samples in "CS" or (colours > 1 and not axes.endswith("S")):
        raise DataError(
            path,
            f"has the axes {series.axes} ({' x '.join(map(str, series.shape))})",
            "Save pages of grey or RGB pictures, or one image per file",
        )
    if colours not in (1, 3, 4):
        raise DataError(path, f"has {colours} channels a page", "Save it as grey or RGB")
    shape = (int(page.imagewidth), int(page.imagelength), int(series.shape[0]))
    return make_header(files, shape, None, colour=colours > 1)


def _is_plain(path: Path) -> bool:
    """Whether the first page is the only one and no description speaks of more; False if unsure.

    A look at the file's first directory, because opening each with a library costs more than all
    else that is done with a small picture.
    """
    with path.open("rb") as file:
        order = {b"II*\0": "<", b"MM\0*": ">"}.get(file.read(4))
        if order is None:
            return False
        try:
            (start,) = struct.unpack(f"{order}I", file.read(4))
            file.seek(start)
            (count,) = struct.unpack(f"{order}H", file.read(2))
            table = file.read(12 * count + 4)
            (following,) = struct.unpack_from(f"{order}I", table, 12 * count)
            tags = [struct.unpack_from(f"{order}H", table, 12 * i)[0] for i in range(count)]
        except struct.error:
            return False
        return following == 0 and _DESCRIPTION not in tags
