"""U-Net on the light encoders of image classification: MobileNetV2, MobileNetV3, EfficientNet-B0.

Encoders: Sandler, Howard, Zhu, Zhmoginov, Chen (2018), arXiv 1801.04381; Howard et al. (2019),
arXiv 1905.02244; Tan, Le (2019), arXiv 1905.11946. The decoder is segmentation_models.pytorch's
(Iakubovskii 2019, github.com/qubvel-org/segmentation_models.pytorch, MIT), which most comparisons
mean when they say U-Net and the name of an encoder: nearest-neighbour upsampling, concatenation,
two 3x3 convolutions. The encoders start at half the size, so nothing is concatenated at full size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import ModelError
from medseg.nn.blocks import Activation, ConvNormAct, pad_to_multiple
from medseg.nn.fan_out import initialise_by_fan_out
from medseg.nn.mobilenet import Gate, InvertedResidual, SqueezeExcite, round_channels

EncoderName = Literal[
    "mobilenetv2_100",
    "mobilenetv2_050",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "efficientnet_b0",
]


@dataclass(frozen=True)
class Block:
    """A row of an encoder's table: an inverted residual of ``middle`` channels."""

    kernel: int
    middle: int
    channels: int
    activation: Activation
    squeezed: int = 0
    stride: int = 1


@dataclass(frozen=True)
class Table:
    """An encoder as its paper lists it.

    Attributes:
        stem: channels of the first convolution, 3x3 with stride 2.
        activation: after the stem and after the last convolution.
        stages: blocks between which, in the published weights, the names change.
        last: channels of a last 1x1 convolution, or 0 for none.
        squeeze_activation: inside squeeze-and-excitation.
        gate: of squeeze-and-excitation.
    """

    stem: int
    activation: Activation
    stages: Sequence[Sequence[Block]]
    last: int = 0
    squeeze_activation: Activation = "relu"
    gate: Gate = "hardsigmoid"


def mobilenet_v2(multiplier: float) -> Table:
    """Table 2 of Sandler et al., its last convolution left out, all widths times ``multiplier``."""
    before = stem = round_channels(32 * multiplier)
    stages = []
    for expansion, width, depth, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        stage = []
        for i in range(depth):
            channels = round_channels(width * multiplier)
            middle = expansion * before
            stage.append(Block(3, middle, channels, "relu6", stride=1 if i else stride))
            before = channels
        stages.append(stage)
    return Table(stem, "relu6", stages)


def mobilenet_v3(rows: Sequence[Sequence[tuple[int, int, int, bool, bool, int]]]) -> Table:
    """A table of Howard et al.: kernel, middle, channels, squeeze, hard swish, stride of a block.

    A last 1x1 convolution makes six times the channels.
    """
    stages = [
        [
            Block(
                kernel,
                middle,
                channels,
                "hard_swish" if hard_swish else "relu",
                round_channels(middle / 4) if squeeze else 0,
                stride,
            )
            for kernel, middle, channels, squeeze, hard_swish, stride in stage
        ]
        for stage in rows
    ]
    return Table(16, "hard_swish", stages, last=6 * rows[-1][-1][2])


