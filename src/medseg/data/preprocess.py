"""From a decoded image to what a network sees; the same for training and prediction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medseg.errors import DataError, plural


def to_channels(image: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """``(H, W, C)`` to ``(H, W, channels)``: grey is repeated, colour becomes luma.

    Luma is ITU-R 601 (0.299 R + 0.587 G + 0.114 B, rounded), which leaves R = G = B unchanged.

    Raises:
        DataError: one is neither grey nor colour, and the numbers differ.
    """
    if image.shape[2] == channels:
        return image
    if not {image.shape[2], channels} <= {1, 3}:
        raise DataError(
            "image", f"has {plural(image.shape[2], 'channel')} where {channels} are needed",
            "Give the channels that the model was trained on",
        )  # fmt: skip
    if channels == 3:
        return np.repeat(image, 3, axis=2)
    return np.asarray(Image.fromarray(image).convert("L"))[:, :, None]


def resize_image(image: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Resize to ``(size, size, C)`` with an antialiasing triangle filter; values stay in 0..255.

    The aspect ratio is not kept. Arithmetic is float, without rounding to 8 bits.
    """
    if image.shape[:2] == (size, size):
        return image.astype(np.float32)
    planes = [
        Image.fromarray(image[:, :, c].astype(np.float32)).resize(
            (size, size), Image.Resampling.BILINEAR
        )
        for c in range(image.shape[2])
    ]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def resize_mask(mask: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize ``(H, W)`` class indices to ``(size, size)`` by nearest neighbour."""
    if mask.shape == (size, size):
        return mask
    return np.asarray(Image.fromarray(mask).resize((size, size), Image.Resampling.NEAREST))
