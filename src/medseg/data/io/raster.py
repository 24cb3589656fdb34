"""PNG, JPEG, BMP, GIF and WebP, read with Pillow.

Pillow's format classes are opened directly rather than through ``Image.open``: the file's first
bytes choose the format, and the size is checked against our limit instead of Pillow's global one,
whose warning cannot be silenced per thread.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import Image, fromarray
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from medseg.data.io.pixels import NotAPictureError, Picture, check_size
from medseg.errors import DataError
from medseg.files import atomic_path

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp"})

_SIGNATURES: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"BM", BmpImageFile),
    (b"GIF8", GifImageFile),
    (b"RIFF", WebPImageFile),
)
_ORIENTATION_TAG = 0x0112


def header(file: BinaryIO, path: Path) -> tuple[int, int, int]:
    """Height and width as stored, and the EXIF orientation, without decoding pixels."""
    image = _open(file, path)
    return image.height, image.width, exif_orientation(image.info.get("exif", b""))


def decode(file: BinaryIO, path: Path, max_pixels: int) -> Picture:
    """Decode one still image.

    16-bit colour PNGs keep their upper 8 bits, which is all that Pillow decodes.

    Raises:
        DataError: not one of the formats, too large, or animated.
    """
    image = _open(file, path)
    check_size(path, image.height, image.width, max_pixels)
    if getattr(image, "n_frames", 1) > 1:
        raise NotAPictureError(
            path, "holds several frames, so it is no still image", "Save one image per file"
        )
    orientation = exif_orientation(image.info.get("exif", b""))
    lossy = isinstance(image, JpegImageFile) or (
        isinstance(image, WebPImageFile) and not _is_lossless_webp(file)
    )
    return to_picture(image, orientation, lossy)


def to_picture(image: Image, orientation: int, lossy: bool) -> Picture:
    """Decode a Pillow image of any mode; alpha is dropped."""
    step = _stretch(image)
    palette = None
    if image.mode in ("P", "PA"):
        samples = np.asarray(image if image.mode == "P" else image.getchannel("P"))
        colours = image.getpalette("RGB") or []
        palette = np.array(colours, np.uint8).reshape(-1, 3)
    elif image.mode in ("LA", "La"):
        samples = np.asarray(image)[..., 0]
    elif image.mode in ("RGBA", "RGBX", "RGBa"):
        samples = np.asarray(image)[..., :3]
    elif image.mode in ("1", "L", "I", "F", "RGB") or image.mode.startswith("I;16"):
        samples = np.asarray(image)
    else:
        samples = np.asarray(image.convert("RGB"))
    return Picture(samples, orientation, palette, step, lossy)


def exif_orientation(exif: bytes) -> int:
    """The orientation (1..8) in a block of EXIF data; 1 when absent or damaged.

    Read here because Pillow warns about damage elsewhere in the block.
    """
    data = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None:
        return 1
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (entries,) = struct.unpack_from(f"{order}H", data, start)
        for index in range(entries):
            tag, value = struct.unpack_from(f"{order}H6xH", data, start + 2 + 12 * index)
            if tag == _ORIENTATION_TAG:
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


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
    picture = mask_picture(values, path)
    with atomic_path(path) as part:
        picture.save(part, format="PNG")


def mask_picture(values: NDArray[Any], where: object = "mask") -> Image:
    """What :func:`write_mask` saves.

    Raises:
        DataError: another shape or range.
    """
    grey = values.ndim == 2 and values.dtype.kind in "bui"
    colour = values.ndim == 3 and values.shape[2] == 3 and values.dtype == np.uint8
    if not values.size or not (grey or colour) or values.min() < 0 or values.max() > 65535:
        raise DataError(
            where,
            f"a mask of shape {values.shape} and type {values.dtype} cannot be written",
            "Give (H, W) whole numbers in 0..65535 or (H, W, 3) uint8 colours",
        )
    return fromarray(values.astype(np.uint16 if values.max() > 255 else np.uint8))


def _open(file: BinaryIO, path: Path) -> ImageFile:
    start = file.read(16)
    file.seek(0)
    for signature, image_class in _SIGNATURES:
        if start.startswith(signature):
            return image_class(file, str(path))
    raise NotAPictureError(
        path,
        f"is not a PNG, JPEG, BMP, GIF, WebP or TIFF image (it starts with {start!r})",
        "Export it again from its source",
    )


def _is_lossless_webp(file: BinaryIO) -> bool:
    file.seek(12)
    return file.read(4) == b"VP8L"


def _stretch(image: Image) -> int:
    """The factor by which Pillow multiplies 2- and 4-bit grey PNG values."""
    tiles = image.tile if isinstance(image, PngImageFile) else []
    return {"L;2": 85, "L;4": 17}.get(str(tiles[0].args), 1) if tiles else 1
