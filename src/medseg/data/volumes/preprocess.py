"""From the voxels of a file to what a network of volumes takes; the same for training and
prediction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medseg.data.volumes.normalise import Intensity
from medseg.data.volumes.resample import (
    Shape,
    Triple,
    axis_apart,
    resample_image,
    resample_mask,
    resampled_shape,
)


def prepare_image(
    image: NDArray[np.float32],
    rules: Sequence[Intensity],
    spacing: Triple | None,
    target: Triple | None,
) -> NDArray[np.float32]:
    """Normalise each channel, then resample.

    In this order, so that no statistics depend on the grid.

    Args:
        image: ``(C, S, H, W)``, as stored.
        rules: C of them.
        spacing: of the volume in mm; None where it is not known.
        target: the network's; None where volumes are not resampled.

    Returns:
        ``(C, S', H', W')`` float32.
    """
    normalised = np.stack(
        [rule.of(channel)(channel) for channel, rule in zip(image, rules, strict=True)]
    )
    _, slices, rows, columns = normalised.shape
    shape = network_shape((slices, rows, columns), spacing, target)
    return resample_image(normalised, shape, apart=_apart(spacing, target))


def prepare_mask(
    mask: NDArray[np.uint8], spacing: Triple | None, target: Triple | None
) -> NDArray[np.uint8]:
    """Resample ``(S, H, W)`` class indices to the grid of :func:`prepare_image`."""
    slices, rows, columns = mask.shape
    shape = network_shape((slices, rows, columns), spacing, target)
    return resample_mask(mask, shape, apart=_apart(spacing, target))


def network_shape(shape: Shape, spacing: Triple | None, target: Triple | None) -> Shape:
    """Slices, rows and columns of a volume as the network sees it."""
    if spacing is None or target is None:
        return shape
    return resampled_shape(shape, spacing, target)


def _apart(spacing: Triple | None, target: Triple | None) -> int | None:
    return None if spacing is None or target is None else axis_apart(spacing, target)
