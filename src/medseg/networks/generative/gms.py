"""Generative Medical Segmentation: a picture's code is mapped to its mask's code, and decoded.

Huo, Ouyang, Ourselin, Sparks (2024), "Generative Medical Segmentation", AAAI 2025,
arXiv 2403.18198. Official code: github.com/King-HAW/GMS.

An autoencoder that knows pictures turns the image into a small code. A network without any change
of resolution maps it, in one pass, to the code of the mask seen as a picture, which the
autoencoder's decoder makes a picture again. Only the mapping is trained with the masks.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.networks.generative.autoencoders import REDUCTION, Kind, make_autoencoder
from medseg.nn.blocks import crop, pad_to_multiple

GROUPS = 16
_CERTAIN = 1e-4


class Norm(nn.GroupNorm):
    """Over 16 groups; its bias where a group is a single number, which PyTorch's own refuses."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, GROUPS, self.weight, self.bias, self.eps)


class ResidualBlock(nn.Module):
    """Twice group norm, PReLU and a 3x3 convolution, around an identity or 1x1."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.first_activation, self.second_activation = nn.PReLU(), nn.PReLU()
        self.first_norm = Norm(in_channels)
        self.first = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.second_norm = Norm(out_channels)
        self.second = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.skip = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(self.first_activation(self.first_norm(x)))
        y = self.second(self.second_activation(self.second_norm(y)))
        out: Tensor = self.skip(x) + y
        return out


class SpatialAttention(nn.Module):
    """Attention of one head among all places of a map, added to it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = Norm(channels)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        # each (B, C, H, W) -> (B, 1, H W, C)
        query, key, value = (
            each(y).flatten(2).transpose(1, 2).unsqueeze(1)
            for each in (self.query, self.key, self.value)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.project(attended.squeeze(1).transpose(1, 2).reshape(x.shape))
        return out


def attentive(in_channels: int, out_channels: int) -> nn.Sequential:
    """A residual block and attention."""
    return nn.Sequential(ResidualBlock(in_channels, out_channels), SpatialAttention(out_channels))


def code_head(in_channels: int, out_channels: int) -> nn.Sequential:
    """Group norm, SiLU and a 3x3 convolution without bias."""
    return nn.Sequential(
        Norm(in_channels),
        nn.SiLU(),
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
    )


class MappingNetwork(nn.Module):
    """A U-Net that keeps the resolution; 1,564,976 parameters for codes of 4 channels.

    Args:
        in_channels: of the image's code.
        out_channels: of the mask's code.
        width: channels of the first level, a multiple of 16.
    """

    def __init__(self, in_channels: int = 4, out_channels: int = 4, width: int = 32) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 4 * width, 4 * width)
        self.stem = nn.Conv2d(in_channels, width, 3, padding=1)
        self.down = nn.ModuleList(attentive(*pair) for pair in pairwise(widths))
        narrower = widths[3::-1]
        self.up = nn.ModuleList(
            attentive(wide + narrow, narrow)
            for wide, narrow in zip((widths[4], *narrower), narrower, strict=False)
        )
        self.heads = nn.ModuleList(code_head(each, out_channels) for each in narrower)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="leaky_relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def levels(self, code: Tensor) -> list[Tensor]:
        """What the heads are given, the deepest first: ``(B, C, h, w)`` each."""
        skips = [self.stem(code)]
        for block in self.down:
            skips.append(block(skips[-1]))
        x, found = skips.pop(), []
        for block in self.up:
            x = block(torch.cat([skips.pop(), x], dim=1))
            found.append(x)
        return found

    def forward_all(self, code: Tensor) -> list[Tensor]:
        """Codes ``(B, out_channels, h, w)`` of all four levels, the deepest first."""
        return [head(x) for head, x in zip(self.heads, self.levels(code), strict=True)]

    def forward(self, code: Tensor) -> Tensor:
        """``(B, in_channels, h, w)`` to ``(B, out_channels, h, w)``: the last level's code."""
        out: Tensor = self.heads[-1](self.levels(code)[-1])
        return out


class GMS(nn.Module):
    """Generative Medical Segmentation, to be trained by the method ``gms``.

    The mask of a class is a grey picture. A binary task has one; of several classes every one, the
    background among them, has a code of its own.

    Args:
        in_channels: image channels, 1 or 3; one is repeated.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        autoencoder: ``small``, which the method trains first, or ``stable-diffusion``, which
            comes through diffusers and of which the method loads published weights.
        width: channels of the mapping's first level, a multiple of 16.

    Raises:
        ValueError: numbers that make no network.
        MedsegError: the autoencoder needs diffusers, which is not installed.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        autoencoder: Kind = "small",
        width: int = 32,
    ) -> None:
        super().__init__()
        if in_channels not in (1, 3):
            raise ValueError(f"in_channels {in_channels} must be 1 or 3")
        if width < 1 or width % GROUPS:
            raise ValueError(f"width {width} must be a multiple of {GROUPS}")
        self.planes = num_classes
        self.autoencoder = make_autoencoder(autoencoder)
        channels = self.autoencoder.code_channels
        self.mapping = MappingNetwork(channels, num_classes * channels, width)
        # Images come normalised, and the autoencoder wants pixels between -1 and 1.
        self.register_buffer("mean", torch.full((1, in_channels, 1, 1), 0.5))
        self.register_buffer("std", torch.full((1, in_channels, 1, 1), 0.5))

    def picture(self, image: Tensor) -> Tensor:
        """A normalised ``(B, C, H, W)`` image as a picture, ``(B, 3, H, W)`` from -1 to 1."""
        pixels = image * self.std + self.mean
        return (2 * pixels - 1).expand(-1, 3, -1, -1)

    def encode(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, 3, H, W)`` to the mean and the deviation of its scaled code."""
        mean, deviation = self.autoencoder.encode(picture)
        return self.autoencoder.scale * mean, self.autoencoder.scale * deviation

    def decode(self, codes: Tensor) -> Tensor:
        """Scaled codes ``(B, K x c, h, w)`` to grey pictures ``(B, K, 8 h, 8 w)``, of -1 to 1."""
        each = codes.reshape(-1, self.autoencoder.code_channels, *codes.shape[2:])
        grey = self.autoencoder.decode(each / self.autoencoder.scale).mean(1)
        return grey.reshape(-1, self.planes, *grey.shape[1:])

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits.

        A pixel's probability is how bright it is decoded, from black to white.
        """
        picture = self.picture(pad_to_multiple(image, REDUCTION))
        shares = (self.decode(self.mapping(self.encode(picture)[0])) + 1) / 2
        logits = torch.logit(shares, eps=_CERTAIN)
        return crop(logits, image.shape[2:])
