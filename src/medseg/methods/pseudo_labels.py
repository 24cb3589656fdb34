"""Making labels out of predictions."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor


def largest_components(classes: Tensor) -> Tensor:
    """Of every class only its largest component in each image; the rest becomes background.

    Pixels that touch at a corner are one component; of several largest ones the first stays.

    Args:
        classes: ``(B, *S)`` integer class indices.

    Returns:
        The same shape, dtype and device.
    """
    found = classes.cpu().numpy()
    kept = np.zeros_like(found)
    touching = np.ones((3,) * (found.ndim - 1))
    for index in np.unique(found[found > 0]):
        for image, cleaned in zip(found, kept, strict=True):
            numbers, count = ndimage.label(image == index, touching)
            if count:
                sizes = np.bincount(numbers.ravel())[1:]
                cleaned[numbers == 1 + sizes.argmax()] = index
    return torch.from_numpy(kept).to(classes.device)
