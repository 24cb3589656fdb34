"""What every way of training has in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from medseg.data.case import Split
from medseg.methods.rates import parameter_groups
from medseg.recipe import OptimizerSettings, Recipe


class Batch(TypedDict):
    """What a training step sees.

    ``image`` is ``(B, C, H, W)``, of volumes ``(B, C, D, H, W)``, float, normalised; ``mask`` is
    ``(B, H, W)`` or ``(B, D, H, W)`` uint8 class indices, ``IGNORE`` where nothing is known;
    ``case_id`` names the B cases. The others are there only when they are needed:

    ``key``: of each case in this step, for randomness of a method's own; while training only.
    ``labelled`` ``(B,)`` bool: whose masks are given; the masks of the others are all ``IGNORE``.
    ``group`` ``(B,)`` int64: the number of the group that each case belongs to, of the attribute
    that ``data.attribute`` names, -1 where it is not known (`medseg.data.groups`).
    ``scribble``, like ``mask``: classes of the few pixels that somebody has drawn on.
    ``prompts``: what a promptable network is given besides the image.
    ``text``: B texts.
    """

    image: Tensor
    mask: Tensor
    case_id: Sequence[str]
    key: NotRequired[Sequence[Sequence[int]]]
    labelled: NotRequired[Tensor]
    group: NotRequired[Tensor]
    scribble: NotRequired[Tensor]
    prompts: NotRequired[Any]
    text: NotRequired[Sequence[str]]


@dataclass(frozen=True)
class TrainingData:
    """What a method may know of the data besides its batches.

    Attributes:
        split: case id to part.
        images: case id to a hash of its image.
        num_classes: logit channels that the data ask for.
        mean: of each channel, on the scale 0..1, that normalised images are less by.
        std: of each channel, on the scale 0..1, that they are divided by.
        groups: names of the groups that a batch's ``group`` counts; empty without any.
    """

    split: Mapping[str, Split]
    images: Mapping[str, str]
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    groups: tuple[str, ...] = ()


class Method(nn.Module, ABC):
    """Owns what it trains, its optimizers and schedule, and one training step.

    The engine owns the rest: devices, precision, distribution, clipping, checkpoints, logging. A
    method holds every module that it trains or follows as an attribute, so that its
    ``state_dict`` is complete. Options of a method are keyword arguments of its constructor, with
    types; ``method_options`` of the recipe are checked against them.

    Attributes:
        network: the network used for inference.
        recipe: fully resolved.
        unlabelled: whether it learns from cases without masks; then half of each batch are such.
        batch_multiple: a process's share of a batch is a multiple of it; 2 at least where half
            of it are unlabelled.
        prompted: whether it trains networks that are pointed at what they segment, and no others.
        grouped: whether it needs to know each case's group.
        phases: names of the updates of a step, in their order; each has an optimizer of that
            name. A name may come several times.
        phase: which of ``phases`` :meth:`training_step` is called for; set by the engine, as are
        step: steps taken so far, and
        steps: steps of the whole training.
    """

    unlabelled: ClassVar[bool] = False
    batch_multiple: ClassVar[int] = 1
    prompted: ClassVar[bool] = False
    grouped: ClassVar[bool] = False
    phases: ClassVar[tuple[str, ...]] = ("main",)

    network: nn.Module

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.phase = self.phases[0]
        self.step = 0
        self.steps = 1

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        """Named scalar losses of one batch; their sum is minimised.

        With several phases (a network and its discriminator, say) it is called once for each,
        and ``phase`` says which: the gradients of that call move what the phase's optimizer
        holds and nothing else, and losses of different phases have different names.

        Each must be a mean over the images of the batch, so that averaging gradients over
        processes gives the gradient of the whole batch.
        """

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.training_step(batch)

    def prepare(self, data: TrainingData) -> None:
        """Called once, before the first step.

        Raises:
            RecipeError: the method cannot be used with these data.
        """

    def after_step(self) -> None:
        """Called without gradients once the weights have moved, to follow them."""

    @property
    def shipped(self) -> nn.Module:
        """The network whose average validates and is shipped; built like ``network``."""
        return self.network

    def make_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """An optimizer for each of ``phases``."""
        return {"main": self.make_optimizer()}

    def make_optimizer(self) -> torch.optim.Optimizer:
        """AdamW over all that is trained; biases and norm parameters are not decayed."""
        return adamw(self, self.recipe.optimizer)

    def learning_rate(self, step: int, steps: int) -> float:
        """The learning rate of step ``step`` of ``steps``, in every phase.

        A group of parameters with a key ``lr_scale`` gets so many times as much.
        """
        return warmup_cosine(self.recipe.optimizer, step, steps)


def adamw(module: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the parameters of ``module`` that are trained; biases and norms do not decay."""
    return torch.optim.AdamW(parameter_groups(module, settings), lr=settings.learning_rate)


def warmup_cosine(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Linear from 0 to the peak during the warm-up, then half a cosine to the final rate."""
    warmup = settings.warmup * steps
    peak, final = settings.learning_rate, settings.final_learning_rate
    if step + 1 < warmup:
        return peak * (step + 1) / warmup
    progress = (step + 1 - warmup) / max(1.0, steps - warmup)
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
