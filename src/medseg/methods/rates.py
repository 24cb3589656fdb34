"""Learning rates that grow from the first layer of a network to the last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from medseg.recipe import OptimizerSettings


def parameter_groups(module: nn.Module, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """The trained parameters of ``module`` as groups of an optimizer.

    Biases and norms do not decay. Where the first layer learns at another rate than the last, each
    layer has groups of its own, whose key ``lr_scale`` multiplies the learning rate: it grows
    geometrically, layer by layer in the order in which the network registers them (Howard and Ruder
    2018, arXiv 1801.06146, and since then usual when pre-trained weights are refined).
    """
    if settings.first_layer_rate == 1:
        trained = [p for p in module.parameters() if p.requires_grad]
        return _by_decay(trained, settings.weight_decay)
    layers = list(_layers(module))
    last = max(1, len(layers) - 1)
    return [
        {**group, "lr_scale": settings.first_layer_rate ** (1 - place / last)}
        for place, layer in enumerate(layers)
        for group in _by_decay(layer, settings.weight_decay)
        if group["params"]
    ]


def _layers(module: nn.Module) -> Iterator[list[nn.Parameter]]:
    """The trained parameters that belong to each layer itself.

    Parameters that several layers share belong to the first.
    """
    seen: set[nn.Parameter] = set()
    for layer in module.modules():
        own = [p for p in layer.parameters(recurse=False) if p.requires_grad and p not in seen]
        seen.update(own)
        if own:
            yield own


def _by_decay(parameters: list[nn.Parameter], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
