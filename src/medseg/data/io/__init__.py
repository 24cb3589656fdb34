"""Reading images and masks from files, and writing masks.

A file's content, not its name, decides how it is decoded.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.data.io import raster, tiff
from medseg.data.io.pixels import MAX_PIXELS, MaskFile, Picture, as_image, as_mask
from medseg.errors import DataError
from medseg.files import atomic_path

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MaskFile",
    "image_size",
    "is_image_file",
    "is_rotated",
    "read_image",
    "read_mask",
    "write_mask",
]

IMAGE_SUFFIXES: frozenset[str] = raster.SUFFIXES | tiff.SUFFIXES


def is_image_file(path: Path) -> bool:
    """Whether the name is that of an image; hidden files and macOS's ``._*`` are not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def image_size(path: Path) -> tuple[int, int]:
    """(height, width) in pixels after EXIF rotation, read from the header only.

    Raises:
        DataError: the file is missing or not an image.
    """
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
        path: a PNG, JPEG, BMP, GIF, WebP or TIFF file.
        max_pixels: larger images are refused before they are decoded.

    Returns:
        (H, W, C) uint8, with C = 1 for a grey file and 3 for a colour file.

    Raises:
        DataError: missing, unreadable, damaged, too large, several pages or frames, NaN.
    """
    return as_image(_decode(path, max_pixels), path)


def read_mask(path: Path, *, max_pixels: int = MAX_PIXELS) -> MaskFile:
    """Read a mask's stored values with its EXIF rotation applied.

    An RGB file whose three channels agree is read as grey.

    Raises:
        DataError: as :func:`read_image`, and values that are not whole numbers of at least 0.
    """
    return as_mask(_decode(path, max_pixels), path)


def write_mask(path: Path, values: NDArray[Any]) -> None:
    """Write a mask as PNG, atomically.

    Args:
        path: must end in ``.png``.
        values: (H, W) whole numbers in 0..65535, stored with 8 bits if they fit and 16 if not,
            or (H, W, 3) uint8 colours.

    Raises:
        DataError: another suffix, shape or range.
        MedsegError: the folder cannot be written.
    """
    if path.suffix.lower() != ".png":
        raise DataError(path, "masks are written as PNG", "Choose a name that ends in .png")
    grey = values.ndim == 2 and values.dtype.kind in "bui"
    colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not values.size or not (grey or colour) or values.min() < 0 or values.max() > 65535:
        raise DataError(
            path,
            f"a mask of shape {values.shape} and type {values.dtype} cannot be written",
            "Give (H, W) whole numbers in 0..65535 or (H, W, 3) uint8 colours",
        )
    stored = values.astype(np.uint16 if values.max() > 255 else np.uint8)
    with atomic_path(path) as part:
        Image.fromarray(stored).save(part, format="PNG")


def _header(path: Path) -> tuple[int, int, int]:
    try:
        with path.open("rb") as file:
            return _module(file, path).header(file, path)  # type: ignore[no-any-return]
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _decode(path: Path, max_pixels: int) -> Picture:
    # Damaged files make decoders raise almost anything: OSError, SyntaxError, struct.error,
    # IndexError, zlib.error, MemoryError ...
    try:
        with path.open("rb") as file:
            picture: Picture = _module(file, path).decode(file, path, max_pixels)
            return picture
    except DataError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _module(file: BinaryIO, path: Path) -> ModuleType:
    start = file.read(4)
    file.seek(0)
    if not start:
        raise DataError(path, "is empty", "Copy or export it again")
    return tiff if start in tiff.SIGNATURES else raster


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(path, "does not exist", "Check the name")
    if isinstance(error, IsADirectoryError):
        return DataError(path, "is a folder", "Name an image file")
    if isinstance(error, PermissionError):
        return DataError(path, "may not be read", "Check its permissions")
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        path,
        f"cannot be decoded ({reason})",
        "It is damaged or incomplete: copy or export it again",
    )
