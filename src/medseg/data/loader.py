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


def two_stream_batches(
    cache: CaseCache,
    labelled: NDArray[np.int64],
    unlabelled: NDArray[np.int64],
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    first_step: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator[CachedBatch]:
    """Batches of which the first half is labelled and the second is not.

    An epoch is one pass over the labelled cases, as in :func:`training_batches`. The unlabelled
    ones follow each other for ever, each pass over them in an order of its own.

    Args:
        cache: where the cases lie.
        labelled: rows of the labelled training cases.
        unlabelled: rows of the others.
        batch_size: over all processes, a multiple of twice ``processes``.
        seed: of the orders.
        epoch: counted from 0.
        first_step: where to start, to resume in the middle.
        rank: of this process.
        processes: that share each step.
    """
    half, share = batch_size // 2, batch_size // 2 // processes
    steps = len(labelled) // half
    order = epoch_order(seed, epoch, len(labelled))
    turns: dict[int, NDArray[np.int64]] = {}
    for step in range(first_step, steps):
        start = step * half + rank * share
        known = order[start : start + share]
        # Counted over the whole training.
        first = (epoch * steps + step) * half + rank * share
        others = []
        for count in range(first, first + share):
            turn, place = divmod(count, len(unlabelled))
            if turn not in turns:
                turns[turn] = _turn_order(seed, turn, len(unlabelled))
            others.append(turns[turn][place])
        rows = np.concatenate([labelled[known], unlabelled[others]])
        positions = [*range(start, start + share)]
        positions += [len(labelled) + position for position in positions]
        yield gather(cache, rows, positions)


def _turn_order(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    """The order of the unlabelled cases in their ``turn``-th pass."""
    return np.random.default_rng([seed, turn, 1]).permutation(count)


def ordered_batches(
    cache: CaseCache, rows: NDArray[np.int64], *, batch_size: int
) -> Iterator[CachedBatch]:
    """All cases of ``rows`` in their order; the last batch may be smaller."""
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        yield gather(cache, part, range(start, start + len(part)))
