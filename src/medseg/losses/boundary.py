"""The boundary loss: each pixel's probability, weighed by its signed distance to the outline."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.losses.region import foreground, total


def boundary_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """The mean of probability times signed distance, over known pixels, classes and images.

    Distances are in pixels, above 0 outside and at most 0 inside, so the least value, at the truth,
    is negative. A class that an image lacks, or that fills it, has no outline and counts as 0:
    the loss says nothing there and is meant to be added to a region loss, with a small weight
    (the paper raises it from 0.01, by 0.01 an epoch; here it stays as given).

    Args:
        logits: ``(B, K, *S)``.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known: it counts as
            outside of all classes when distances are taken, and is left out of the mean.

    Source:
        Kervadec, Bouchtiba, Desrosiers, Granger, Dolz, Ben Ayed 2019 (arXiv 1812.07032).
    """
    p, t, known = foreground(logits, mask)
    return (total(p * distance_field(t)) / total(known).clamp_min(1)).mean()


def distance_field(truth: Tensor) -> Tensor:
    """:func:`signed_distance` of each class of each image: ``(B, F, *S)``, 0 or 1, to the same."""
    if truth.is_meta:  # forecasts of memory have tensors without content
        return torch.empty_like(truth)
    inside = truth.detach().cpu().numpy() > 0
    fields = np.stack([[signed_distance(each) for each in classes] for classes in inside])
    return torch.from_numpy(fields).to(truth)


def signed_distance(inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of each pixel or voxel to the object: outside, to its nearest pixel; inside,
    1 less than to the nearest pixel outside, and negative. 0 where there is no outline.
    """
    from scipy.ndimage import distance_transform_edt

    if not inside.any() or inside.all():
        return np.zeros(inside.shape, np.float32)
    outer, inner = distance_transform_edt(~inside), distance_transform_edt(inside)
    found: NDArray[np.float32] = np.where(inside, 1 - inner, outer).astype(np.float32)
    return found
