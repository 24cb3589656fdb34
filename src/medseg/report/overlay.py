"""Contours over an image: what a person looks at first."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import LabelMap

Picture = NDArray[np.uint8]

# M. Okabe and K. Ito's palette, told apart with every common colour vision deficiency; ordered so
# that the first ones also stand out against grey and tissue.
CLASS_COLOURS: tuple[tuple[int, int, int], ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermilion
    (0, 114, 178),  # blue
)


def class_colour(index: int) -> tuple[int, int, int]:
    """The colour of foreground class ``index`` (1, 2, ...); colours repeat after the seventh."""
    return CLASS_COLOURS[(index - 1) % len(CLASS_COLOURS)]


def draw_contours(
    image: NDArray[np.uint8],
    mask: NDArray[Any],
    *,
    truth: NDArray[Any] | None = None,
    labels: LabelMap,
) -> Picture:
    """Draw the outline of every class of ``mask`` over ``image``.

    Outlines are solid, in the class's colour, inside the region, and as wide as 1/200 of the
    longer side. The truth, when given, is drawn below them in black and white dashes, which stay
    visible on any background.

    Args:
        image: (H, W, C) uint8; one channel is shown as grey, of more than four the first three.
        mask: (H, W) class indices.
        truth: (H, W) class indices to compare with, or None.
        labels: the classes; indices beyond them are refused.

    Returns:
        (H, W, 3) uint8; ``image`` is not changed.

    Raises:
        ValueError: the sizes differ, or a mask holds an index that ``labels`` does not have.
    """
    picture = to_rgb(image)
    width = max(1, round(max(mask.shape) / 200))
    for name, drawn in (("truth", truth), ("mask", mask)):
        if drawn is None:
            continue
        if drawn.shape != picture.shape[:2]:
            raise ValueError(f"{name} {drawn.shape} and image {picture.shape[:2]} differ in size")
        if drawn.size and int(drawn.max()) >= len(labels.labels):
            raise ValueError(f"{name} holds class {drawn.max()} of {len(labels.labels)}")
        for index in range(1, len(labels.labels)):
            line = outline(drawn == index, width)
            if name == "truth":
                picture[line] = _dashes(line, 4 * width)
            else:
                picture[line] = class_colour(index)
    return picture


def outline(region: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """The pixels of a region within ``width`` pixels (city-block) of its outside.

    What lies beyond the image counts as outside, so that a region touching the frame is closed.
    """
    inside = region
    for _ in range(width):
        padded = np.pad(inside, 1)
        inside = (
            inside & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        )
    return region & ~inside


def to_rgb(image: NDArray[np.uint8]) -> Picture:
    """A copy of a (H, W) or (H, W, C) image as (H, W, 3): grey is repeated, alpha dropped."""
    channels = image[..., None] if image.ndim == 2 else image
    if channels.shape[2] < 3:
        return np.repeat(channels[..., :1], 3, axis=2)
    return channels[..., :3].copy()


def thumbnail(picture: NDArray[np.uint8], size: int = 256) -> Picture:
    """Resize a (H, W, 3) picture so that its longer side is ``size`` pixels, up or down."""
    from PIL import Image

    smooth = Image.fromarray(picture).resize(_fit(picture, size), Image.Resampling.LANCZOS)
    return np.asarray(smooth, dtype=np.uint8)


def mask_thumbnail(mask: NDArray[Any], size: int = 256) -> NDArray[Any]:
    """Resize a (H, W) mask like `thumbnail`, taking the nearest pixel: no class is invented."""
    width, height = _fit(mask, size)
    rows = (np.arange(height) + 0.5) * mask.shape[0] / height
    columns = (np.arange(width) + 0.5) * mask.shape[1] / width
    resized: NDArray[Any] = mask[np.ix_(rows.astype(int), columns.astype(int))]
    return resized


def _fit(picture: NDArray[Any], size: int) -> tuple[int, int]:
    height, width = picture.shape[:2]
    scale = size / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _dashes(line: NDArray[np.bool_], period: int) -> Picture:
    rows, columns = np.nonzero(line)
    white = (rows + columns) // period % 2 == 0
    grey = np.where(white, 255, 0).astype(np.uint8)
    return np.repeat(grey[:, None], 3, axis=1)
