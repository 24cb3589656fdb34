"""Training of Generative Medical Segmentation: codes are matched, and what they are decoded to.

Huo, Ouyang, Ourselin, Sparks (2024), "Generative Medical Segmentation", AAAI 2025,
arXiv 2403.18198. The loss of each of the mapping's last three levels is the mean squared error of
its code against the mask's, and the Dice loss of what the frozen decoder makes of it; gradients go
through the decoder.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.data.case import IGNORE
from medseg.errors import RecipeError, plural
from medseg.methods.method import Batch, Method, TrainingData, adamw
from medseg.networks.generative.autoencoders import (
    REDUCTION,
    StableDiffusionAutoencoder,
    divergence,
    reconstruction_loss,
)
from medseg.networks.generative.gms import GMS
from medseg.nn.blocks import crop, pad_to_multiple
from medseg.recipe import Recipe

_SMOOTH = 1e-5


class GenerativeSegmentation(Method):
    """Trains the mapping of :class:`GMS` between codes of an autoencoder that does not change.

    The small autoencoder first learns the training part's images and masks, and is then frozen.

    Args:
        network: a :class:`GMS`.
        recipe: fully resolved.
        weights: folder or Hugging Face repository of a published autoencoder, for networks with
            that of Stable Diffusion and only for these.
        autoencoder_share: of the steps, in which the small autoencoder learns; the mapping does in
            the others.
        jitter: probability that an image's code is drawn from its distribution, instead of its
            mean.
        as_released: draw as the released code does, with a deviation that is not scaled as the
            mean is, 5.5 times as large.

    Raises:
        RecipeError: another network, or weights that are missing or not wanted.
        ValueError: a value out of its range.
    """

    phases = ("autoencoder", "main")

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        weights: str | None = None,
        autoencoder_share: float = 0.25,
        jitter: float = 0.5,
        as_released: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        if not isinstance(network, GMS):
            raise RecipeError("method gms", f"it cannot train {recipe.system}", "Use --system gms")
        if not 0 < autoencoder_share < 1:
            raise ValueError(f"autoencoder_share {autoencoder_share} is not between 0 and 1")
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter {jitter} is not within 0 and 1")
        self.jitter = jitter
        self.as_released = as_released
        published = isinstance(network.autoencoder, StableDiffusionAutoencoder)
        if published != (weights is not None):
            raise RecipeError(
                f"method_options.weights={weights}",
                "the small autoencoder learns from the training part" if weights else
                "the autoencoder of Stable Diffusion needs published weights",
                "Leave it out, or set network.autoencoder=stable-diffusion" if weights else
                "Set it to a folder, or to stabilityai/sd-vae-ft-mse",
            )  # fmt: skip
        self.weights = weights
        self.share = 0.0 if published else autoencoder_share

    def prepare(self, data: TrainingData) -> None:
        """Take over how images are normalised, and the published weights.

        Raises:
            RecipeError: the training may stop, for want of better masks, before the mapping learns.
            ModelError: the weights cannot be read.
        """
        epochs, patience = self.recipe.train.epochs, self.recipe.train.patience
        if isinstance(epochs, int) and isinstance(patience, int):
            first = math.ceil(self.share * epochs)
            if first >= patience:
                raise RecipeError(
                    f"train.patience={patience}",
                    f"for {plural(first, 'epoch')} only the autoencoder learns, and masks cannot "
                    "get better",
                    f"Raise it above {first}",
                )
        for buffer, values in ((self.model.mean, data.mean), (self.model.std, data.std)):
            buffer.copy_(torch.tensor(values).view_as(buffer))
        if self.weights is not None:
            assert isinstance(self.model.autoencoder, StableDiffusionAutoencoder)
            self.model.autoencoder.load(self.weights)

    def make_optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        # RMSprop without momentum: without a gradient nothing moves, so what is frozen stays.
        settings = self.recipe.optimizer
        return {
            "autoencoder": torch.optim.RMSprop(
                self.model.autoencoder.parameters(), settings.learning_rate
            ),
            "main": adamw(self.model.mapping, settings),
        }

    @property
    def model(self) -> GMS:
        """The network, whose type the constructor has checked."""
        assert isinstance(self.network, GMS)
        return self.network

    @property
    def frozen(self) -> bool:
        """Whether the autoencoder has learnt what it will."""
        return self.step >= round(self.share * self.steps)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        if self.phase == "autoencoder" and self.frozen:
            return {"reconstruction": nothing_of(self.model.autoencoder)}
        if self.phase == "main" and not self.frozen:
            nothing = nothing_of(self.model.mapping)
            return {"code": nothing, "dice": nothing}
        image = pad_to_multiple(batch["image"], REDUCTION)
        picture, masks = self.model.picture(image), self.mask_pictures(batch["mask"])
        if self.phase == "autoencoder":
            return self.autoencoder_losses(torch.cat([picture, masks.flatten(0, 1)]))
        return self.mapping_losses(picture, masks, batch["mask"])

    def mask_pictures(self, mask: Tensor) -> Tensor:
        """``(B, H, W)`` classes to ``(B, K, 3, H', W')``, white (1) where a class is, else black
        (-1); unknown pixels are background, and 8 divides the sides."""
        planes = self.planes_of(mask).float()
        padded = pad_to_multiple(planes, REDUCTION)
        return (2 * padded - 1).unsqueeze(2).expand(-1, -1, 3, -1, -1)

    def planes_of(self, mask: Tensor) -> Tensor:
        """``(B, H, W)`` classes to ``(B, K, H, W)`` bool: the foreground, or every class."""
        known = mask.masked_fill(mask == IGNORE, 0)
        classes = range(1, 2) if self.model.planes == 1 else range(self.model.planes)
        return torch.stack([known == each for each in classes], dim=1)

    def autoencoder_losses(self, pictures: Tensor) -> dict[str, Tensor]:
        """Of ``(B, 3, H, W)`` images and masks."""
        mean, deviation = self.model.autoencoder.encode(pictures)
        found = self.model.autoencoder.decode(mean + deviation * torch.randn_like(mean))
        loss = reconstruction_loss(found, pictures) + 1e-3 * divergence(mean, deviation)
        return {"reconstruction": loss}

    def mapping_losses(self, picture: Tensor, masks: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """Of ``(B, 3, H, W)`` images and ``(B, K, 3, H, W)`` masks as pictures."""
        with torch.no_grad():
            code, deviation = self.model.encode(picture)
            target = self.model.encode(masks.flatten(0, 1))[0]
            target = target.reshape(len(masks), -1, *target.shape[2:])
            if self.as_released:
                deviation = deviation / self.model.autoencoder.scale
            drawn = torch.rand(len(code), 1, 1, 1, device=code.device) < self.jitter
            code = code + drawn * deviation * torch.randn_like(code)
        levels = self.model.mapping.forward_all(code)[1:]
        known, planes = (mask != IGNORE).unsqueeze(1), self.planes_of(mask)
        matched = torch.stack([F.mse_loss(level, target) for level in levels])
        decoded = torch.stack(
            [self._dice_loss(self.model.decode(level), planes, known) for level in levels]
        )
        return {"code": matched.sum(), "dice": decoded.sum()}

    @staticmethod
    def _dice_loss(grey: Tensor, planes: Tensor, known: Tensor) -> Tensor:
        share = crop((grey.float() + 1) / 2, planes.shape[2:]).clamp(0, 1) * known
        overlap = (share * planes).sum((2, 3))
        total = share.sum((2, 3)) + planes.sum((2, 3))
        return 1 - ((2 * overlap + _SMOOTH) / (total + _SMOOTH)).mean()


def nothing_of(module: nn.Module) -> Tensor:
    """Zero, with a gradient of zeros for every parameter of ``module``."""
    return 0 * torch.stack([each.sum() for each in module.parameters()]).sum()
