"""Cross-entropy and soft Dice for binary and multi-class segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE


def probabilities(logits: Tensor) -> Tensor:
    """Sigmoid of one logit channel, softmax over several; same shape."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary (one logit channel) or categorical cross-entropy: the mean over images of the mean
    over the known pixels of each.

    Args:
        logits: ``(B, K, H, W)``.
        mask: ``(B, H, W)`` class indices, 0 is background, ``IGNORE`` is not known.
    """
    known = mask != IGNORE
    target = mask.masked_fill(~known, 0)
    if logits.shape[1] == 1:
        each = F.binary_cross_entropy_with_logits(
            logits[:, 0], target.to(logits.dtype), reduction="none"
        )
    else:
        each = F.cross_entropy(logits, target.long(), reduction="none")
    return ((each * known).sum((-2, -1)) / known.sum((-2, -1)).clamp_min(1)).mean()


def dice_loss(logits: Tensor, mask: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, averaged over images and foreground classes (Milletari et al. 2016).

    ``1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s)`` with sums over the known pixels of one image,
    so the mean over a batch does not depend on how the batch is divided among processes.

    Args:
        logits: ``(B, K, H, W)``.
        mask: ``(B, H, W)`` class indices, 0 is background, ``IGNORE`` is not known.
        smooth: s, in pixels; makes an empty prediction of an empty class worth 0.
    """
    p = probabilities(logits)
    known = mask != IGNORE
    target = mask.masked_fill(~known, 0)
    if logits.shape[1] == 1:
        t = target.unsqueeze(1).to(p.dtype)
    else:
        p = p[:, 1:]
        t = F.one_hot(target.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].to(p.dtype)
    p = p * known.unsqueeze(1)
    overlap = (p * t).sum((-2, -1))
    total = p.sum((-2, -1)) + t.sum((-2, -1))
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()
