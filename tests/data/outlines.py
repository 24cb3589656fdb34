"""Masks as other tools write them: run lengths, their compressed text, and polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def run_lengths(mask: NDArray[np.bool_]) -> list[int]:
    """COCO's uncompressed RLE: pixels outside and inside in turn, column by column."""
    lengths = [0]
    inside = False
    for pixel in mask.T.ravel().tolist():
        if pixel != inside:
            lengths.append(0)
            inside = pixel
        lengths[-1] += 1
    return lengths


def compressed(lengths: Sequence[int]) -> str:
    """COCO's compressed RLE."""
    text = ""
    for index, length in enumerate(lengths):
        rest = length - (lengths[index - 2] if index > 2 else 0)
        while True:
            group, rest = rest & 31, rest >> 5
            is_last = rest == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if is_last else 32))
            if is_last:
                break
    return text


def one_ring(mask: NDArray[np.bool_]) -> list[float]:
    """One polygon of all pixels: every square drawn from the corner of the image and back."""
    ring: list[float] = []
    for y, x in np.argwhere(mask).tolist():
        ring += [0, 0, x, y, x + 1, y, x + 1, y + 1, x, y + 1, x, y]
    return ring
