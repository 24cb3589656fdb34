"""Golden cases: what any way of computing a model must answer as PyTorch does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import prod

import numpy as np
from numpy.typing import NDArray

from medseg.data.case import IGNORE
from medseg.data.slices import Whole
from medseg.data.volumes.cache import VolumeCache
from medseg.data.volumes.read import Grid, grid_of, read_image
from medseg.data.volumes.resample import Shape
from medseg.inference.bundle import Golden, VolumeInput
from medseg.inference.volumes.model import VolumeModel
from medseg.inference.volumes.predictor import VolumeOptions

MAX_VALUES = 32_768
"""Voxels by channels of a golden piece of a volume."""

CANDIDATES = 4
"""Times as many cases are looked at as are chosen."""

# Engines differ in the last digits of a probability. Closer to a decision than this, rounding
# makes it, and the mask of such a pixel proves nothing.
_UNDECIDED = 2e-5


def clearest(found: Iterable[tuple[float, Golden]], count: int) -> tuple[Golden, ...]:
    """The first ``count`` cases.

    A case with a pixel that rounding decides makes place for the next one, where there is one;
    of several such cases the clearest stay.

    Args:
        found: cases in order of preference, each with its :func:`margin`; of those that nobody
            needs, none is asked for.
        count: how many.
    """
    chosen: list[Golden] = []
    spare: list[tuple[float, Golden]] = []
    for distance, golden in found if count else ():
        if distance > _UNDECIDED:
            chosen.append(golden)
        else:
            spare.append((distance, golden))
        if len(chosen) == count:
            break
    spare.sort(key=lambda each: -each[0])
    return tuple([*chosen, *(golden for _, golden in spare)][:count])


def margin(probabilities: NDArray[np.float32], threshold: float) -> float:
    """How far the least certain pixel's ``(K, ...)`` probabilities are from another decision."""
    if len(probabilities) == 1:
        return float(np.abs(probabilities - threshold).min())
    best = np.sort(probabilities, axis=0)
    return float((best[-1] - best[-2]).min())


def choose_golden_volumes(
    model: VolumeModel, volumes: Sequence[Whole], cache: VolumeCache, count: int
) -> tuple[Golden, ...]:
    """A piece of each of ``count`` volumes, and the mask that ``model`` gives it.

    A piece is as large as the model's window, or smaller (:data:`MAX_VALUES`), and has the middle
    of the structures in its own middle as far as the volume's edges allow.

    Args:
        model: on the CPU, calibrated.
        volumes: in order of preference.
        cache: that holds them; says where the structures are.
        count: how many; none for 0.
    """
    pieces = (_piece(model, whole, cache) for whole in islice(volumes, CANDIDATES * count))
    return clearest(_answered(model, pieces), count)


def piece_shape(grid: Grid, settings: VolumeInput, channels: int) -> Shape:
    """Slices, rows and columns of a piece of a volume: those of the window on the volume's own
    grid, the longest made shorter until all channels have :data:`MAX_VALUES` at most."""
    scales = [1.0, 1.0, 1.0]
    if grid.spacing is not None and settings.spacing_mm is not None:
        scales = [
            wanted / own for own, wanted in zip(grid.spacing, settings.spacing_mm, strict=True)
        ]
    sides = [
        max(1, min(length, round(patch * scale)))
        for length, patch, scale in zip(grid.shape, settings.patch, scales, strict=True)
    ]
    while channels * prod(sides) > MAX_VALUES:
        sides[int(np.argmax(sides))] -= 1
    return sides[0], sides[1], sides[2]


def _piece(
    model: VolumeModel, whole: Whole, cache: VolumeCache
) -> tuple[NDArray[np.float32], Grid]:
    """Stored values ``(C, S, H, W)`` of a part of a volume, and the volume's grid."""
    settings, channels = model.settings, model.manifest.preprocessing.channels
    stored = read_image(whole.image, channels, settings.plane, max_pixels=model.max_pixels)
    grid = grid_of(whole.image, settings.plane)
    (row,) = cache.rows([whole.id])
    middle = _middle(cache.mask(int(row)))
    parts = []
    for length, side, place in zip(
        grid.shape, piece_shape(grid, settings, channels), middle, strict=True
    ):
        start = min(max(0, round(place * length - side / 2)), length - side)
        parts.append(slice(start, start + side))
    return np.ascontiguousarray(stored[:, *parts]), grid


def _middle(mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Of the structures, as a share of each axis; that of the volume where there are none."""
    places = np.argwhere((mask > 0) & (mask != IGNORE))
    if not len(places):
        return np.full(3, 0.5)
    found: NDArray[np.float64] = (places.mean(axis=0) + 0.5) / mask.shape
    return found


def _answered(
    model: VolumeModel, pieces: Iterable[tuple[NDArray[np.float32], Grid]]
) -> Iterator[tuple[float, Golden]]:
    for image, grid in pieces:
        found = model.predict_array(image, grid.spacing, VolumeOptions(with_probabilities=True))
        assert found.probabilities is not None
        distance = margin(found.probabilities, model.manifest.threshold)
        yield distance, Golden(image, found.classes, grid.spacing)
