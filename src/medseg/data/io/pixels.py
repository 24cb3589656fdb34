"""What every decoder hands over, and how it becomes an image or a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.errors import DataError

MAX_PIXELS = 100_000_000
"""Images with more pixels are refused before they are decoded."""

# Lossy compression tints grey pixels by a few values.
_LOSSY_TINT = 16


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded file, before it is read as an image or as a mask.

    Attributes:
        samples: (H, W) or (H, W, 3), any real dtype; bool for 1-bit files.
        orientation: the EXIF orientation, 1..8, not yet applied.
        palette: (N, 3) uint8 when ``samples`` are palette indices.
        step: above 1 when the decoder stretched 2- or 4-bit values to 0..255; stored values are
            ``samples // step``.
        lossy: whether the compression may have changed values.
    """

    samples: NDArray[Any]
    orientation: int = 1
    palette: NDArray[np.uint8] | None = None
    step: int = 1
    lossy: bool = False


@dataclass(frozen=True, slots=True)
class MaskFile:
    """What a mask file stores, before its values are given meaning.

    Attributes:
        values: (H, W) int32: the grey value or palette index; 0 or 1 for 1-bit files; 0xRRGGBB
            where ``rgb``.
        rgb: whether the file holds colours: RGB with channels that differ somewhere, in a lossy
            file by more than 16.
        lossy: whether values may be off by compression (JPEG, or WebP not known to be lossless).
        palette: (N,) int32, the 0xRRGGBB of each palette index, or None without a palette.
    """

    values: NDArray[np.int32]
    rgb: bool = False
    lossy: bool = False
    palette: NDArray[np.int32] | None = None


class NotAPictureError(DataError):
    """A file of another kind: a volume, an animation, or no image at all."""


class TooManyPixelsError(DataError):
    """An image larger than is allowed."""


def check_size(path: Path, height: int, width: int, max_pixels: int) -> None:
    """Refuse an empty or oversized image.

    Raises:
        DataError: the header promises no pixels.
        TooManyPixelsError: or more than ``max_pixels``.
    """
    if height < 1 or width < 1:
        raise DataError(path, f"its header says {width} x {height} pixels", "Export it again")
    if height * width > max_pixels:
        raise TooManyPixelsError(
            path,
            f"its header says {width} x {height} pixels, more than the {max_pixels:,} allowed",
            "Downscale or tile it, or raise the limit if the file can be trusted",
        )


def orient(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Apply an EXIF orientation (1..8) to an array of shape (H, W, ...)."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array


def pack_colours(colours: NDArray[np.uint8]) -> NDArray[np.int32]:
    """(..., 3) uint8 to (...) int32 0xRRGGBB."""
    wide = colours.astype(np.int32)
    return (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]


def unpack_colours(values: NDArray[Any]) -> NDArray[np.uint8]:
    """(...) 0xRRGGBB to (..., 3) uint8."""
    return np.stack([values >> 16 & 255, values >> 8 & 255, values & 255], axis=-1).astype(np.uint8)


def scale_to_uint8(samples: NDArray[Any]) -> NDArray[np.uint8]:
    """Map the 0.1 .. 99.9 percentiles of a whole image linearly to 0..255, clipping the rest.

    When both percentiles coincide the extremes take their place; a constant image gives 0.
    """
    return map_to_uint8(samples, *intensity_range(samples))


def intensity_range(samples: NDArray[Any]) -> tuple[float, float]:
    """The 0.1 and the 99.9 percentile; the extremes where those coincide."""
    low, high = (float(value) for value in np.percentile(samples, (0.1, 99.9)))
    if high <= low:
        low, high = float(samples.min()), float(samples.max())
    return low, high


def map_to_uint8(samples: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map ``low`` .. ``high`` linearly to 0..255, clipping the rest; where they coincide, to 0."""
    if high <= low:
        return np.zeros(samples.shape, np.uint8)
    scaled = (samples.astype(np.float64) - low) / (high - low) * 255
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def as_image(picture: Picture, path: Path) -> NDArray[np.uint8]:
    """(H, W, C) uint8, C = 1 for grey and 3 for colour, EXIF orientation applied.

    Raises:
        DataError: a float image holds NaN or infinity.
    """
    samples = picture.samples
    if picture.palette is not None:
        samples = picture.palette[np.minimum(samples, len(picture.palette) - 1)]
    if samples.dtype == np.bool_:
        samples = samples.astype(np.uint8) * 255
    check_finite(samples, path)
    if samples.dtype != np.uint8:
        samples = scale_to_uint8(samples)
    if samples.ndim == 2:
        samples = samples[..., None]
    return np.ascontiguousarray(orient(samples, picture.orientation))


def as_mask(picture: Picture, path: Path) -> MaskFile:
    """The stored values of a mask, EXIF orientation applied.

    Raises:
        DataError: values that are not whole numbers in 0 .. 2**31 - 1, or colours of more than
            8 bits.
    """
    samples = orient(picture.samples, picture.orientation)
    if samples.ndim == 3:
        if _is_grey(samples, _LOSSY_TINT if picture.lossy else 0):
            samples = samples[..., 1]
        elif samples.dtype != np.uint8:
            raise DataError(
                path, f"holds colours of type {samples.dtype}", "Save the mask as 8-bit RGB or grey"
            )
        else:
            return MaskFile(pack_colours(samples), rgb=True, lossy=picture.lossy)
    check_labels(samples, path)
    values = np.ascontiguousarray(samples).astype(np.int32)
    palette = None if picture.palette is None else pack_colours(picture.palette)
    return MaskFile(values // picture.step, lossy=picture.lossy, palette=palette)


def check_labels(samples: NDArray[Any], path: Path) -> None:
    """Refuse what is no mask.

    Raises:
        DataError: values that are not whole numbers in 0 .. 2**31 - 1.
    """
    check_finite(samples, path)
    if np.issubdtype(samples.dtype, np.floating) and not np.array_equal(samples, np.rint(samples)):
        raise DataError(
            path,
            "holds fractions, so it is not a label mask",
            "Save class values as whole numbers, or threshold the probabilities first",
        )
    if samples.dtype.kind in "iuf" and (samples.min() < 0 or samples.max() > 2**31 - 1):
        raise DataError(
            path,
            f"holds values from {samples.min()} to {samples.max()}",
            "Save class values between 0 and 65535",
        )


def _is_grey(samples: NDArray[Any], tint: int) -> bool:
    """Whether the channels of (H, W, 3) nowhere differ by more than ``tint``."""
    if tint == 0:
        red, green, blue = np.moveaxis(samples, -1, 0)
        return np.array_equal(red, green) and np.array_equal(green, blue)
    return int((samples.max(axis=-1) - samples.min(axis=-1)).max()) <= tint


def check_finite(samples: NDArray[Any], path: Path) -> None:
    """Refuse NaN and infinity.

    Raises:
        DataError: there are some.
    """
    if np.issubdtype(samples.dtype, np.floating) and not np.isfinite(samples).all():
        count = int(np.count_nonzero(~np.isfinite(samples)))
        raise DataError(
            path, f"{count} pixels are NaN or infinite", "Replace them before saving the file"
        )


def unreadable(path: Path, error: Exception) -> DataError:
    """What to say of a file that a decoder failed on."""
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
