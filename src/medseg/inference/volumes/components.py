"""Dropping small or secondary components of the mask of a volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medseg.inference.bundle import Postprocessing


def clean_volume(classes: NDArray[np.uint8], rules: Postprocessing) -> NDArray[np.uint8]:
    """Apply ``rules`` to every foreground class by itself; voxels that touch at a corner belong
    together.

    Args:
        classes: ``(S, H, W)`` class indices; what is dropped becomes background, in place.
        rules: of the model.
    """
    if not rules.keep_largest and rules.min_pixels <= 1:
        return classes
    from scipy import ndimage

    touching = np.ones((3, 3, 3), bool)
    # Only the box around a class is numbered: that takes four bytes a voxel.
    for index, box in enumerate(ndimage.find_objects(classes), start=1):
        if box is None:
            continue
        inside = classes[box]
        numbers, _ = ndimage.label(inside == index, touching)
        sizes = np.bincount(numbers.ravel())[1:]
        wanted = sizes >= rules.min_pixels
        if rules.keep_largest:
            wanted &= np.arange(len(sizes)) == int(np.argmax(sizes))
        inside[(numbers > 0) & ~np.append(False, wanted)[numbers]] = 0
    return classes
