"""Orders in which the pixels of a map become a sequence, and back.

An order of a grid is a permutation of its places: entry ``i`` is the place, counted row by row, of
what comes ``i``-th. Of a published network's pattern it is the whole description:

==================  ===========================================================================
raster, column      Mamba; with their reverses the four directions of VMamba (arXiv 2401.10166)
snake               continuous scan, PlainMamba (arXiv 2403.17695)
windows             local scan, LocalMamba (arXiv 2403.09338)
strided             atrous scan, EfficientVMamba (arXiv 2403.09977)
across              inter-slice scan, SegMamba (arXiv 2401.13560)
==================  ===========================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def places(size: Sequence[int]) -> Tensor:
    """The places of a grid of ``size``, counted row by row, as an int64 tensor of that size."""
    return torch.arange(math.prod(size)).view(*size)


def raster(size: Sequence[int]) -> Tensor:
    """Row by row (and slice by slice); ``(prod(size),)`` int64, as all that follow."""
    return places(size).flatten()


def column(size: Sequence[int]) -> Tensor:
    """The last axis slowest: of a map column by column, from above."""
    return places(size).permute(*reversed(range(len(size)))).flatten()


def snake(size: Sequence[int]) -> Tensor:
    """Row by row, every second one backwards, so that what follows is always a neighbour.

    Of a volume every second slice runs backwards as a whole.
    """
    grid = places(size[-2:]).clone()
    grid[1::2] = grid[1::2].flip(-1)
    order = grid.flatten()
    for count in reversed(size[:-2]):
        rows = order + torch.arange(count)[:, None] * order.numel()
        rows[1::2] = rows[1::2].flip(-1)
        order = rows.flatten()
    return order


def windows(size: Sequence[int], side: int) -> Tensor:
    """Window by window, each row by row; those at the end of an axis may be smaller."""
    coordinates = torch.stack(torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    coarse, fine = coordinates // side, coordinates % side
    keys = [*coarse.flatten(1), *fine.flatten(1)]
    order = raster(size)
    for key in reversed(keys):  # stable sorts by the least important key first
        order = order[torch.argsort(key[order], stable=True)]
    return order


def strided(size: Sequence[int], step: int, offset: Sequence[int]) -> Tensor:
    """Row by row over every ``step``-th place of each axis, from ``offset``: a part of the grid.

    The parts of all offsets, each below ``step``, are the whole.
    """
    picked = places(size)[tuple(slice(start, None, step) for start in offset)]
    return picked.flatten()


def across(size: Sequence[int]) -> Tensor:
    """All slices at one pixel, then at the next: of ``(D, H, W)`` with D fastest."""
    return places(size).movedim(0, -1).flatten()


def inverse(order: Tensor) -> Tensor:
    """``sequence[inverse(order)]`` has the places' order again, if ``sequence = x[order]``."""
    back = torch.empty_like(order)
    back[order] = torch.arange(order.numel(), device=order.device)
    return back


def cross_scan(x: Tensor) -> Tensor:
    """``(B, C, H, W)`` to ``(B, 4, C, H W)``: row by row, column by column, and both reversed."""
    rows = torch.stack([x.flatten(2), x.transpose(-1, -2).flatten(2)], dim=1)
    return torch.cat([rows, rows.flip(-1)], dim=1)


def cross_merge(sequences: Tensor, size: Sequence[int]) -> Tensor:
    """``(B, 4, C, H W)`` in the orders of :func:`cross_scan` to their sum, ``(B, C, H, W)``."""
    height, width = size
    forward, backward = sequences.chunk(2, dim=1)
    rows, columns = (forward + backward.flip(-1)).unbind(1)
    batch, channels = rows.shape[:2]
    turned = columns.reshape(batch, channels, width, height).transpose(-1, -2)
    return rows.reshape(batch, channels, height, width) + turned
