"""The inverted residual of the MobileNets and EfficientNets, and its squeeze-and-excitation.

Sandler et al. (2018), arXiv 1801.04381 (MobileNetV2); Howard et al. (2019), arXiv 1905.02244
(MobileNetV3); Tan, Le (2019), arXiv 1905.11946 (EfficientNet); Hu et al. (2018), arXiv 1709.01507
(squeeze-and-excitation).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from medseg.nn.blocks import ACTIVATIONS, Activation, ConvNormAct, spatial_mean

Gate = Literal["sigmoid", "hardsigmoid"]


def round_channels(channels: float, unit: int = 8) -> int:
    """The multiple of ``unit`` nearest to ``channels``, or the next if that is 10 % too few.

    As all MobileNets scale their widths; at least ``unit``.
    """
    rounded = max(unit, int(channels + unit / 2) // unit * unit)
    return rounded if rounded >= 0.9 * channels else rounded + unit


class SqueezeExcite(nn.Module):
    """Weigh each channel of ``(B, C, H, W)`` by a gate computed of all channels' means.

    Args:
        channels: C.
        squeezed: channels between the two 1x1 convolutions (with bias).
        activation: between them.
        gate: after them.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        activation: Activation = "relu",
        gate: Gate = "sigmoid",
    ) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.activation = ACTIVATIONS[activation]()
        self.restore = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Hardsigmoid() if gate == "hardsigmoid" else nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        # (B, C, H, W) -> (B, C, 1, 1)
        weights = self.gate(self.restore(self.activation(self.reduce(spatial_mean(x)))))
        out: Tensor = x * weights
        return out


class InvertedResidual(nn.Module):
    """Expand (1x1), convolve depthwise, weigh channels, reduce linearly (1x1).

    ``(B, I, H, W) -> (B, O, ceil(H / s), ceil(W / s))``. The input is added where the shape does
    not change; there is no expansion where it would not change the number of channels.

    Args:
        in_channels: I.
        middle: channels of the depthwise convolution.
        out_channels: O.
        kernel: of the depthwise convolution, odd.
        stride: s.
        activation: after expansion and depthwise convolution.
        squeeze_excite: after the depthwise convolution, of ``middle`` channels; None for none.
    """

    def __init__(
        self,
        in_channels: int,
        middle: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        activation: Activation = "relu6",
        squeeze_excite: SqueezeExcite | None = None,
    ) -> None:
        super().__init__()
        body: dict[str, nn.Module] = {}
        if middle != in_channels:
            body["expand"] = ConvNormAct(in_channels, middle, 1, activation=activation)
        body["depthwise"] = ConvNormAct(
            middle, middle, kernel, stride=stride, groups=middle, activation=activation
        )
        if squeeze_excite is not None:
            body["squeeze_excite"] = squeeze_excite
        body["project"] = ConvNormAct(middle, out_channels, 1, activation=None)
        self.body = nn.Sequential()
        for name, layer in body.items():
            self.body.add_module(name, layer)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return x + out if self.residual else out
