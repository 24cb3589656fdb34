"""Training networks that segment what words say.

As Dhakal et al. 2024 (arXiv 2405.06196) and Poudel et al. 2024 (arXiv 2308.07706) train them: each
image comes with a sentence that says what is wanted of it, and the answer is a binary mask.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.losses.weighted import weighted_losses
from medseg.methods.method import Batch, Method
from medseg.networks.language.text_network import TextNetwork
from medseg.recipe import Recipe


class TextDriven(Method):
    """The recipe's losses of the answers to the batch's sentences.

    Args:
        network: takes images and sentences, and gives one logit.
        recipe: fully resolved.
        sentences: a file of sentences; by default ``prompts.json`` beside the data, or else the
            names of the classes.
        absent: share of the images that are asked for a class that they do not show, of which the
            answer is nothing. Without, the network learns to find whatever it is asked for.
        as_released: cross-entropy as the authors' code computes it, which takes probabilities for
            logits.

    Raises:
        RecipeError: the network takes no words, is frozen around random weights, or has no side
            outputs to be weighed.
        ValueError: a share that is none.
    """

    prompted: ClassVar[bool] = True

    network: TextNetwork

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        sentences: str = "",
        absent: float = 0.0,
        as_released: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        if not isinstance(network, TextNetwork):
            raise RecipeError(
                "method text-driven", f"{recipe.system} does not take text",
                "Use --set method=interactive",
            )  # fmt: skip
        if recipe.loss.deep_supervision:
            raise RecipeError(
                "loss.deep_supervision", "text-driven does not use it", "Leave it out"
            )
        if not 0 <= absent < 1:
            raise ValueError(f"absent={absent} must be at least 0 and below 1")
        if network.frozen and not (recipe.network.get("weights") or recipe.init):
            raise RecipeError(
                "network.weights",
                f"{recipe.system} refines a network that knows language, and there is none",
                "Name the folder of its published weights (nothing is downloaded), start from a "
                "model with --init, or learn a small one from scratch with "
                "--set network.size=tiny, which knows no more words than it is trained on",
            )
        self.sentences = sentences
        self.absent = absent
        self.as_released = as_released

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        # A forecast of the memory has images without content, and nothing to say of them.
        texts = batch.get("text") or [""] * len(batch["image"])
        logits = self.network(batch["image"], texts).float()
        if not self.as_released:
            return weighted_losses(logits, batch["mask"], self.recipe.loss)
        weights = self.recipe.loss
        alone = weights.model_copy(
            update=dict.fromkeys(("dice", "tversky", "lovasz", "boundary"), 0.0)
        )
        rest = weights.model_copy(update={"cross_entropy": 0.0})
        return weighted_losses(logits.sigmoid(), batch["mask"], alone) | weighted_losses(
            logits, batch["mask"], rest
        )
