"""A Dice loss that counts more where it is large for a whole group of patients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE
from medseg.data.groups import UNKNOWN
from medseg.losses.masked import two_logits

_SMOOTH = 1e-5


def fair_error_bound_loss(
    logits: Tensor, mask: Tensor, group: Tensor, *, gamma: float = 1.0, released: int | None = None
) -> Tensor:
    """Dice loss with fair error-bound scaling (FEBS).

    The Dice loss over the batch (sums over all images, squared in the denominator), the mean over
    all classes, the background included, of probabilities that are first multiplied by a weight:
    ``tanh((min L / L_g)^gamma)``, where ``L_g`` is the plain loss of the sample's group in this
    batch and the minimum is over the groups that are in it. The group with the largest loss gets
    the smallest weight, which shrinks its probabilities and so raises what is left to learn. No
    gradient goes through the weights. Samples of unknown group get the weight of the best group,
    ``tanh(1)``, and have no say in the minimum.

    Args:
        logits: ``(B, K, *S)``, of images or volumes.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
        group: ``(B,)`` integers, each sample's group; ``UNKNOWN`` where it is not known.
        gamma: 0 treats all groups alike, more widens the differences.
        released: how many groups the data have, to compute what the authors' code computes: a
            group that is not in the batch counts as one without any loss, so that all weights,
            and with them the gradient, are 0; and samples of unknown group count as a group that
            gets the weight of the last one.

    Source:
        Tian, Shi, Luo et al. 2023 (arXiv 2311.02189), section 4.
    """
    known = (mask != IGNORE).unsqueeze(1)
    p = two_logits(logits).softmax(1) * known
    target = mask.masked_fill(~known[:, 0], 0).long()
    t = F.one_hot(target, p.shape[1]).movedim(-1, 1).to(p.dtype) * known
    pixels = tuple(range(2, p.ndim))
    # (B, K) each
    overlap, predicted, true = ((x).sum(pixels) for x in (p * t, p.square(), t))
    with torch.no_grad():
        same = (group[:, None] == group[None, :]).to(p.dtype)
        losses = _dice(same @ overlap, same @ predicted, same @ true).sum(1)
        ratio = (
            _ratio_to_best(losses, group) if released is None
            else _released_ratio(losses, group, released)
        )  # fmt: skip
        weight = ratio.pow(gamma).tanh()[:, None]
    totals = (weight * overlap, weight.square() * predicted, true)
    return _dice(*(each.sum(0) for each in totals)).mean()


def _dice(overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    return 1 - (2 * overlap + _SMOOTH) / (predicted + true + _SMOOTH)


def _ratio_to_best(losses: Tensor, group: Tensor) -> Tensor:
    """The least loss of a group over each sample's own, 0 to 1.

    Args:
        losses: ``(B,)``, of each sample's group.
        group: ``(B,)``.
    """
    known = group != UNKNOWN
    # Groups that are perfectly segmented are alike, too.
    losses = losses.clamp_min(1e-12)
    least = losses.masked_fill(~known, torch.inf).amin()
    return torch.where(known, least / losses, 1.0)


def _released_ratio(losses: Tensor, group: Tensor, groups: int) -> Tensor:
    """Likewise, of a table with a place for each of ``groups``; -1 is its last place, which the
    last group overwrites."""
    table = losses.new_zeros(groups)
    for index in torch.unique(group).tolist():
        table[index] = losses[group == index][0]
    return (table.min() / table)[group]
