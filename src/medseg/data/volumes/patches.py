"""Patches of cached volumes, in an order and at places that depend on the seed and epoch alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.data.case import IGNORE
from medseg.data.loader import epoch_order
from medseg.data.volumes.cache import VolumeCache
from medseg.data.volumes.resample import Shape

T = TypeVar("T", bound=np.generic)

# Beside the numbers of a key, so that what is drawn here is drawn nowhere else.
_PLACE = 3


@dataclass(frozen=True)
class CachedPatches:
    """Raw patches of one step.

    Attributes:
        image: ``(B, C, *patch)`` float16, normalised; 0 outside the volume.
        mask: ``(B, *patch)`` uint8 class indices; ``IGNORE`` outside the volume.
        case_id: names of the B volumes.
        position: places in the epoch's order, which key the augmentation.
    """

    image: Tensor
    mask: Tensor
    case_id: tuple[str, ...]
    position: tuple[int, ...]


@dataclass(frozen=True)
class Sampling:
    """How patches are taken.

    Attributes:
        patch: slices, rows and columns.
        per_volume: patches of each volume in an epoch.
        foreground: share of them centred on a voxel of a structure, as far as the volume's border
            lets it be the centre; of each structure that a volume shows alike.
        seed: of the order and the places.
    """

    patch: Shape
    per_volume: int
    foreground: float
    seed: int


def training_patches(
    cache: VolumeCache,
    rows: NDArray[np.int64],
    sampling: Sampling,
    *,
    batch_size: int,
    epoch: int,
    first_step: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[CachedPatches]:
    """Shuffled batches of one epoch; an incomplete last one is left out.

    Every step takes ``batch_size`` patches, of which each process gets an equal run, so that any
    number of processes sees the same patches in the same step.

    Args:
        cache: where the volumes lie.
        rows: of the training volumes.
        sampling: how patches are taken.
        batch_size: over all processes, a multiple of ``processes``.
        epoch: counted from 0.
        first_step: where to start, to resume in the middle.
        rank: of this process.
        processes: that share each step.
    """
    count = len(rows) * sampling.per_volume
    order = epoch_order(sampling.seed, epoch, count)
    share = batch_size // processes
    for step in range(first_step, count // batch_size):
        start = step * batch_size + rank * share
        positions = range(start, start + share)
        chosen = [int(rows[order[position] % len(rows)]) for position in positions]
        yield gather_patches(cache, chosen, positions, sampling, epoch)


def unlabelled_patches(
    cache: VolumeCache,
    rows: NDArray[np.int64],
    sampling: Sampling,
    *,
    share: int,
    epoch: int,
    step: int,
    steps: int,
    rank: int,
    processes: int,
    offset: int,
) -> CachedPatches:
    """The unlabelled half of a step: volumes follow each other for ever, shuffled each time.

    Args:
        cache: where the volumes lie.
        rows: of the unlabelled training volumes.
        sampling: how patches are taken; they are nowhere centred on anything.
        share: patches for this process.
        epoch: counted from 0.
        step: of the epoch.
        steps: of an epoch.
        rank: of this process.
        processes: that share the step.
        offset: added to the places in the epoch's order, beyond those of the labelled half.
    """
    first = (step * processes + rank) * share
    chosen = []
    for place in range(first, first + share):
        turn, row = divmod(epoch * steps * share * processes + place, len(rows))
        chosen.append(int(rows[epoch_order(sampling.seed, turn, len(rows))[row]]))
    anywhere = Sampling(sampling.patch, sampling.per_volume, 0.0, sampling.seed)
    positions = range(offset + first, offset + first + share)
    return gather_patches(cache, chosen, positions, anywhere, epoch)


def gather_patches(
    cache: VolumeCache,
    rows: Sequence[int],
    positions: Sequence[int],
    sampling: Sampling,
    epoch: int,
) -> CachedPatches:
    """A patch of each volume in ``rows``, at the place that its position in the epoch gives it."""
    images, masks = [], []
    for row, position in zip(rows, positions, strict=True):
        corner = patch_corner(
            cache.shapes[row], cache.places(row), sampling, (sampling.seed, epoch, position)
        )
        images.append(cut_patch(cache.image(row), corner, sampling.patch, 0))
        masks.append(cut_patch(cache.mask(row)[None], corner, sampling.patch, IGNORE)[0])
    return CachedPatches(
        image=torch.from_numpy(np.stack(images)),
        mask=torch.from_numpy(np.stack(masks)),
        case_id=tuple(cache.ids[row] for row in rows),
        position=tuple(positions),
    )


def patch_corner(
    shape: Shape, places: NDArray[np.int32], sampling: Sampling, key: Sequence[int]
) -> Shape:
    """Where a patch begins; negative along axes on which the volume is smaller than it.

    A volume that is smaller lies anywhere in its patch, so that a network does not learn that
    structures are in the middle.

    Args:
        shape: of the volume.
        places: voxels of structures, as :meth:`VolumeCache.places` gives them.
        sampling: how patches are taken.
        key: seed, epoch and position: the whole randomness. The position alone decides whether
            the patch is centred, so that every batch holds its share of those that are.
    """
    random = np.random.default_rng([*key, _PLACE])
    lowest = [min(0, length - side) for length, side in zip(shape, sampling.patch, strict=True)]
    highest = [max(0, length - side) for length, side in zip(shape, sampling.patch, strict=True)]
    anywhere = random.integers(lowest, highest, endpoint=True)
    # Both are drawn whichever is used.
    kind, one = random.random(2)
    position = key[-1]
    centred = math.floor((position + 1) * sampling.foreground) > math.floor(
        position * sampling.foreground
    )
    if centred and len(places):
        shown = np.unique(places[:, 0])
        voxels = places[places[:, 0] == shown[int(kind * len(shown))], 1:]
        centre = voxels[int(one * len(voxels))]
        anywhere = np.clip(centre - np.array(sampling.patch) // 2, lowest, highest)
    slices, rows, columns = (int(start) for start in anywhere)
    return slices, rows, columns


def cut_patch(volume: NDArray[T], corner: Shape, patch: Shape, outside: int) -> NDArray[T]:
    """``(C, *patch)`` of ``(C, S, H, W)`` from ``corner`` on, ``outside`` where there is none."""
    found = np.full((volume.shape[0], *patch), outside, volume.dtype)
    spans = [
        (max(0, start), min(length, start + side))
        for start, side, length in zip(corner, patch, volume.shape[1:], strict=True)
    ]
    source = tuple(slice(low, high) for low, high in spans)
    into = tuple(
        slice(low - start, high - start) for (low, high), start in zip(spans, corner, strict=True)
    )
    found[(slice(None), *into)] = volume[(slice(None), *source)]
    return found
