"""The residual block of nnU-Net's kin, for images and volumes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from medseg.nn.blocks import ACTIVATIONS, Activation, Norm, make_norm
from medseg.nn.dims import CONV, Dims


class ResidualBlock(nn.Module):
    """Convolution, norm, activation, convolution, norm; the shortcut is added before the last
    activation. ``(B, I, *spatial) -> (B, O, *spatial / stride)``, rounded up.

    Args:
        in_channels: I.
        out_channels: O.
        stride: of the first convolution, for all axes or each.
        project: the shortcut is a convolution of kernel 1, with bias and no norm; without, it is
            the identity, and I is O and the stride 1.
        norm: after each 3-wide convolution.
        activation: after the first norm and after the sum.
        dims: spatial axes.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int | Sequence[int] = 1,
        project: bool = False,
        norm: Norm = "instance",
        activation: Activation = "leaky_relu",
        dims: Dims = 3,
    ) -> None:
        super().__init__()
        step = stride if isinstance(stride, int) else tuple(stride)
        conv: Callable[..., nn.Module] = CONV[dims]
        self.conv1 = conv(in_channels, out_channels, 3, step, padding=1)
        self.norm1 = make_norm(norm, out_channels, dims)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1)
        self.norm2 = make_norm(norm, out_channels, dims)
        self.activation = ACTIVATIONS[activation]()
        self.shortcut = conv(in_channels, out_channels, 1, step) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        out: Tensor = self.activation(y + self.shortcut(x))
        return out


def residual_stage(
    in_channels: int,
    out_channels: int,
    depth: int,
    *,
    stride: int | Sequence[int] = 1,
    dims: Dims = 3,
) -> nn.Sequential:
    """``depth`` residual blocks, of which the first changes channels and size."""
    first = ResidualBlock(in_channels, out_channels, stride=stride, project=True, dims=dims)
    rest = (ResidualBlock(out_channels, out_channels, dims=dims) for _ in range(depth - 1))
    return nn.Sequential(first, *rest)
