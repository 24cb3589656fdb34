"""Reading images and masks from files, and writing masks.

A file's content, not its name, decides how it is decoded.
"""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from medseg.data.io import raster, tiff, volume
from medseg.data.io.pixels import (
    MAX_PIXELS,
    MaskFile,
    Picture,
    as_image,
    as_mask,
    check_size,
    unreadable,
)
from medseg.data.io.raster import write_mask
from medseg.errors import DataError

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MaskFile",
    "image_size",
    "is_image_file",
    "is_rotated",
    "read_image",
    "read_image_bytes",
    "read_mask",
    "stem",
    "write_mask",
]

IMAGE_SUFFIXES: frozenset[str] = raster.SUFFIXES | tiff.SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image or volume; hidden files and macOS's ``._*`` are not."""
    name = path.name.lower()
    known = path.suffix.lower() in IMAGE_SUFFIXES or name.endswith(volume.SUFFIXES)
    return known and not name.startswith(".")


def stem(name: str) -> str:
    """A path without the suffix of its image; ``.nii.gz`` is one suffix.

    >>> stem("site 1/scan.2.nii.gz")
    'site 1/scan.2'
    """
    folder, slash, last = name.rpartition("/")
    packed = last.lower().endswith(".nii.gz")
    return f"{folder}{slash}{last[: -len('.nii.gz')] if packed else Path(last).stem}"


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels after EXIF rotation, of a volume's slices; from the header only.

    Raises:
        DataError: the file is missing or not an image.
    """
    if volume.is_volume(path):
        header = volume.read_header(volume.volume_files(path))
        _, *size = (header.shape[axis] for axis in header.slicing.order)
        return size[0], size[1]
    height, width, orientation = _header(path)
    return (width, height) if orientation >= 5 else (height, width)


def is_rotated(path: Path) -> bool:
    """Whether EXIF rotation swaps the file's height and width.

    Raises:
        DataError: the file is missing or not an image.
    """
    return _header(path)[2] >= 5


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Read a 2D image with its EXIF rotation applied.

    Palettes and CMYK become RGB, alpha is dropped, 1-bit images become 0 and 255. Images of more
    than 8 bits (16-bit, 32-bit, float) are scaled linearly from their 0.1 to their 99.9
    percentile to 0..255, all channels together; constant ones become 0.

    Args:
        path: a PNG, JPEG, BMP, GIF, WebP or TIFF file, or a volume of one slice.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W, C) uint8, with C = 1 for a grey file and 3 for a colour file.

    Raises:
        DataError: missing, unreadable, damaged, too large, several pages or frames, NaN.
    """
    if volume.is_volume(path):
        image: NDArray[np.uint8] = volume.read_pictures(_flat(path, max_pixels))[0]
        return image
    return as_image(_decode(path, max_pixels), path)


def read_image_bytes(data: bytes, name: str, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """:func:`read_image` for the content of a file, which must not be a volume.

    Args:
        data: the file.
        name: what errors call it.
        max_pixels: larger images are refused before they are decoded.

    Raises:
        NotAPictureError: a volume, several pages or frames, or no image at all.
        TooManyPixelsError: larger than ``max_pixels``.
        DataError: damaged, or NaN.
    """
    path = Path(name)
    return as_image(_decode_open(io.BytesIO(data), path, max_pixels), path)


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
    """Read a mask's stored values with its EXIF rotation applied.

    An RGB file whose three channels agree is read as grey.

    Raises:
        DataError: as :func:`read_image`, and values that are not whole numbers of at least 0.
    """
    if volume.is_volume(path):
        mask = volume.read_labels(_flat(path, max_pixels))
        return replace(mask, values=mask.values[0].astype(np.int32))
    return as_mask(_decode(path, max_pixels), path)


def _flat(path: Path, max_pixels: int) -> tuple[Path, ...]:
    """The files of a volume that is only one picture."""
    files = volume.volume_files(path)
    header = volume.read_header(files)
    volume.check_slices(header, max_pixels)
    if header.num_slices > 1:
        raise DataError(
            path,
            f"is a volume of {header.num_slices} slices where one picture is needed",
            "Name a single image, or predict the volume with `medseg predict`",
        )
    return files


def _header(path: Path) -> tuple[int, int, int]:
    try:
        with path.open("rb") as file:
            return _module(file, path).header(file, path)  # type: ignore[no-any-return]
    except DataError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def _decode(path: Path, max_pixels: int) -> Picture:
    try:
        with path.open("rb") as file:
            return _decode_open(file, path, max_pixels)
    except DataError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def _decode_open(file: BinaryIO, path: Path, max_pixels: int) -> Picture:
    # Damaged files make decoders raise almost anything: OSError, SyntaxError, struct.error,
    # IndexError, zlib.error, MemoryError ...
    try:
        picture: Picture = _module(file, path).decode(file, path, max_pixels)
        # A damaged header may promise other pixels than there are.
        height, width = picture.samples.shape[:2]
        check_size(path, height, width, max_pixels)
        return picture
    except DataError:
        raise
    except Exception as error:
        raise unreadable(path, error) from error


def _module(file: BinaryIO, path: Path) -> ModuleType:
    start = file.read(4)
    file.seek(0)
    if not start:
        raise DataError(path, "is empty", "Copy or export it again")
    return tiff if start in tiff.SIGNATURES else raster
