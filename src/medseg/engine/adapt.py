"""Refining a model by few weights: which layers get a low-rank update, which are trained as a
whole, and which stay."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from medseg.errors import RecipeError, plural
from medseg.nn.lora import LowRank, add_low_rank, low_rank_layers
from medseg.recipe import AdaptSettings, Recipe

_UPDATED = (nn.Linear, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORMS = (
    _BATCH_NORM,
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


class StillBatchNorm(nn.Module):
    """What a batch norm becomes whose statistics stay, also while the network is trained.

    It is no batch norm to PyTorch, which would otherwise join its statistics over processes.
    """

    running_mean: Tensor
    running_var: Tensor
    weight: Tensor | None
    bias: Tensor | None
    eps: float

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


@dataclass(frozen=True, slots=True)
class Adaptation:
    """What of a network is trained.

    Attributes:
        layers: that have a low-rank update.
        trained: weights that are trained.
        total: weights of the network that ships, in which updates are merged.
    """

    layers: int
    trained: int
    total: int

    def __str__(self) -> str:
        share = f"{self.trained / self.total:.2%}"
        return (
            f"{self.trained:,} trained weights, {share} of {self.total:,}; "
            f"low-rank updates of {plural(self.layers, 'layer')}"
        )


def check_adaptation(recipe: Recipe) -> None:
    """Whether there is a model to adapt, where the recipe says how.

    Raises:
        RecipeError: there is none.
    """
    if recipe.adapt.enabled and not recipe.init:
        raise RecipeError(
            "adapt.lora.rank" if recipe.adapt.lora.rank else "adapt.whole",
            "there is no model to adapt",
            "Name one with --init, or leave out what begins with adapt.",
        )


def adapt(network: nn.Module, settings: AdaptSettings) -> None:
    """Make ``network`` train what ``settings`` say and nothing else, in place.

    Weights that several layers share get no update, because it would be that of one of them.

    Args:
        network: with the weights that stay.
        settings: enabled; ``new`` holds the names of the tensors that are to be trained as a whole.

    Raises:
        RecipeError: nothing fits an expression.
    """
    layers = {name: layer for name, layer in network.named_modules() if name}
    fresh = {name.rpartition(".")[0] for name in settings.new}
    whole: set[str] = set()
    for name in layers:
        inside = name.rpartition(".")[0] in whole
        if settings.whole and (inside or re.search(settings.whole, name)):
            whole.add(name)
    if settings.whole and not whole:
        raise _nothing_fits("adapt.whole", settings.whole, layers)
    shared = _shared(network)
    network.requires_grad_(False)
    updated = 0
    for name, layer in layers.items():
        if name in fresh or name in whole:
            for parameter in layer.parameters(recurse=False):
                parameter.requires_grad_(True)
        elif isinstance(layer, _NORMS):
            if settings.norms:
                layer.requires_grad_(True)
            else:
                _keep_still(layer)
        elif (
            settings.lora.rank
            and isinstance(layer, _UPDATED)
            and re.search(settings.lora.layers, name)
            and layer.weight not in shared
        ):
            _update(layer, settings)
            updated += 1
    for name, parameter in network.named_parameters():
        if name in settings.new:
            parameter.requires_grad_(True)
    if settings.lora.rank and not updated:
        raise _nothing_fits("adapt.lora.layers", settings.lora.layers, layers)


def adaptation_of(network: nn.Module) -> Adaptation:
    """What of an adapted network is trained."""
    updates = [update for _, _, update in low_rank_layers(network)]
    added = sum(parameter.numel() for update in updates for parameter in update.parameters())
    everything = list(network.parameters())
    return Adaptation(
        layers=len(updates),
        trained=sum(p.numel() for p in everything if p.requires_grad),
        total=sum(p.numel() for p in everything) - added,
    )


def _update(layer: nn.Module, settings: AdaptSettings) -> LowRank:
    assert isinstance(layer, _UPDATED)
    lora = settings.lora
    if layer.bias is not None:
        layer.bias.requires_grad_(settings.biases)
    return add_low_rank(
        layer,
        lora.rank,
        alpha=None if lora.alpha == "auto" else lora.alpha,
        kind=lora.kind,
        dora=lora.dora,
    )


def _keep_still(layer: nn.Module) -> None:
    if isinstance(layer, _BATCH_NORM) and layer.running_mean is not None:
        layer.__class__ = StillBatchNorm  # type: ignore[assignment]


def _shared(network: nn.Module) -> set[nn.Parameter]:
    """Parameters that stand at several places."""
    places = Counter(p for _, p in network.named_parameters(remove_duplicate=False))
    return {parameter for parameter, count in places.items() if count > 1}


def _nothing_fits(key: str, expression: str, layers: Collection[str]) -> RecipeError:
    outermost = ", ".join(name for name in layers if "." not in name)
    return RecipeError(
        f"{key}={expression}", "no layer of the network has such a name",
        f"Names begin with {outermost}",
    )  # fmt: skip