def efficientnet_b0() -> Table:
    """Table 1 of Tan and Le, its last convolution left out."""
    before = 32
    stages = []
    for expansion, kernel, channels, depth, stride in (
        (1, 3, 16, 1, 1),
        (6, 3, 24, 2, 2),
        (6, 5, 40, 2, 2),
        (6, 3, 80, 3, 2),
        (6, 5, 112, 3, 1),
        (6, 5, 192, 4, 2),
        (6, 3, 320, 1, 1),
    ):
        stage = []
        for i in range(depth):
            first = 1 if i else stride
            stage.append(Block(kernel, expansion * before, channels, "silu", before // 4, first))
            before = channels
        stages.append(stage)
    return Table(32, "silu", stages, squeeze_activation="silu", gate="sigmoid")


TABLES: dict[EncoderName, Table] = {
    "mobilenetv2_100": mobilenet_v2(1.0),
    "mobilenetv2_050": mobilenet_v2(0.5),
    "mobilenetv3_small_100": mobilenet_v3(
        (
            ((3, 16, 16, True, False, 2),),
            ((3, 72, 24, False, False, 2), (3, 88, 24, False, False, 1)),
            ((5, 96, 40, True, True, 2), *2 * ((5, 240, 40, True, True, 1),)),
            ((5, 120, 48, True, True, 1), (5, 144, 48, True, True, 1)),
            ((5, 288, 96, True, True, 2), *2 * ((5, 576, 96, True, True, 1),)),
        )
    ),
    "mobilenetv3_large_100": mobilenet_v3(
        (
            ((3, 16, 16, False, False, 1),),
            ((3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1)),
            ((5, 72, 40, True, False, 2), *2 * ((5, 120, 40, True, False, 1),)),
            (
                (3, 240, 80, False, True, 2),
                (3, 200, 80, False, True, 1),
                *2 * ((3, 184, 80, False, True, 1),),
            ),
            ((3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1)),
            ((5, 672, 160, True, True, 2), *2 * ((5, 960, 160, True, True, 1),)),
        )
    ),
    "efficientnet_b0": efficientnet_b0(),
}


class Encoder(nn.Module):
    """Layers of a table in five levels, each of which halves the size.

    Attributes:
        widths: channels at 1/2, 1/4, 1/8, 1/16, 1/32.
        levels: their layers.
        published: for each layer of all levels in turn, where the published weights keep it.
    """

    def __init__(self, in_channels: int, table: Table) -> None:
        super().__init__()
        before = table.stem
        levels: list[list[nn.Module]] = [
            [ConvNormAct(in_channels, before, stride=2, activation=table.activation)]
        ]
        self.published = [""]
        self.widths = [before]
        for i, stage in enumerate(table.stages):
            for j, block in enumerate(stage):
                if block.stride == 2:
                    levels.append([])
                    self.widths.append(0)
                levels[-1].append(inverted_residual(before, block, table))
                self.published.append(f"blocks.{i}.{j}.")
                self.widths[-1] = before = block.channels
        if table.last:
            levels[-1].append(ConvNormAct(before, table.last, 1, activation=table.activation))
            self.published.append(f"blocks.{len(table.stages)}.0.")
            self.widths[-1] = table.last
        self.levels = nn.ModuleList(nn.Sequential(*layers) for layers in levels)

    def forward(self, image: Tensor) -> list[Tensor]:
        """``(B, C, H, W)`` to ``(B, widths[i], H / 2^(i+1), W / 2^(i+1))``."""
        features: list[Tensor] = []
        for level in self.levels:
            features.append(level(features[-1] if features else image))
        return features


def inverted_residual(in_channels: int, block: Block, table: Table) -> InvertedResidual:
    """The layer of a row."""
    squeeze_excite = None
    if block.squeezed:
        squeeze_excite = SqueezeExcite(
            block.middle, block.squeezed, activation=table.squeeze_activation, gate=table.gate
        )
    return InvertedResidual(
        in_channels,
        block.middle,
        block.channels,
        block.kernel,
        stride=block.stride,
        activation=block.activation,
        squeeze_excite=squeeze_excite,
    )


class MobileUNet(nn.Module):
    """U-Net on a light encoder; the default has 4,004,945 parameters (3 input channels, 1 class).

    Args:
        in_channels: image channels.
        num_classes: logit channels: 1 for a binary task, else the classes incl. background.
        encoder: as timm calls it. With ``mobilenetv2_050`` (half the widths) there are 2,168,977
            parameters, with ``mobilenetv3_small_100`` 3,585,649, with ``mobilenetv3_large_100``
            6,685,825 and with ``efficientnet_b0`` 5,834,701.
        widths: channels of the decoder at 1/16, 1/8, 1/4, 1/2 and full size.

    Raises:
        KeyError: there is no such encoder.
        ValueError: widths that make no network.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 1,
        *,
        encoder: EncoderName = "mobilenetv2_100",
        widths: Sequence[int] = (256, 128, 64, 32, 16),
    ) -> None:
        super().__init__()
        if len(widths) != 5 or min(widths) < 1:
            raise ValueError(f"widths {list(widths)} must hold five numbers >= 1")
        self.encoder = Encoder(in_channels, TABLES[encoder])
        *skips, deepest = self.encoder.widths
        self.decoder = nn.ModuleList(
            nn.Sequential(ConvNormAct(below + skip, width), ConvNormAct(width, width))
            for below, skip, width in zip(
                (deepest, *widths), (*skips[::-1], 0), widths, strict=False
            )
        )
        self.head = nn.Conv2d(widths[-1], num_classes, 3, padding=1)
        self.encoder.apply(initialise_by_fan_out)
        for layer in self.decoder.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu")
        nn.init.xavier_uniform_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def forward_features(self, image: Tensor) -> list[Tensor]:
        """Encoder maps at 1/2 ... 1/32; 32 must divide H and W."""
        features: list[Tensor] = self.encoder(image)
        return features

    def forward(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` images of any size to ``(B, K, H, W)`` logits."""
        height, width = image.shape[-2:]
        *skips, x = self.forward_features(pad_to_multiple(image, 32))
        for block in self.decoder:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([x, skips.pop()], dim=1) if skips else x)
        logits: Tensor = self.head(x)
        return logits[..., :height, :width]


_EXPANDING = {
    "body.expand.0": "conv_pw",
    "body.expand.1": "bn1",
    "body.depthwise.0": "conv_dw",
    "body.depthwise.1": "bn2",
    "body.project.0": "conv_pwl",
    "body.project.1": "bn3",
}
_NOT_EXPANDING = {
    "body.depthwise.0": "conv_dw",
    "body.depthwise.1": "bn1",
    "body.project.0": "conv_pw",
    "body.project.1": "bn2",
}
_SQUEEZING = {
    "body.squeeze_excite.reduce": "se.conv_reduce",
    "body.squeeze_excite.restore": "se.conv_expand",
}


def published_names(encoder: Encoder) -> dict[str, str]:
    """Where timm's weights keep each weight and statistic of an encoder: our name to timm's."""
    layers = [
        (f"levels.{i}.{j}.", layer)
        for i, level in enumerate(encoder.levels)
        for j, layer in enumerate(level.children())
    ]
    names = {}
    for (ours, layer), theirs in zip(layers, encoder.published, strict=True):
        renamed = {"0": "conv" if theirs else "conv_stem", "1": "bn1"}
        if isinstance(layer, InvertedResidual):
            expands = hasattr(layer.body, "expand")
            renamed = (_EXPANDING if expands else _NOT_EXPANDING) | _SQUEEZING
        for key in layer.state_dict():
            module, _, kind = key.rpartition(".")
            if kind != "num_batches_tracked":
                names[ours + key] = f"{theirs}{renamed[module]}.{kind}"
    return names


def load_encoder_weights(network: MobileUNet, path: Path) -> None:
    """Give the encoder weights of image classification in the layout in which timm publishes them.

    Such are the ``model.safetensors`` of huggingface.co/timm for the encoders' names, e.g.
    ``mobilenetv2_100.ra_in1k``, whose page tells the licence and how images were normalised: mostly
    by ImageNet's mean (0.485, 0.456, 0.406) and standard deviation (0.229, 0.224, 0.225). The
    classifier's weights, which have no place in the encoder, are passed over. For one image channel
    those of red, green and blue are summed; for C others they are repeated in turn, times 3 / C.

    Args:
        network: changed in place; its decoder is left as it is.
        path: a ``.safetensors`` file, or a ``.pt``, ``.pth`` or ``.bin`` file of PyTorch that
            holds nothing but a state dict.

    Raises:
        ModelError: the file cannot be read, or does not hold this encoder; the network is left
            as it was.
    """
    published = _read(path)
    names = published_names(network.encoder)
    missing = [name for name in names.values() if name not in published]
    if missing:
        raise ModelError(
            path,
            f"there is no {missing[0]} in it ({len(missing)} of {len(names)} weights are missing)",
            "Give the weights of this encoder as timm publishes them",
        )
    current = network.encoder.state_dict()
    weights = {ours: published[theirs] for ours, theirs in names.items()}
    stem = next(iter(names))
    weights[stem] = _for_channels(weights[stem], current[stem].shape[1])
    for ours, theirs in names.items():
        if weights[ours].shape != current[ours].shape:
            raise ModelError(
                path,
                f"{theirs} is {tuple(published[theirs].shape)}, and the encoder's is "
                f"{tuple(current[ours].shape)}",
                "Give the weights of this encoder, or build the network with theirs",
            )
    network.encoder.load_state_dict(current | weights)


def _for_channels(colours: Tensor, channels: int) -> Tensor:
    """``(O, 3, k, k)`` weights of a first convolution as ``(O, channels, k, k)``."""
    if colours.ndim != 4 or colours.shape[1] in (0, channels):
        return colours
    if channels == 1:
        return colours.sum(1, keepdim=True)
    copies = -(-channels // colours.shape[1])
    repeated = colours.repeat(1, copies, 1, 1)[:, :channels]
    return repeated * (colours.shape[1] / channels)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a broken file makes of PyTorch's reader is not documented
        raise ModelError(
            path, f"it cannot be read ({type(error).__name__})", "Give a state dict"
        ) from error
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(path, "it does not hold tensors by name only", "Give a state dict")
    return state
