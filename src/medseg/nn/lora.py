"""Low-rank updates of a network's convolutions and linear layers: the weights stay, a sum of few
outer products is learnt beside each.

LoRA: Hu et al. (2021), arXiv 2106.09685. convLoRA: Aleem et al. (2024), arXiv 2402.04964. DoRA: Liu
et al. (2024), arXiv 2402.09353. CP-LoRA, and all of them for U-Nets: Minoccheri, Hodgman et al.
(2025), "LoRA-based methods on Unet for transfer learning in aneurysmal subarachnoid hematoma
segmentation", arXiv 2508.01772.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

Kind = Literal["plain", "convlora", "cp"]
Layer = (
    nn.Linear
    | nn.Conv1d
    | nn.Conv2d
    | nn.Conv3d
    | nn.ConvTranspose1d
    | nn.ConvTranspose2d
    | nn.ConvTranspose3d
)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class LowRank(nn.Module):
    """A learnt low-rank update of the weight of one layer; at first it changes nothing.

    With a weight of O outputs, I inputs (per group) and a kernel of k x k:

    ``plain``: LoRA-C, (O, r) times (r, I k^2). ``convlora``: (O k, r k) times (r k, I k), read row
    by row as a kernel; its rank as a map from inputs to outputs may be k^2 times as high. ``cp``:
    a sum of r outer products of vectors of O, I, k and k numbers. In a linear layer, which has no
    kernel, the three are one.

    Args:
        layer: whose weight is updated.
        rank: r; it may be higher than the weight's.
        alpha: the update is multiplied by ``alpha / rank``.
        kind: see above.
        dora: learn lengths apart from directions (DoRA): ``m (W + update) / |W + update|``, where
            the lengths are those of the weights of each output, and ``m`` begins as that of W.
            Their gradient does not run through the divisor, as its authors propose.

    Raises:
        ValueError: a rank below 1.
    """

    def __init__(
        self,
        layer: Layer,
        rank: int,
        *,
        alpha: float | None = None,
        kind: Kind = "plain",
        dora: bool = False,
    ) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f"rank {rank} must be at least 1")
        self.kind = kind
        self.scale = (rank if alpha is None else alpha) / rank
        self.groups = layer.groups if isinstance(layer, _TRANSPOSED) else 1
        self.transposed = isinstance(layer, _TRANSPOSED)
        weight = layer.weight.detach()
        rows = self._rows(weight)
        self.shape = rows.shape
        self.factors = nn.ParameterList(
            nn.Parameter(weight.new_zeros(size)) for size in _factor_sizes(rows.shape, rank, kind)
        )
        _, *others = self.factors
        if kind == "cp":
            # Together they have the variance of the one factor of ``plain``.
            nn.init.uniform_(others[0], -(self.shape[1] ** -0.5), self.shape[1] ** -0.5)
            for each in others[1:]:
                nn.init.uniform_(each, -math.sqrt(3 / each.shape[1]), math.sqrt(3 / each.shape[1]))
        else:
            nn.init.kaiming_uniform_(others[0], a=math.sqrt(5))
        self.magnitude = nn.Parameter(_lengths(rows)) if dora else None

    def forward(self, weight: Tensor) -> Tensor:
        """The updated weight, of the same shape."""
        # Half precision would make what is trained differ from what is merged; PyTorch's device
        # without content has none.
        exact = torch.autocast(weight.device.type, enabled=False) if not weight.is_meta else None
        with exact or nullcontext():
            updated = weight + self.update()
            if self.magnitude is None:
                return updated
            rows = self._rows(updated)
            lengths = _lengths(rows.detach()).clamp_min(torch.finfo(rows.dtype).tiny)
            factor = (self.magnitude / lengths).view(-1, *[1] * (rows.ndim - 1))
            return self._layout(rows * factor)

    def update(self) -> Tensor:
        """What is added to the weight, of its shape."""
        left, *others = self.factors
        right = others[0]
        if self.kind == "cp":
            left = left.T
            for each in others[1:]:
                right = (right[:, :, None] * each[:, None]).flatten(1)
        return self._layout((left @ right * self.scale).view(self.shape))

    def _rows(self, weight: Tensor) -> Tensor:
        """The weight as (O, I / groups, *kernel); that of a transposed convolution is stored as
        (I, O / groups, *kernel)."""
        if not self.transposed:
            return weight
        inputs, outputs, *kernel = weight.shape
        by_group = weight.reshape(self.groups, inputs // self.groups, outputs, *kernel)
        return by_group.transpose(1, 2).flatten(0, 1)

    def _layout(self, rows: Tensor) -> Tensor:
        """Back from :meth:`_rows`, which undoes itself."""
        return self._rows(rows)


def _factor_sizes(shape: torch.Size, rank: int, kind: Kind) -> list[tuple[int, int]]:
    outputs, inputs, *kernel = shape
    if kind == "cp":
        return [(rank, size) for size in shape]
    # A square kernel is shared between the factors of convlora; in a volume the first gets one
    # axis, the second two.
    height = kernel[0] if kind == "convlora" and kernel else 1
    width = math.prod(kernel) // height
    return [(outputs * height, rank * height), (rank * height, inputs * width)]


def _lengths(rows: Tensor) -> Tensor:
    """(O,) Euclidean norms over all other axes."""
    lengths: Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1)
    return lengths


def add_low_rank(
    layer: Layer,
    rank: int,
    *,
    alpha: float | None = None,
    kind: Kind = "plain",
    dora: bool = False,
) -> LowRank:
    """Put a :class:`LowRank` update on the weight of ``layer``, in place, and freeze the weight.

    The layer goes on as before: its ``weight`` is the updated one, wherever it is read.

    Args:
        layer: likewise.
        rank: and what follows: as for :class:`LowRank`.
        alpha: likewise.
        kind: likewise.
        dora: likewise.
    """
    update = LowRank(layer, rank, alpha=alpha, kind=kind, dora=dora)
    layer.weight.requires_grad_(False)
    register_parametrization(layer, "weight", update)
    return update


def low_rank_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module, LowRank]]:
    """Name, layer and update of every layer that has one."""
    for name, layer in network.named_modules():
        found = getattr(layer, "parametrizations", None)
        if isinstance(found, nn.ModuleDict) and "weight" in found:
            update = found["weight"][0]  # type: ignore[index]
            if isinstance(update, LowRank):
                yield name, layer, update


@dataclass(frozen=True, slots=True)
class Merged:
    """What :func:`merge` took out of a layer: its former weight and the update."""

    weight: Tensor
    update: LowRank


@torch.no_grad()
def merge(network: nn.Module) -> Mapping[str, Merged]:
    """Replace every updated weight by a plain one of the same values, in place.

    Merging again changes nothing.

    Returns:
        What :func:`unmerge` needs, by the layer's name.
    """
    taken: dict[str, Merged] = {}
    for name, layer, update in list(low_rank_layers(network)):
        weight = layer.weight.detach().clone()  # type: ignore[operator]
        base: Tensor = layer.parametrizations["weight"].original  # type: ignore[index, union-attr]
        # Not remove_parametrizations, which would also alter a layer's copies: they share a class.
        layer.__class__ = type(layer).__bases__[0]
        del layer.parametrizations
        layer.weight = nn.Parameter(weight, requires_grad=base.requires_grad)
        taken[name] = Merged(base.detach(), update)
    return taken


@torch.no_grad()
def unmerge(network: nn.Module, merged: Mapping[str, Merged]) -> None:
    """Undo :func:`merge`, in place and to the bit."""
    for name, each in merged.items():
        layer = network.get_submodule(name)
        layer.weight = nn.Parameter(each.weight, requires_grad=False)
        register_parametrization(layer, "weight", each.update)
