"""Training networks that are pointed at what they segment.

After ScribblePrompt (Wong et al. 2023, arXiv 2312.07381). In each step a simulated person points at
one structure of each image, sees the answer, and corrects it some times. All answers count alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg.data.case import IGNORE
from medseg.data.prompts import in_words
from medseg.data.simulate_prompts import Simulated, Simulation
from medseg.data.superpixels import felzenszwalb
from medseg.errors import RecipeError
from medseg.losses.focal import focal_loss, squared_dice_loss
from medseg.methods.method import Batch, Method
from medseg.nn.prompts import PromptTensors
from medseg.recipe import LossSettings, Recipe

SUPERPIXEL_SCALES = (1, 500)


class Interactive(Method):
    """Rounds of prompts and corrections; focal loss and squared soft Dice.

    In place of the cross-entropy stands the focal loss, with the weight ``loss.cross_entropy``;
    without focus, ``gamma`` 0, they are the same. The logits of a round are an input of the next,
    and no gradient flows through them.

    Args:
        network: takes an image and :class:`PromptTensors`, and gives one logit.
        recipe: fully resolved.
        rounds: answers in a step: the first, and after each correction another.
        gamma: focus of the focal loss on pixels that are wrong.
        superpixels: share of the images in which a random superpixel takes the place of the
            structure, so that the network learns to segment what it is shown rather than what it
            knows.
        kinds: of prompts that are simulated.
        as_released: boxes as the authors' code draws them, see :class:`Simulation`.

    Raises:
        RecipeError: the network does not take such prompts, or an option or another weight of the
            loss cannot be used.
    """

    prompted: ClassVar[bool] = True

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        rounds: int = 5,
        gamma: float = 20.0,
        superpixels: float = 0.5,
        kinds: tuple[Simulated, ...] = ("box", "point", "scribble"),
        as_released: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        for name, field in LossSettings.model_fields.items():
            if (
                name not in ("cross_entropy", "dice")
                and getattr(recipe.loss, name) != field.default
            ):
                raise RecipeError(f"loss.{name}", "interactive does not use it", "Leave it out")
        taken: Sequence[str] = getattr(network, "prompts", ())
        if not kinds or not set(kinds) <= set(taken):
            raise RecipeError(
                "method_options.kinds", f"{list(kinds)} are not all taken by {recipe.system}",
                f"It takes {in_words(taken)}",
            )  # fmt: skip
        if rounds < 1:
            raise ValueError(f"rounds={rounds} must be at least 1")
        if gamma < 0 or not 0 <= superpixels <= 1:
            raise ValueError(f"gamma={gamma} must be at least 0, superpixels={superpixels} in 0..1")
        self.rounds = rounds
        self.gamma = gamma
        self.superpixels = superpixels
        self.simulation = Simulation(kinds=kinds, as_released=as_released)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        image = batch["image"]
        if image.is_meta:  # a forecast of the memory, without any content to point at
            nothing = PromptTensors.none(image)
            answers = [self.network(image, nothing).float() for _ in range(self.rounds)]
            return self._losses(answers, batch["mask"])
        random = [np.random.default_rng([*key, 1]) for key in batch["key"]]
        greys = image.float().mean(1).cpu().numpy()
        masks = [
            self._target(grey, mask, each)
            for grey, mask, each in zip(greys, batch["mask"].cpu().numpy(), random, strict=True)
        ]
        target = torch.from_numpy(np.stack(masks)).to(image.device)
        prompts = [
            self.simulation.first(mask == 1, each, mask == 0)
            for mask, each in zip(masks, random, strict=True)
        ]
        previous = image.new_zeros(len(image), 1, *image.shape[2:])
        answers = []
        for done in range(self.rounds):
            if done:
                previous = answers[-1].detach()
                prompts = [
                    before + self.simulation.correction(mask == 1, found, each, mask != IGNORE)
                    for before, mask, found, each in zip(
                        prompts, masks, (previous[:, 0] > 0).cpu().numpy(), random, strict=True
                    )
                ]
            pointed = PromptTensors.of(prompts, image, previous)
            answers.append(self.network(image, pointed).float())
        return self._losses(answers, target)

    def _losses(self, answers: Sequence[Tensor], target: Tensor) -> dict[str, Tensor]:
        weights = self.recipe.loss
        losses = {}
        if weights.cross_entropy > 0:
            each = [focal_loss(logits, target, gamma=self.gamma) for logits in answers]
            losses["focal"] = weights.cross_entropy * torch.stack(each).mean()
        if weights.dice > 0:
            each = [squared_dice_loss(logits, target) for logits in answers]
            losses["dice"] = weights.dice * torch.stack(each).mean()
        return losses

    def _target(
        self, image: NDArray[np.float32], mask: NDArray[np.uint8], random: np.random.Generator
    ) -> NDArray[np.uint8]:
        """One structure of the mask, any with the same probability, or a superpixel: 1 inside, 0
        outside, ``IGNORE``."""
        if random.random() < self.superpixels:
            span = max(float(np.ptp(image)), 1e-6)
            scale = random.integers(SUPERPIXEL_SCALES[0], SUPERPIXEL_SCALES[1], endpoint=True)
            pieces = felzenszwalb((image - image.min()) / span, scale=float(scale))
            return np.asarray(pieces == random.integers(pieces.max() + 1), np.uint8)
        structures = np.setdiff1d(mask, [0, IGNORE])
        one = (mask == random.choice(structures)) if len(structures) else np.zeros_like(mask, bool)
        return np.asarray(np.where(mask == IGNORE, IGNORE, one), np.uint8)
