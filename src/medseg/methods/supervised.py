"""Supervised training on labelled images."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medseg.errors import RecipeError, plural
from medseg.losses.weighted import weighted_losses
from medseg.methods.method import Batch, Method
from medseg.recipe import Recipe


class Supervised(Method):
    """The recipe's losses of the network's logits against the masks.

    With ``loss.deep_supervision`` the network's side outputs get the same losses, each output its
    weight, summed under the name ``deep_supervision`` (Lee et al. 2015, arXiv 1409.5185).

    Raises:
        RecipeError: side outputs are weighed and the network has none, or another number.
    """

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__(network, recipe)
        if recipe.loss.deep_supervision:
            _side_outputs(network, recipe)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        return self.losses(batch)[1]

    def losses(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The logits ``(B, K, H, W)`` in float32, and their losses."""
        settings, mask = self.recipe.loss, batch["mask"]
        if not settings.deep_supervision:
            logits = self.network(batch["image"]).float()
            return logits, weighted_losses(logits, mask, settings)
        outputs = _side_outputs(self.network, self.recipe)(batch["image"])
        weights = settings.deep_supervision
        logits, *sides = (output.float() for output in outputs)
        if not sides:
            raise _no_side_outputs(self.recipe)
        if len(sides) != len(weights):
            raise RecipeError(
                "loss.deep_supervision",
                f"{plural(len(weights), 'weight')} for the {plural(len(sides), 'side output')} of "
                f"{self.recipe.system}",
                "Give each side output one weight",
            )
        losses = weighted_losses(logits, mask, settings)
        each = [
            weight * torch.stack(list(weighted_losses(side, mask, settings).values())).sum()
            for weight, side in zip(weights, sides, strict=True)
        ]
        losses["deep_supervision"] = torch.stack(each).sum()
        return logits, losses


def _side_outputs(network: nn.Module, recipe: Recipe) -> Callable[[Tensor], list[Tensor]]:
    """The network's ``forward_all``: an image to its logits and those of its side outputs."""
    found = getattr(network, "forward_all", None)
    if found is None:
        raise _no_side_outputs(recipe)
    forward_all: Callable[[Tensor], list[Tensor]] = found
    return forward_all


def _no_side_outputs(recipe: Recipe) -> RecipeError:
    return RecipeError(
        "loss.deep_supervision",
        f"{recipe.system} has no side outputs",
        "Leave it out, or take a network that has them: ege-unet, mk-unet, med2d-segnet with "
        "network.side_heads=true",
    )
