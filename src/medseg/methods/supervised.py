"""Supervised training on labelled images."""

from __future__ import annotations

from torch import Tensor

from medseg.losses.region import cross_entropy, dice_loss
from medseg.methods.method import Batch, Method


class Supervised(Method):
    """Cross-entropy and soft Dice of the network's logits against the masks."""

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.network(batch["image"]).float()
        weights = self.recipe.loss
        losses: dict[str, Tensor] = {}
        if weights.cross_entropy > 0:
            losses["cross_entropy"] = weights.cross_entropy * cross_entropy(logits, batch["mask"])
        if weights.dice > 0:
            losses["dice"] = weights.dice * dice_loss(logits, batch["mask"])
        return losses
