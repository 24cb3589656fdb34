"""The loss terms of a recipe, each with its weight."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from medseg.losses.boundary import boundary_loss
from medseg.losses.lovasz import lovasz_loss
from medseg.losses.region import cross_entropy, dice_loss
from medseg.losses.tversky import tversky_loss
from medseg.recipe import LossSettings


def weighted_losses(logits: Tensor, mask: Tensor, settings: LossSettings) -> dict[str, Tensor]:
    """The terms whose weight is not 0, by name, times their weights.

    Args:
        logits: ``(B, K, *S)``, float32.
        mask: ``(B, *S)`` class indices, 0 is background, ``IGNORE`` is not known.
        settings: the weights.
    """

    def tversky() -> Tensor:
        return tversky_loss(
            logits,
            mask,
            alpha=settings.tversky_alpha,
            beta=settings.tversky_beta,
            gamma=settings.tversky_gamma,
        )

    terms: dict[str, tuple[float, Callable[[], Tensor]]] = {
        "cross_entropy": (settings.cross_entropy, lambda: cross_entropy(logits, mask)),
        "dice": (settings.dice, lambda: dice_loss(logits, mask)),
        "tversky": (settings.tversky, tversky),
        "lovasz": (settings.lovasz, lambda: lovasz_loss(logits, mask)),
        "boundary": (settings.boundary, lambda: boundary_loss(logits, mask)),
    }
    return {name: weight * term() for name, (weight, term) in terms.items() if weight > 0}
