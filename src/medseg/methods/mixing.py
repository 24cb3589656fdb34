"""Putting images together from two, as CutMix does (Yun et al. 2019, arXiv 1905.04899)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def outside_box(size: Sequence[int], share: float, device: torch.device) -> Tensor:
    """1 everywhere but in a box at a random place, where it is 0.

    Args:
        size: of the image along each axis.
        share: side of the box over the image's, in (0, 1); rounded down.
        device: of the result. The place is drawn on the CPU, so that it is the same everywhere.

    Returns:
        ``(*size)`` float.
    """
    outside = torch.ones(tuple(size))
    sides = [int(length * share) for length in size]
    corner = [
        int(torch.randint(length - side, ())) for length, side in zip(size, sides, strict=True)
    ]
    box = tuple(slice(start, start + side) for start, side in zip(corner, sides, strict=True))
    outside[box] = 0
    return outside.to(device)


def paste(ground: Tensor, piece: Tensor, outside: Tensor) -> Tensor:
    """``ground`` where ``outside`` is 1, else ``piece``; ``outside`` is the same for all images.

    Args:
        ground: ``(B, C, *S)`` images or ``(B, *S)`` masks.
        piece: likewise.
        outside: ``(*S)``.
    """
    return torch.where(outside.bool(), ground, piece)
