"""Losses over a part of each image, for images that are put together from several.

All take logits ``(B, K, *S)``, class indices ``(B, *S)`` (``IGNORE`` is not known) and a part
``(*S)`` or ``(B, *S)``, 1 where pixels count. K counts the background; a binary task's single
logit is the foreground's, and the background's is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE


def two_logits(logits: Tensor) -> Tensor:
    """``(B, 1, *S)`` as ``(B, 2, *S)`` with the same probabilities; more channels as they are."""
    return torch.cat([torch.zeros_like(logits), logits], 1) if logits.shape[1] == 1 else logits


def part_cross_entropy(logits: Tensor, mask: Tensor, part: Tensor) -> Tensor:
    """Mean categorical cross-entropy of the known pixels of a part, over the whole batch."""
    target, counts = _known(mask, part)
    each = F.cross_entropy(two_logits(logits), target, reduction="none")
    return (each * counts).sum() / (counts.sum() + 1e-16)


def part_dice(logits: Tensor, mask: Tensor, part: Tensor) -> Tensor:
    """1 - soft Dice of a part, the mean over all images and classes, background included.

    ``1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s)`` with s = 1e-5 pixels.
    """
    p, t, counts = _probabilities(logits, mask, part)
    pixels = tuple(range(2, p.ndim))
    overlap, sizes = (p * t * counts).sum(pixels), ((p + t) * counts).sum(pixels)
    return 1 - ((2 * overlap + 1e-5) / (sizes + 1e-5)).mean()


def part_dice_of_batch(logits: Tensor, mask: Tensor, part: Tensor) -> Tensor:
    """1 - soft Dice of a part, with sums over the batch, the mean over all classes, background
    included.

    ``1 - (2 sum(p t) + s) / (sum(p^2) + sum(t^2) + s)`` with s = 1e-10 pixels.
    """
    p, t, counts = _probabilities(logits, mask, part)
    pixels = (0, *range(2, p.ndim))
    overlap, sizes = (p * t * counts).sum(pixels), ((p.square() + t) * counts).sum(pixels)
    return 1 - ((2 * overlap + 1e-10) / (sizes + 1e-10)).mean()


def _known(mask: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
    """Class indices, 0 where nothing is known, and ``(B, *S)``, 1 where known and in the part."""
    known = mask != IGNORE
    return mask.masked_fill(~known, 0).long(), (known * part).float()


def _probabilities(logits: Tensor, mask: Tensor, part: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    target, counts = _known(mask, part)
    p = two_logits(logits).softmax(1)
    return p, F.one_hot(target, p.shape[1]).movedim(-1, 1).to(p.dtype), counts.unsqueeze(1)
