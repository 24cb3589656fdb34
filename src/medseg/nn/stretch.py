"""Resizing that keeps the corners."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from medseg.nn.dims import LINEAR


def stretch(x: Tensor, size: Sequence[int]) -> Tensor:
    """Linear resize of ``(B, C, *spatial)`` to ``size``; the centres of corner pixels stay corners.

    Pixels move by up to half of one against :func:`medseg.nn.blocks.resize_to`.
    """
    return F.interpolate(x, size=tuple(size), mode=LINEAR[len(size)], align_corners=True)
