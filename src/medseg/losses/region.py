"""Cross-entropy and soft Dice for binary and multi-class segmentation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE


def probabilities(logits: Tensor) -> Tensor:
    """Sigmoid of one logit channel, softmax over several; same shape."""
    return torch.sigmoid(logits) if logits.shape[1] == 1 else torch.softmax(logits, dim=1)


def total(values: Tensor) -> Tensor:
    """``(B, F, *S)`` to ``(B, F)``: sums over an image or volume."""
    return values.sum(tuple(range(2, values.ndim)))


def foreground(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities and truth of the foreground classes, 0 where nothing is known.

    Args:
        logits: ``(B, K, *S)``, of images or volumes.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.

    Returns:
        ``(B, F, *S)`` probabilities, ``(B, F, *S)`` truth, 0 or 1, and ``(B, 1, *S)``, 1 where a
        pixel is known; F is 1 for one logit channel, else K - 1.
    """
    p = probabilities(logits)
    known = (mask != IGNORE).unsqueeze(1)
    target = mask.masked_fill(~known[:, 0], 0)
    if logits.shape[1] == 1:
        t = target.unsqueeze(1).to(p.dtype)
    else:
        p = p[:, 1:]
        t = F.one_hot(target.long(), logits.shape[1]).movedim(-1, 1)[:, 1:].to(p.dtype)
    return p * known, t, known.to(p.dtype)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary (one logit channel) or categorical cross-entropy: the mean over images of the mean
    over the known pixels of each.

    Args:
        logits: ``(B, K, *S)``, of images or volumes.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
    """
    known = mask != IGNORE
    target = mask.masked_fill(~known, 0)
    if logits.shape[1] == 1:
        each = F.binary_cross_entropy_with_logits(
            logits[:, 0], target.to(logits.dtype), reduction="none"
        )
    else:
        each = F.cross_entropy(logits, target.long(), reduction="none")
    image = tuple(range(1, mask.ndim))
    return ((each * known).sum(image) / known.sum(image).clamp_min(1)).mean()


def dice_loss(logits: Tensor, mask: Tensor, *, smooth: float = 1.0) -> Tensor:
    """1 - soft Dice, averaged over images and foreground classes (Milletari et al. 2016).

    ``1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s)`` with sums over the known pixels of one image,
    so the mean over a batch does not depend on how the batch is divided among processes.

    Args:
        logits: ``(B, K, *S)``, of images or volumes.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
        smooth: s, in pixels; makes an empty prediction of an empty class worth 0.
    """
    p, t, _ = foreground(logits, mask)
    return 1 - ((2 * total(p * t) + smooth) / (total(p) + total(t) + smooth)).mean()
