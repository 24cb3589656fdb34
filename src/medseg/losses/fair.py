"""Dice losses with weights by how well the group of patients is segmented that an image is of."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medseg.data.case import IGNORE
from medseg.data.groups import UNKNOWN
from medseg.losses.masked import two_logits

_SMOOTH = 1e-5
_LEAST = 1e-12


def fair_error_bound_loss(
    logits: Tensor, mask: Tensor, group: Tensor, *, gamma: float = 1.0, released: int | None = None
) -> Tensor:
    """Dice loss with fair error-bound scaling (FEBS).

    The Dice loss over the batch (sums over all images, squared in the denominator), the mean over
    all classes, the background included, of probabilities that are first multiplied by a weight:
    ``tanh((min L / L_g)^gamma)``, where ``L_g`` is the plain loss of the sample's group in this
    batch and the minimum is over the groups that are in it. The group with the largest loss gets
    the smallest weight, which raises its loss, but also makes its probabilities pull less (see
    :func:`group_error_loss`). No gradient goes through the weights. Samples of unknown group get
    the weight of the best group, ``tanh(1)``, and have no say in the minimum.

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
    # (B, K) each
    overlap, predicted, true = _sums(logits, mask)
    with torch.no_grad():
        losses = _group_losses(group, overlap, predicted, true)
        ratio = (
            _ratio_to_best(losses, group) if released is None
            else _released_ratio(losses, group, released)
        )  # fmt: skip
        weight = ratio.pow(gamma).tanh()[:, None]
    totals = (weight * overlap, weight.square() * predicted, true)
    return _dice(*(each.sum(0) for each in totals)).mean()


def group_error_loss(logits: Tensor, mask: Tensor, group: Tensor, *, gamma: float = 1.0) -> Tensor:
    """Mean of the groups' Dice losses, of which the largest weighs most.

    As :func:`fair_error_bound_loss` describes its aim, but with the weights on the losses: that of
    a group is ``tanh((L_g / max L)^gamma)`` and multiplies ``L_g``, whatever the number of its
    samples. There, a smaller weight on the probabilities of a group also shrinks their gradient.
    No gradient goes through the weights. Samples of unknown group are one more group, with the
    weight of the best.

    Args:
        logits: ``(B, K, *S)``, of images or volumes.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
        group: ``(B,)`` integers, each sample's group; ``UNKNOWN`` where it is not known.
        gamma: 0 weighs all groups alike, more widens the differences.
    """
    losses = _group_losses(group, *_sums(logits, mask))
    with torch.no_grad():
        known = group != UNKNOWN
        found = losses.clamp_min(_LEAST)
        worst = found.masked_fill(~known, -torch.inf).amax()
        best = found.masked_fill(~known, torch.inf).amin()
        ratio = torch.where(known, found / worst, best / worst)
        weight = ratio.nan_to_num(1.0).pow(gamma).tanh()
        # Each group counts once.
        weight = weight / (group[:, None] == group[None, :]).sum(1)
    return (weight * losses).sum() / weight.sum() / max(2, logits.shape[1])


def _sums(logits: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the known pixels of each sample: of probability times truth, of squared
    probability, and of the truth; ``(B, K)``, K counts the background."""
    known = (mask != IGNORE).unsqueeze(1)
    p = two_logits(logits).softmax(1) * known
    target = mask.masked_fill(~known[:, 0], 0).long()
    t = F.one_hot(target, p.shape[1]).movedim(-1, 1).to(p.dtype) * known
    pixels = tuple(range(2, p.ndim))
    return (p * t).sum(pixels), p.square().sum(pixels), t.sum(pixels)


def _group_losses(group: Tensor, overlap: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """``(B,)`` the Dice loss of each sample's group, summed over the classes."""
    same = (group[:, None] == group[None, :]).unsqueeze(2)
    # Not as a product of matrices, which autocast would compute in half precision.
    of_group = ((same * each.unsqueeze(0)).sum(1) for each in (overlap, predicted, true))
    return _dice(*of_group).sum(1)


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
    losses = losses.clamp_min(_LEAST)
    least = losses.masked_fill(~known, torch.inf).amin()
    return torch.where(known, least / losses, 1.0)


def _released_ratio(losses: Tensor, group: Tensor, groups: int) -> Tensor:
    """Likewise, of a table with a place for each of ``groups``; -1 is its last place, which the
    last group overwrites."""
    table = losses.new_zeros(groups)
    for index in torch.unique(group).tolist():
        table[index] = losses[group == index][0]
    return (table.min() / table)[group]
