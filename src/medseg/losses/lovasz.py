"""The Lovász losses: convex surrogates of the Jaccard loss, by sorting the pixels' errors."""

from __future__ import annotations

import torch
from torch import Tensor

from medseg.data.case import IGNORE


def lovasz_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Lovász hinge (one logit channel) or Lovász-Softmax, averaged over images.

    The hinge is 0 where every logit has the right sign and a margin of 1, and has no upper bound.
    Lovász-Softmax, 0 to 1, is the mean over the classes, background included, that an image's
    truth has.

    Args:
        logits: ``(B, K, *S)``.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.

    Source:
        Berman, Triki, Blaschko 2018 (arXiv 1705.08790).
    """
    known = (mask != IGNORE).flatten(1)  # (B, N)
    truth = mask.flatten(1)
    if logits.shape[1] == 1:
        is_class = (truth == 1).to(logits.dtype)
        errors = 1 - logits.flatten(1) * (2 * is_class - 1)
        return _extension(errors.masked_fill(~known, -torch.inf), is_class).mean()
    shares = torch.softmax(logits, dim=1).flatten(2)  # (B, K, N)
    classes = torch.arange(logits.shape[1], device=mask.device).view(1, -1, 1)
    is_class = (truth.unsqueeze(1) == classes).to(shares.dtype)
    errors = (is_class - shares).abs().masked_fill(~known.unsqueeze(1), -torch.inf)
    present = is_class.amax(-1)  # (B, K)
    each = _extension(errors, is_class) * present
    return (each.sum(1) / present.sum(1).clamp_min(1)).mean()


def _extension(errors: Tensor, is_class: Tensor) -> Tensor:
    """The Lovász extension of the Jaccard loss at the positive parts of ``errors``.

    Args:
        errors: ``(..., N)``; ``-inf`` where nothing is known.
        is_class: ``(..., N)``, 1 for the pixels of the class, else 0.

    Returns:
        ``(...)``.
    """
    falling, order = errors.sort(dim=-1, descending=True, stable=True)
    hits = is_class.gather(-1, order)
    total = hits.sum(-1, keepdim=True)
    left = total - hits.cumsum(-1)
    union = total + (1 - hits).cumsum(-1)
    jaccard = 1 - left / union
    steps = torch.cat([jaccard[..., :1], jaccard.diff(dim=-1)], dim=-1)
    return (falling.relu() * steps).sum(-1)
