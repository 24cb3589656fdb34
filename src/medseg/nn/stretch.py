"""Resizing that keeps the corners."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def stretch(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of ``(B, C, H, W)`` to ``size``; the centres of corner pixels stay corners.

    Pixels move by up to half of one against :func:`medseg.nn.blocks.resize_to`.
    """
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)
