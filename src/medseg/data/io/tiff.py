"""Single-page 2D TIFF, read with tifffile; LZW and JPEG compression with Pillow."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.data.io.pixels import NotAPictureError, Picture, check_size
from medseg.errors import DataError

SUFFIXES = frozenset({".tif", ".tiff"})
SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

# TIFF 6.0: none, deflate (two codes), PackBits. Others need a codec that tifffile does not bring.
PLAIN_COMPRESSIONS = frozenset({1, 8, 32946, 32773})
JPEG_COMPRESSIONS = frozenset({6, 7, 34892, 33007})
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE = 0, 1, 2, 3
_COLOURS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1}


def header(file: BinaryIO, path: Path) -> tuple[int, int, int]:
    """Height and width as stored, and the orientation tag, without decoding pixels."""
    import tifffile

    with tifffile.TiffFile(file, name=path.name) as tiff:
        page = tiff.pages.first
        return int(page.imagelength), int(page.imagewidth), _orientation(page)


def decode(file: BinaryIO, path: Path, max_pixels: int) -> Picture:
    """Decode the only page of a TIFF.

    Raises:
        DataError: too large, several pages, a volume, or channels other than grey, RGB or palette.
    """
    import tifffile

    with tifffile.TiffFile(file, name=path.name) as tiff:
        page = tiff.pages.first
        check_size(path, int(page.imagelength), int(page.imagewidth), max_pixels)
        if is_volume(tiff):
            raise NotAPictureError(
                path, "holds several pages, so it is a volume", "Save one image per file"
            )
        channels = int(page.samplesperpixel)
        colours = channels - len(page.extrasamples)
        # JPEG inside TIFF usually stores YCbCr, which Pillow turns into RGB.
        known = int(page.compression) in JPEG_COMPRESSIONS
        if (not known and colours != _COLOURS.get(int(page.photometric))) or channels > 4:
            raise DataError(
                path,
                f"has {channels} channels of kind {getattr(page.photometric, 'name', '?')}",
                "Save it as grey, RGB or RGBA",
            )
        if int(page.compression) not in PLAIN_COMPRESSIONS:
            return _decode_with_pillow(file, page)
        samples = page.asarray()
        if samples.ndim == 3:
            if samples.shape != (page.imagelength, page.imagewidth, channels):
                samples = np.moveaxis(samples, 0, -1)
            samples = samples[..., 0] if colours == 1 else samples[..., :3]
        return Picture(black_is_zero(samples, page), _orientation(page), palette(page))


def _decode_with_pillow(file: BinaryIO, page: Any) -> Picture:
    from PIL.TiffImagePlugin import TiffImageFile

    from medseg.data.io.raster import to_picture

    file.seek(0)
    image = TiffImageFile(file)
    # Pillow itself turns the pixels of some TIFFs while decoding; what it did is in its size.
    lossy = int(page.compression) in JPEG_COMPRESSIONS
    return to_picture(image, 1, lossy)


def pages_with_pillow(path: Path) -> NDArray[Any]:
    """All pages (S, H, W) or (S, H, W, 3) of a file whose compression only Pillow decodes."""
    from PIL.TiffImagePlugin import TiffImageFile

    from medseg.data.io.raster import to_picture

    with path.open("rb") as file:
        image = TiffImageFile(file)
        pages = []
        for index in range(image.n_frames):
            image.seek(index)
            pages.append(to_picture(image, 1, lossy=False).samples)
    return np.stack(pages)


def is_volume(tiff: Any) -> bool:
    """Whether an opened TIFF holds more than one picture; thumbnails do not count."""
    full_pages = [page for page in tiff.pages if not page.is_reduced]
    series = tiff.series[0]
    return len(full_pages) > 1 or math.prod(series.shape) != math.prod(tiff.pages.first.shape)


def _orientation(page: Any) -> int:
    tag = page.tags.get("Orientation")
    value = int(tag.value) if tag is not None else 1
    return value if 1 <= value <= 8 else 1


def palette(page: Any) -> NDArray[np.uint8] | None:
    """The colours (N, 3) of a page of palette indices, else None."""
    if int(page.photometric) != _PALETTE:
        return None
    return np.asarray(page.colormap >> 8, np.uint8).T


def black_is_zero(samples: NDArray[Any], page: Any) -> NDArray[Any]:
    """The samples of a page, inverted where its 0 is white."""
    if int(page.photometric) != _WHITE_IS_ZERO:
        return samples
    return np.invert(samples) if samples.dtype.kind in "bu" else -samples
