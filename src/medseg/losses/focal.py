"""Losses of interactive segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE


def focal_loss(logits: Tensor, mask: Tensor, *, gamma: float = 20.0) -> Tensor:
    """Binary focal loss (Lin et al. 2017, arXiv 1708.02002): the mean over images of the mean
    over the known pixels of ``(1 - p)^gamma * -log p``, where p is the truth's probability.

    Args:
        logits: ``(B, 1, H, W)``.
        mask: ``(B, H, W)`` 0, 1 or ``IGNORE``.
        gamma: how much less pixels count that are nearly right; 0 gives the cross-entropy.
    """
    known = mask != IGNORE
    right = torch.where(mask == 1, logits[:, 0], -logits[:, 0])
    each = -F.logsigmoid(right) * torch.sigmoid(-right) ** gamma * known
    return (each.sum((1, 2)) / known.sum((1, 2)).clamp_min(1)).mean()


def squared_dice_loss(logits: Tensor, mask: Tensor, *, smooth: float = 1e-7) -> Tensor:
    """1 - soft Dice with squared sums (Milletari et al. 2016, arXiv 1606.04797), mean over images.

    ``1 - (2 sum(p t) + s) / (sum(p^2) + sum(t^2) + s)`` over the known pixels of an image.

    Args:
        logits: ``(B, 1, H, W)``.
        mask: ``(B, H, W)`` 0, 1 or ``IGNORE``.
        smooth: s.
    """
    p = torch.sigmoid(logits[:, 0]) * (mask != IGNORE)
    t = (mask == 1).to(p.dtype)
    overlap, total = ((x.flatten(1).sum(1)) for x in (p * t, p.square() + t))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()
