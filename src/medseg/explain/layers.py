"""The layers of a network whose maps an explanation can be drawn from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import MedsegError, nearest
from medseg.explain.slice_view import SliceView


@dataclass(frozen=True, slots=True)
class Layer:
    """A module whose output is one map (B, channels, height, width), of a volume (B, channels,
    depth, height, width), made once in a forward pass.

    Attributes:
        name: as in ``network.named_modules()``, e.g. ``"stages.3"``.
        kind: the module's class.
        channels: of its map.
        height: in cells, of the map of the images asked for.
        width: in cells.
    """

    name: str
    kind: str
    channels: int
    height: int
    width: int


def find_layers(network: nn.Module, image: Tensor) -> list[Layer]:
    """The layers that can be explained, in the order in which the network ends them.

    Left out are the network itself, modules that it calls several times or that return anything
    but one map, and maps of a single cell, which show no place.

    Args:
        network: in evaluation mode.
        image: (1, C, H, W), as the network takes it, or as a view on a slice does.
    """
    outputs: dict[str, list[Any]] = {}
    modules = {name: module for name, module in _body(network).named_modules() if name}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # Shapes only: a list of all maps would hold the memory of a training step.
            shape = output.shape if isinstance(output, Tensor) else None
            outputs.setdefault(name, []).append(shape)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in modules.items()]
    try:
        with torch.no_grad():
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return [
        Layer(name, type(modules[name]).__name__, int(shapes[0][1]), *map(int, shapes[0][-2:]))
        for name, shapes in outputs.items()
        if len(shapes) == 1
        and shapes[0] is not None
        and len(shapes[0]) in (4, 5)
        and min(shapes[0][-2:]) > 1
    ]


def choose_layer(layers: list[Layer], name: str | None, side: int, channels: int) -> Layer:
    """The layer called ``name``, or by default the last stage before the image's full size.

    That is the last of the outermost modules whose map is about half as long as the image or
    shorter, and which has more channels than the logits, that is, is not the prediction itself.
    What was tried is in docs/explain.md: the encoder's end is too coarse for small objects, and
    sometimes empty; the last stage of all draws the predicted mask once more.

    Args:
        layers: as :func:`find_layers` lists them.
        name: of one of them, or None.
        side: the longer one of the images that the network takes, in pixels.
        channels: of the logits.

    Raises:
        MedsegError: no such layer, or none at all.
    """
    if name is not None:
        for layer in layers:
            if layer.name == name:
                return layer
        hint = nearest(name, (layer.name for layer in layers)) if layers else ""
        raise MedsegError(
            f"--layer {name}",
            "the network has no such layer with a map",
            hint if "Did you mean" in hint else "`--layer list` prints them",
        )
    if not layers:
        raise MedsegError(
            "--method",
            "the network has no layer with a map that a class activation could be drawn from",
            "Use --method integrated-gradients or occlusion",
        )
    features = [layer for layer in layers if layer.channels > channels] or layers
    # A pixel shuffle after it makes the last layer the prediction as well.
    *others, last = features
    factor = round(side / max(last.height, last.width))
    if others and last is layers[-1] and last.channels == channels * factor**2:
        features = others
    # Three quarters, because a network may have padded the image.
    halved = [layer for layer in features if 4 * max(layer.height, layer.width) < 3 * side]
    # The whole body of a network may be one module, which ends at full size.
    outer = _outside(halved, layers) or _outside(halved, halved) or _outside(features, layers)
    return (outer or features)[-1]


def _body(network: nn.Module) -> nn.Module:
    """What names of layers start at."""
    return network.network if isinstance(network, SliceView) else network


def _outside(some: list[Layer], layers: list[Layer]) -> list[Layer]:
    """Those of ``some`` that are in none of ``layers``."""
    names = {layer.name for layer in layers}
    return [layer for layer in some if not names & set(_parents(layer.name))]


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


@contextmanager
def output_of(network: nn.Module, layer: str) -> Iterator[list[Tensor]]:
    """The map that ``layer`` makes in each forward pass inside the block, with its history."""
    seen: list[Tensor] = []

    def keep(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        seen.append(output)
        # The next layer may work in place, which must not change what was kept.
        return output.clone()

    handle = _body(network).get_submodule(layer).register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
