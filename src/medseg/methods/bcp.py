"""Bidirectional copy-paste: a mean teacher on images mixed across the labelled border.

Bai, Chen, Li, Shen, Wang (2023), "Bidirectional Copy-Paste for Semi-Supervised Medical Image
Segmentation", CVPR, arXiv 2305.00673. A box of a labelled image is pasted into an unlabelled one
and the reverse. The student learns both mixes: from the truth in the labelled part, and in the
other from what the teacher, the moving average of the student, says of the unlabelled image, of
which only the largest component of each class is believed. First, the student learns mixes of
labelled images alone.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medseg.losses.masked import part_cross_entropy, part_dice, part_dice_of_batch, two_logits
from medseg.methods.mean_teacher import follow, sigmoid_ramp_up, teacher_of
from medseg.methods.method import Batch, Method
from medseg.methods.mixing import outside_box, paste
from medseg.methods.pseudo_labels import largest_components
from medseg.recipe import Recipe


class BCP(Method):
    """Bidirectional copy-paste, for images and volumes and any network.

    As in the released code the teacher stays in training mode: its dropout is active, and its
    batch norms use the batch.

    Args:
        network: the student.
        recipe: fully resolved.
        pretraining: share of the steps in which only labelled images are mixed.
        decay: of the teacher's average, from the first step after these.
        box: side of the pasted box over the image's.
        pseudo_weight: weight of what the teacher says; the truth's is 1.
        ramp_up: share of the steps after ``pretraining`` over which ``pseudo_weight`` is reached
            along a sigmoid; 0, as in the paper, is at once.
        sgd: stochastic gradient descent with momentum 0.9 at a constant learning rate, as in the
            paper's ACDC training, instead of the recipe's AdamW and schedule.

    Raises:
        ValueError: a value out of its range.
    """

    unlabelled = True
    batch_multiple = 4

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        pretraining: float = 0.25,
        decay: float = 0.99,
        box: float = 2 / 3,
        pseudo_weight: float = 0.5,
        ramp_up: float = 0.0,
        sgd: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        for name, share in (("pretraining", pretraining), ("decay", decay), ("ramp_up", ramp_up)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} {share} is not within 0 and 1")
        if not 0 < box < 1:
            raise ValueError(f"box {box} is not between 0 and 1")
        if pseudo_weight < 0:
            raise ValueError(f"pseudo_weight {pseudo_weight} is negative")
        self.pretraining = pretraining
        self.decay = decay
        self.box = box
        self.pseudo_weight = pseudo_weight
        self.ramp_up = ramp_up
        self.sgd = sgd
        self.teacher = teacher_of(network)

    @property
    def pretraining_steps(self) -> int:
        """Steps in which only labelled images are mixed."""
        return round(self.pretraining * self.steps)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        image, labelled = batch["image"], batch["labelled"]
        outside = outside_box(image.shape[2:], self.box, image.device)
        a, b = image[labelled].chunk(2)
        truth_a, truth_b = batch["mask"][labelled].chunk(2)
        if self.step < self.pretraining_steps:
            logits = self.network(paste(a, b, outside)).float()
            return mix_losses(logits, truth_a, truth_b, outside)
        c, d = image[~labelled].chunk(2)
        said_c, said_d = self.pseudo_labels(c), self.pseudo_labels(d)
        weight = self.pseudo_weight * self._ramp()
        inward = mix_losses(
            self.network(paste(c, a, outside)).float(), said_c, truth_a, outside, of_ground=weight
        )
        outward = mix_losses(
            self.network(paste(b, d, outside)).float(), truth_b, said_d, outside, of_piece=weight
        )
        return {name: inward[name] + outward[name] for name in inward}

    @torch.no_grad()
    def pseudo_labels(self, image: Tensor) -> Tensor:
        """``(B, *S)`` uint8 classes that the teacher sees, of each its largest component."""
        self.teacher.train()
        classes = two_logits(self.teacher(image)).argmax(1)
        return largest_components(classes.to(torch.uint8))

    def after_step(self) -> None:
        if self.step >= self.pretraining_steps:
            follow(self.teacher, self.network, self.decay)
        elif self.step + 1 == self.pretraining_steps:
            self.teacher.load_state_dict(self.network.state_dict())

    def make_optimizer(self) -> torch.optim.Optimizer:
        if not self.sgd:
            return super().make_optimizer()
        settings = self.recipe.optimizer
        return torch.optim.SGD(
            self.network.parameters(),
            lr=settings.learning_rate,
            momentum=0.9,
            weight_decay=settings.weight_decay,
        )

    def learning_rate(self, step: int, steps: int) -> float:
        if self.sgd:
            return self.recipe.optimizer.learning_rate
        return super().learning_rate(step, steps)

    def _ramp(self) -> float:
        rising = self.ramp_up * (self.steps - self.pretraining_steps)
        return sigmoid_ramp_up(self.step - self.pretraining_steps, rising)


def mix_losses(
    logits: Tensor,
    ground: Tensor,
    piece: Tensor,
    outside: Tensor,
    *,
    of_ground: float = 1.0,
    of_piece: float = 1.0,
) -> dict[str, Tensor]:
    """Cross-entropy and Dice of a mix, each half of it, both parts with their weights.

    Args:
        logits: ``(B, K, *S)`` of the mix; in images Dice is over the batch, in volumes over each.
        ground: ``(B, *S)`` classes of the image that was pasted into.
        piece: ``(B, *S)`` classes of the image of which a box was pasted.
        outside: ``(*S)``, 1 outside the box.
        of_ground: weight of the part outside the box.
        of_piece: weight of the part inside.
    """
    dice = part_dice_of_batch if logits.ndim == 4 else part_dice
    losses = {"cross_entropy": part_cross_entropy, "dice": dice}
    return {
        name: of_ground / 2 * loss(logits, ground, outside)
        + of_piece / 2 * loss(logits, piece, 1 - outside)
        for name, loss in losses.items()
    }
