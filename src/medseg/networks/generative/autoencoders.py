"""Autoencoders of pictures: Stable Diffusion's, through diffusers, and a small one.

Rombach, Blattmann, Lorenz, Esser, Ommer (2022), "High-resolution image synthesis with latent
diffusion models", arXiv 2112.10752. A picture of three channels between -1 and 1 becomes the mean
and the standard deviation of a code at an eighth of its size, and a code becomes a picture.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import ModelError
from medseg.extras import needed_by
from medseg.nn.blocks import ConvNormAct, ResidualUnit, initialise

REDUCTION = 8
"""Sides of a picture over those of its code."""

Kind = Literal["small", "stable-diffusion"]


class Autoencoder(nn.Module, ABC):
    """Pictures to codes and back.

    Attributes:
        code_channels: of a code.
        scale: what codes are multiplied by so that they spread by about 1.
    """

    code_channels: int = 4
    scale: float = 1.0

    @abstractmethod
    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)``, of which 8 divides both sides, to mean and standard deviation
        ``(B, code_channels, H / 8, W / 8)``, not scaled."""

    @abstractmethod
    def decode(self, code: Tensor) -> Tensor:
        """``(B, code_channels, h, w)``, not scaled, to ``(B, 3, 8 h, 8 w)``."""


class SmallAutoencoder(Autoencoder):
    """Three halvings with a residual unit each, and their mirror image; 279,531 parameters.

    Args:
        widths: channels at 1/2, 1/4 and 1/8.
    """

    def __init__(self, widths: Sequence[int] = (16, 32, 64)) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Sequential(), nn.Sequential()
        channels = 3
        for width in widths:
            self.encoder.append(
                ConvNormAct(channels, width, stride=2, norm="group", activation="silu")
            )
            self.encoder.append(ResidualUnit(width, norm="group", activation="silu"))
            channels = width
        self.encoder.append(nn.Conv2d(channels, 2 * self.code_channels, 1))
        self.decoder.append(nn.Conv2d(self.code_channels, channels, 1))
        for width in reversed(widths):
            self.decoder.append(ConvNormAct(channels, width, norm="group", activation="silu"))
            self.decoder.append(ResidualUnit(width, norm="group", activation="silu"))
            self.decoder.append(nn.Upsample(scale_factor=2.0, mode="bilinear"))
            channels = width
        self.last = nn.Conv2d(channels, 3, 3, padding=1)
        initialise(self)

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder(picture).chunk(2, dim=1)
        return mean, torch.exp(0.5 * log_variance.clamp(-30, 20))

    def decode(self, code: Tensor) -> Tensor:
        out: Tensor = self.last(self.decoder(code))
        return out


class StableDiffusionAutoencoder(Autoencoder):
    """That of Stable Diffusion 1 and 2, with fresh weights; 83,653,863 parameters.

    Raises:
        MedsegError: diffusers is not installed.
    """

    scale = 0.18215

    def __init__(self) -> None:
        super().__init__()
        with needed_by("network.autoencoder=stable-diffusion"):
            from diffusers import AutoencoderKL
        self.layers: Any = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            latent_channels=self.code_channels,
            sample_size=256,
        )

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        found = self.layers.encode(picture).latent_dist
        return found.mean, found.std

    def decode(self, code: Tensor) -> Tensor:
        out: Tensor = self.layers.decode(code).sample
        return out

    def load(self, place: str) -> None:
        """Take published weights.

        Args:
            place: a folder, or a repository of Hugging Face such as ``stabilityai/sd-vae-ft-mse``,
                which is downloaded.

        Raises:
            ModelError: it cannot be read, or holds another autoencoder.
        """
        from diffusers import AutoencoderKL

        try:
            found = AutoencoderKL.from_pretrained(place)
            self.layers.load_state_dict(found.state_dict())
        except Exception as error:  # of the network, the disk, or of weights that do not fit
            raise ModelError(
                place,
                f"no autoencoder of Stable Diffusion can be read from it ({error})",
                "Name a folder with config.json and diffusion_pytorch_model.safetensors",
            ) from error


def make_autoencoder(kind: Kind) -> Autoencoder:
    """An autoencoder with fresh weights."""
    return SmallAutoencoder() if kind == "small" else StableDiffusionAutoencoder()


def divergence(mean: Tensor, deviation: Tensor) -> Tensor:
    """Of codes from the standard normal distribution (Kullback-Leibler), a mean over numbers."""
    return 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()


def reconstruction_loss(found: Tensor, picture: Tensor) -> Tensor:
    """Mean absolute difference of pictures."""
    return F.l1_loss(found, picture)
