"""STU-Net: a residual U-Net of volumes whose weights fit any patch size and spacing.

Huang, Wang, Deng, Ye, Su, Sun, He, Gu, Gu, Zhang, Qiao (2023), "STU-Net: Scalable and Transferable
Medical Image Segmentation Models Empowered by Large-Scale Supervised Pre-training", arXiv
2304.06716. Official code: github.com/uni-medical/STU-Net (Apache-2.0).

Six stages, always; every kernel is 3x3x3; up-sampling is nearest interpolation and a 1x1x1
convolution. Only strides follow the data, and they have no weights: so one pre-trained network
serves every dataset. Width and depth grow together, from 14.6 million to 1.46 billion parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.nn.blocks import crop, pad_to_multiple
from medseg.nn.published import Published
from medseg.nn.residual_block import residual_stage

Stride = tuple[
    Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]
]

_HALVED: Stride = (2, 2, 2)


class STUNet(nn.Module):
    """STU-Net; the default is B, of 58,160,773 parameters (3 input channels, 1 class).

    Args:
        in_channels: channels of the volumes.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        widths: channels of the six stages.
        depth: residual blocks a stage.
        strides: of the five last stages along each axis; an axis of few slices is better halved
            less often.
        as_released: leaves convolutions as PyTorch initialises them, like the authors' release for
            nnU-Net 2; otherwise He's initialisation, as in their first.

    Raises:
        ValueError: options that make no network.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 1,
        *,
        widths: Sequence[int] = (32, 64, 128, 256, 512, 512),
        depth: int = 1,
        strides: Sequence[Stride] = (_HALVED,) * 5,
        as_released: bool = False,
    ) -> None:
        super().__init__()
        if len(widths) < 2 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold two or more numbers >= 1")
        if depth < 1:
            raise ValueError(f"depth {depth} must be at least 1")
        if len(strides) != len(widths) - 1:
            raise ValueError(
                f"strides {list(strides)} must be {len(widths) - 1}, one a stage but the first"
            )
        self.strides = [tuple(each) for each in strides]
        self.multiple = [math.prod(along) for along in zip(*strides, strict=True)]
        self.encoder = nn.ModuleList([residual_stage(in_channels, widths[0], depth)])
        self.encoder.extend(
            residual_stage(before, width, depth, stride=stride)
            for before, width, stride in zip(widths, widths[1:], strides, strict=False)
        )
        upward = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.Conv3d(deep, shallow, 1) for deep, shallow in upward)
        self.decoder = nn.ModuleList(
            residual_stage(2 * shallow, shallow, depth) for _, shallow in upward
        )
        self.heads = nn.ModuleList(nn.Conv3d(shallow, num_classes, 1) for _, shallow in upward)
        if not as_released:
            initialise_leaky(self)

    @staticmethod
    def published(weights: Mapping[str, Tensor]) -> Published:
        """The authors' checkpoints (``network_weights`` of nnU-Net 2, ``state_dict`` of 1).

        Raises:
            ValueError: other weights.
        """
        found = from_official(weights)
        stages = sum(name.endswith(".0.conv1.weight") for name in found if name[:8] == "encoder.")
        try:
            first, head = found["encoder.0.0.conv1.weight"], found["heads.0.weight"]
            widths = [len(found[f"encoder.{stage}.0.conv1.weight"]) for stage in range(stages)]
        except KeyError as error:
            raise ValueError(f"there is no {error} among the weights of STU-Net") from error
        depth = sum(
            name.startswith("encoder.0.") and name.endswith("conv1.weight") for name in found
        )
        return Published(found, first.shape[1], len(head), {"widths": widths, "depth": depth})

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Maps of the six stages, ``(B, widths[i], *spatial / strides)``."""
        features: list[Tensor] = []
        x = image
        for stage in self.encoder:
            x = stage(x)
            features.append(x)
        return features

    def forward_all(self, image: Tensor) -> list[Tensor]:
        """The logits of all heads, each ``(B, K, D, H, W)``, from shallow to deep.

        For deep supervision, where the authors' losses have the weights 1, 1/2, 1/4, 1/8 and 0.
        Those of deeper heads are repeated to full size; the authors shrink the masks instead.
        """
        padded = pad_to_multiple(image, self.multiple)
        maps = self._decode(padded)
        outputs = [head(x) for head, x in zip(self.heads, maps, strict=True)]
        full = [F.interpolate(x, size=padded.shape[2:], mode="nearest") for x in outputs]
        return [crop(x, image.shape[2:]) for x in full[::-1]]

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, D, H, W)`` volumes of any size to ``(B, K, D, H, W)`` logits."""
        logits: Tensor = self.heads[-1](self._decode(pad_to_multiple(image, self.multiple))[-1])
        return crop(logits, image.shape[2:])

    def _decode(self, image: Tensor) -> list[Tensor]:
        """Maps of the decoder, from deep to shallow."""
        *skips, x = self.forward_features(image)
        maps: list[Tensor] = []
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            grown = up(F.interpolate(x, size=skip.shape[2:], mode="nearest"))
            x = stage(torch.cat([grown, skip], dim=1))
            maps.append(x)
        return maps


def initialise_leaky(module: nn.Module) -> None:
    """He initialisation by fan-in for leaky ReLU of slope 0.01; biases at zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv3d):
            nn.init.kaiming_normal_(layer.weight, a=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def strides_for(patch: Sequence[int], count: int = 5, least: int = 4) -> tuple[Stride, ...]:
    """Strides that halve each axis of ``patch`` while it stays at least ``least`` voxels long.

    Args:
        patch: voxels along each of the three axes.
        count: of stages that may halve; the stages that halve nothing come last, as the authors pad
            a plan that is too short.
        least: voxels of an axis at the deepest stage.
    """
    left = list(patch)
    strides: list[Stride] = []
    for _ in range(count):
        a, b, c = (2 if side // 2 >= least else 1 for side in left)
        strides.append((a, b, c))
        left = [math.ceil(side / step) for side, step in zip(left, (a, b, c), strict=True)]
    return tuple(strides)


_NAMES = {
    "conv_blocks_context": "encoder",
    "upsample_layers": "up",
    "conv_blocks_localization": "decoder",
    "seg_outputs": "heads",
}


def from_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the official code's names as this network's ``state_dict``.

    Args:
        weights: by the names of the authors' module, with or without the prefixes that
            data-parallel or compiled modules add.

    Raises:
        ValueError: a name that the official network does not have.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        bare = name.removeprefix("module.").removeprefix("_orig_mod.")
        part, _, rest = bare.partition(".")
        if part not in _NAMES:
            raise ValueError(f"{name} is no part of STU-Net")
        if part == "upsample_layers":
            rest = rest.replace(".conv.", ".")
        found[f"{_NAMES[part]}.{rest.replace('.conv3.', '.shortcut.')}"] = value
    return found
