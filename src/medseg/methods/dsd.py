"""Dual self-distillation: the levels of a U-shaped network teach each other.

Banerjee, Summerfield, Dong, Glide-Hurst (2023), "Volumetric Medical Image Segmentation through
Dual Self-Distillation in U-shaped Networks", IEEE TBME 2025, arXiv 2306.03271. Official code:
github.com/soumbane/DualSelfDistillation. In training, every level of encoder and decoder gets a
light head that brings its map to full size. Heads of the decoder learn from the truth, and from
its last level's head; heads of the encoder learn from its deepest level's head alone. The heads
are no part of the network, so it predicts as ever.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import RecipeError
from medseg.losses.masked import two_logits
from medseg.losses.weighted import weighted_losses
from medseg.methods.method import Batch, Method
from medseg.methods.taps import Tap, find_levels, listen, spatial_dims
from medseg.nn.dims import CONV, LINEAR, TRANSPOSED_CONV, Dims
from medseg.recipe import Recipe


class DeepUp(nn.Module):
    """A level's head: ``(B, C, *S) -> (B, K, *S * stride)``.

    A 1x1 convolution to the classes, then one transposed convolution from classes to classes,
    applied as often as it takes to double the sides to full size.

    Args:
        channels: C.
        classes: K.
        stride: a power of two.
        dims: spatial axes.
    """

    def __init__(self, channels: int, classes: int, stride: int, dims: Dims) -> None:
        super().__init__()
        self.classify = CONV[dims](channels, classes, 1)
        step = min(stride, 2)
        self.up = TRANSPOSED_CONV[dims](classes, classes, step, step)
        self.times = max(1, round(math.log2(stride)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.classify(x)
        for _ in range(self.times):
            x = self.up(x)
        return x


class DSD(Method):
    """Dual self-distillation of any U-shaped network of images or volumes.

    The losses against the truth are the recipe's, of the network's logits and of each decoder
    head's; their sum is ``main`` and ``decoder``. ``distillation`` is alpha times the sum of the
    divergences.

    Args:
        network: whose levels are found by :func:`medseg.methods.taps.find_levels`.
        recipe: fully resolved.
        alpha: weight of the divergences; 0 leaves deep supervision of the decoder.
        temperature: by which logits are divided for them.
        detach_teacher: teach without learning; as released, teachers get gradients from their
            pupils.
        shared_heads: one head for a level of the encoder and one of the decoder that have equal
            channels and stride, as in the released nnU-Net variant.

    Raises:
        RecipeError: side outputs are weighed as well.
        ValueError: the network is not U-shaped, or a value is out of its range.
    """

    def __init__(
        self,
        network: nn.Module,
        recipe: Recipe,
        *,
        alpha: float = 1.0,
        temperature: float = 3.0,
        detach_teacher: bool = False,
        shared_heads: bool = False,
    ) -> None:
        super().__init__(network, recipe)
        if alpha < 0 or temperature <= 0:
            raise ValueError(f"alpha {alpha} must be at least 0, temperature {temperature} above 0")
        assert isinstance(recipe.data.channels, int)
        self.alpha = alpha
        self.temperature = temperature
        self.detach_teacher = detach_teacher
        if recipe.loss.deep_supervision:
            raise RecipeError(
                "loss.deep_supervision",
                "dsd supervises the levels itself",
                "Leave it out; where the system has it, --set loss.deep_supervision=[]",
            )
        levels = find_levels(network, recipe.data.channels)
        # Without divergences nothing is asked of the encoder's heads.
        self.encoder, self.decoder = levels.encoder if alpha else (), levels.decoder
        self.keys = {
            tap: _key(tap, "" if shared_heads else side)
            for side, taps in (("encoder", self.encoder), ("decoder", self.decoder))
            for tap in taps
        }
        dims = spatial_dims(network)
        self.heads = nn.ModuleDict()
        for tap, key in self.keys.items():
            if key not in self.heads:
                self.heads[key] = DeepUp(tap.channels, levels.classes, tap.stride, dims)

    def training_step(self, batch: Batch) -> dict[str, Tensor]:
        logits, *levels = self.outputs(batch["image"])
        split = len(self.encoder)
        encoder, decoder = levels[:split], levels[split:]
        mask, settings = batch["mask"], self.recipe.loss

        def supervised(output: Tensor) -> Tensor:
            return torch.stack(list(weighted_losses(output, mask, settings).values())).sum()

        losses = {
            "main": supervised(logits),
            "decoder": torch.stack([supervised(each) for each in decoder]).sum(),
        }
        if self.alpha:
            # The last level of each path teaches: the encoder's deepest, the decoder's finest.
            divergences = [
                self.divergence(pupil, path[-1])
                for path in (decoder, encoder)
                for pupil in path[:-1]
            ]
            losses["distillation"] = self.alpha * torch.stack(divergences).sum()
        return losses

    def outputs(self, image: Tensor) -> list[Tensor]:
        """Logits ``(B, K, *S)`` of the network, the encoder's heads and the decoder's."""
        taps = [*self.encoder, *self.decoder]
        logits, heard = listen(self.network, image, taps)
        outputs = [logits.float()]
        for tap in taps:
            up: Tensor = self.heads[self.keys[tap]](heard[tap.name]).float()
            if up.shape != logits.shape:
                mode = LINEAR[image.ndim - 2]
                up = F.interpolate(up, logits.shape[2:], mode=mode, align_corners=False)
            outputs.append(up)
        return outputs

    def divergence(self, pupil: Tensor, teacher: Tensor) -> Tensor:
        """T^2 times the mean over pixels of the divergence of softened probabilities.

        Args:
            pupil: ``(B, K, *S)`` logits.
            teacher: likewise.
        """
        if self.detach_teacher:
            teacher = teacher.detach()
        t = self.temperature
        taught = (two_logits(teacher) / t).log_softmax(1)
        learnt = (two_logits(pupil) / t).log_softmax(1)
        return t**2 * (taught.exp() * (taught - learnt)).sum(1).mean()


def _key(tap: Tap, side: str) -> str:
    return f"{side}_{tap.channels}_{tap.stride}".lstrip("_")
