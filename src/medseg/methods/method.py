"""What every way of training has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypedDict

import torch
from torch import Tensor, nn

from medseg.recipe import OptimizerSettings, Recipe


class Batch(TypedDict):
    """What a training step sees.

    ``image`` is ``(B, C, H, W)`` float, normalised; ``mask`` is ``(B, H, W)`` uint8 class
    indices, ``IGNORE`` where nothing is known; ``case_id`` names the B cases.
    """

    image: Tensor
    mask: Tensor
    case_id: Sequence[str]


class Method(nn.Module, ABC):
    """Owns what it trains, its optimizer and schedule, and one training step.

    The engine owns the rest: devices, precision, distribution, checkpoints, logging. A method
    holds every module it trains as an attribute, so that its ``state_dict`` is complete.

    Attributes:
        network: the network used for inference.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch; their sum is minimised.

        Each must be a mean over the images of the batch, so that averaging gradients over
        processes gives the gradient of the whole batch.
        """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.training_step(batch)

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW; biases and norm parameters are not decayed."""
        settings = self.recipe.optimizer
        decayed = [p for p in self.parameters() if p.ndim > 1]
        plain = [p for p in self.parameters() if p.ndim <= 1]
        return torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": settings.weight_decay},
                {"params": plain, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
        )

    def learning_rate(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` of ``steps``."""
        return warmup_cosine(self.recipe.optimizer, step, steps)


def warmup_cosine(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Linear from 0 to the peak during the warm-up, then half a cosine to the final rate."""
    warmup = settings.warmup * steps
    peak, final = settings.learning_rate, settings.final_learning_rate
    if step + 1 < warmup:
        return peak * (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1.0, steps - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
