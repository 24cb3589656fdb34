"""Self-supervised pre-training: a network learns to fill in what is hidden of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import RecipeError
from medseg.methods.method import Batch, Method, TrainingData
from medseg.recipe import Recipe

# Of the randomness that hides patches, so that augmentation with the same key is independent.
_STREAM = 7919


class Reconstruction(Method):
    """Mean squared error of the hidden patches of normalised images.

    Half of the patches of a regular grid are replaced by the channels' means, and the network, with
    a logit for each channel, says what was there. No mask is looked at. Used by `medseg pretrain`.

    Args:
        network: with as many logits as channels.
        recipe: fully resolved.
        patch: side of a patch in pixels.
        hidden: share of the patches that are hidden.

    Source:
        Pathak et al. 2016 (arXiv 1604.07379), without the adversary; hiding half of a grid: Xie et
        al. 2022 (arXiv 2111.09886). The encoder-decoder is trained as a whole, as by Zhou et al.
        2019 (arXiv 1908.06912).

    Raises:
        RecipeError: a patch or share that hides nothing or everything.
    """

    def __init__(
        self, network: nn.Module, recipe: Recipe, *, patch: int = 16, hidden: float = 0.5
    ) -> None:
        super().__init__(network, recipe)
        if patch < 1 or not 0 < hidden < 1:
            raise RecipeError(
                "method_options",
                f"patch {patch}, hidden {hidden:g}",
                "Give a patch of at least 1 pixel and a share between 0 and 1",
            )
        self.patch = patch
        self.hidden = hidden

    def prepare(self, data: TrainingData) -> None:
        raise RecipeError(
            "method reconstruction", "it learns from images alone", "Use medseg pretrain DATA"
        )

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        # A forecast of memory has no keys.
        keys = batch.get("key", [(0,)] * len(batch["image"]))
        return {"reconstruction": self.errors(batch["image"], keys).mean()}

    def errors(
        self, image: Tensor, keys: Sequence[Sequence[int]], network: nn.Module | None = None
    ) -> Tensor:
        """The mean squared error ``(B,)`` over the hidden pixels of each image.

        Args:
            image: ``(B, C, H, W)``, normalised.
            keys: of each image, non-negative integers: the whole randomness of what is hidden.
            network: in place of the method's own.
        """
        hidden = hidden_patches(
            keys, (image.shape[-2], image.shape[-1]), patch=self.patch, share=self.hidden
        ).to(image.device)
        output = (network or self.network)(image.masked_fill(hidden, 0)).float()
        squares = (output - image).square().mean(1, keepdim=True) * hidden
        errors: Tensor = squares.sum((1, 2, 3)) / hidden.sum((1, 2, 3))
        return errors


def hidden_patches(
    keys: Sequence[Sequence[int]], size: tuple[int, int], *, patch: int, share: float
) -> Tensor:
    """``(B, 1, H, W)`` bool: which pixels of each image are hidden.

    Args:
        keys: of each image.
        size: H and W.
        patch: side of a patch in pixels; those at the right and bottom edge may be cut off.
        share: of the patches, rounded; at least one is hidden.
    """
    height, width = size
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    count = max(1, round(share * rows * columns))
    grids = []
    for key in keys:
        grid = np.zeros(rows * columns, bool)
        chosen = np.random.default_rng([_STREAM, *key]).permutation(rows * columns)[:count]
        grid[chosen] = True
        grids.append(grid.reshape(1, rows, columns))
    cells = torch.from_numpy(np.stack(grids))
    whole = cells.repeat_interleave(patch, -2).repeat_interleave(patch, -1)
    return whole[..., :height, :width]
