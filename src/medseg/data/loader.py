"""Batches from the cache, in an order that depends only on the seed and the epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medseg.data.cache import CaseCache


@dataclass(frozen=True)
class CachedBatch:
    """Raw cases of one step.

    Attributes:
        image: ``(B, C, S, S)`` uint8.
        mask: ``(B, S, S)`` uint8 class indices.
        case_id: names of the B cases.
        position: places in the epoch's order, which key the augmentation.
    """

    image: Tensor
    mask: Tensor
    case_id: tuple[str, ...]
    position: tuple[int, ...]


def epoch_order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of ``count`` cases."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def gather(cache: CaseCache, rows: NDArray[np.int64], positions: Sequence[int]) -> CachedBatch:
    """Read the cases at ``rows`` of the cache."""
    batch = CachedBatch(
        image=torch.from_numpy(cache.images[rows]).permute(0, 3, 1, 2),
        mask=torch.from_numpy(cache.masks[rows]),
        case_id=tuple(cache.ids[row] for row in rows),
        position=tuple(positions),
    )
    cache.release()
    return batch


def training_batches(
    cache: CaseCache,
    rows: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[CachedBatch]:
    """Shuffled batches of one epoch; an incomplete last one is left out.

    Every step takes ``batch_size`` cases, of which each process gets an equal run, so that any
    number of processes sees the same cases in the same step.

    Args:
        cache: where the cases lie.
        rows: of the training cases.
        batch_size: over all processes, a multiple of ``processes``.
        seed: of the order.
        epoch: counted from 0.
        first_step: where to start, to resume in the middle.
        rank: of this process.
        processes: that share each step.
    """
    order = epoch_order(seed, epoch, len(rows))
    share = batch_size // processes
    for step in range(first_step, len(rows) // batch_size):
        start = step * batch_size + rank * share
        positions = range(start, start + share)
        yield gather(cache, rows[order[start : start + share]], positions)


def ordered_batches(
    cache: CaseCache, rows: NDArray[np.int64], *, batch_size: int
) -> Iterator[CachedBatch]:
    """All cases of ``rows`` in their order; the last batch may be smaller."""
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield gather(cache, part, range(start, start + len(part)))
