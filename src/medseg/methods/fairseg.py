"""Training that does not leave a group of patients behind.

Tian, Shi, Luo et al. (2023), "FairSeg: A Large-Scale Medical Image Segmentation Dataset for
Fairness Learning Using Segment Anything Model with Fair Error-Bound Scaling", ICLR 2024,
arXiv 2311.02189. Beside the cross-entropy stands a Dice loss in which probabilities are scaled by
how well the group that an image is of is segmented in its batch.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.losses.fair import fair_error_bound_loss, group_error_loss
from medseg.losses.region import cross_entropy
from medseg.methods.method import Batch, Method, TrainingData
from medseg.recipe import Recipe


class FairSeg(Method):
    """Cross-entropy and a Dice loss with fair error-bound scaling, for any network.

    Batches are drawn as ever: one that shows a single group is learnt from as from a plain batch.
    The losses of groups are those in a process's share of a batch.

    Args:
        network: to be trained, of images or volumes.
        recipe: fully resolved; ``data.attribute`` says whose groups are compared.
        gamma: of the scaling; 0 treats all groups alike.
        fair_weight: of the scaled Dice loss; the cross-entropy has the rest of 1. 0.5 is the
            paper's for TransUNet, 0.8 for SAMed.
        scaled: what the weights of groups multiply: ``probabilities``, as published, or
            ``losses``, see :func:`group_error_loss`.
        as_released: treat groups that are not in a batch, and cases of unknown group, as the
            authors' code does, see :func:`fair_error_bound_loss`; of probabilities only.

    Raises:
        RecipeError: side outputs are weighed, which have no such loss.
        ValueError: a value out of its range.
    """

    grouped = True

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        gamma: float = 1.0,
        fair_weight: float = 0.5,
        scaled: Literal["probabilities", "losses"] = "probabilities",
        as_released: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        if gamma < 0:
            raise ValueError(f"gamma {gamma} is negative")
        if not 0 <= fair_weight <= 1:
            raise ValueError(f"fair_weight {fair_weight} is not within 0 and 1")
        if recipe.loss.deep_supervision:
            raise RecipeError(
                "loss.deep_supervision", "method fairseg has no losses of side outputs",
                "Use --set loss.deep_supervision=[]",
            )  # fmt: skip
        if as_released and scaled == "losses":
            raise ValueError("as_released scales probabilities, not losses")
        self.gamma = gamma
        self.fair_weight = fair_weight
        self.scaled = scaled
        self.as_released = as_released
        self.released: int | None = None

    def prepare(self, data: TrainingData) -> None:
        if self.as_released:
            self.released = len(data.groups)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        logits, mask = self.network(batch["image"]).float(), batch["mask"]
        group = batch["group"]
        if self.scaled == "losses":
            fair = group_error_loss(logits, mask, group, gamma=self.gamma)
        else:
            fair = fair_error_bound_loss(
                logits, mask, group, gamma=self.gamma, released=self.released
            )
        return {
            "cross_entropy": (1 - self.fair_weight) * cross_entropy(logits, mask),
            "fair_dice": self.fair_weight * fair,
        }
